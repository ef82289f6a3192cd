"""Why a layer differs: the variant of it that gives the other's output is the explanation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pymobilenet.backends.trace import Layer
from pymobilenet.parity.diff.difference import Difference
from pymobilenet.parity.diff.differences import DIFFERENCES
from pymobilenet.parity.diff.ops import OPERATIONS, compute
from pymobilenet.parity.diff.variants import VARIANTS
from pymobilenet.parity.tolerances import MAX_RATIO
from pymobilenet.weights.perturb import distance

MIN_IMPROVEMENT = 10.0
"""How many times smaller than without a variant the error must be with it. In float32, a variant
that changes almost nothing is within the floor, too."""


MAX_REMAINDER = 1e-3
"""What fraction of the error a variant may leave that explains an output only nearly."""


@dataclass(frozen=True)
class Diagnosis:
    """The known difference that explains a layer's output.

    Attributes:
        difference: The entry of `DIFFERENCES`.
        what: What is different, in words.
        error: The distance between the variant and the other model's output.
    """

    difference: Difference
    what: str
    error: float


def known(name: str, what: str) -> Diagnosis:
    """Return the diagnosis that a difference was found by other means than an output.

    Args:
        name: Of an entry of `DIFFERENCES`.
        what: What is different, in words.
    """
    return Diagnosis(next(each for each in DIFFERENCES if each.name == name), what, 0.0)


def diagnose(layer: Layer, other: Layer, output: np.ndarray, floor: float) -> Diagnosis | None:
    """Find the known difference that explains what the other model's layer computed.

    Args:
        layer: A layer of the first model, with its inputs.
        other: Its counterpart.
        output: What the counterpart computes from the first model's inputs.
        floor: The noise floor of the layer.

    Returns:
        The first difference with a variant that is as near to `output` as rounding lets it be. If
        there is none, one that comes nearly there: a constant such as the mean of the images may be
        rounded. None if no variant does.
    """
    fits = layer.output.size == output.size
    before = distance(output.reshape(layer.output.shape), layer.output) if fits else np.inf
    exact = min(MAX_RATIO * floor, before / MIN_IMPROVEMENT)
    for is_general in (False, True):
        diagnoses = [
            Diagnosis(difference, what, _error(variant, output))
            for difference in DIFFERENCES
            if difference.is_general == is_general
            and difference.name in VARIANTS
            and layer.kind in difference.kinds
            and layer.kind in OPERATIONS
            for what, variant in VARIANTS[difference.name](layer, other)
        ]
        best = min((each.error for each in diagnoses), default=np.inf)
        if best <= exact:
            return next(each for each in diagnoses if each.error <= max(floor, 2 * best))
        if best <= min(before, 1.0) * MAX_REMAINDER:
            return next(each for each in diagnoses if each.error <= 2 * best)
    return None


def _error(variant: Layer, output: np.ndarray) -> float:
    """Return how far a variant is from `output`; infinity if it cannot be computed."""
    try:
        computed = compute(variant)
    except (ValueError, KeyError, IndexError):  # a variant that does not fit these shapes
        return float("inf")
    if computed.size != output.size:
        return float("inf")
    return distance(np.reshape(output, computed.shape), computed)


def diagnose_output(first: np.ndarray, second: np.ndarray, floor: float) -> str | None:
    """Find what was done to a model's output: a softmax, another order of classes, another scale.

    Args:
        first: (N, classes) of the first model.
        second: Of the other.
        floor: The noise floor of the output.

    Returns:
        What the second does differently, in words, or None if it is nothing of the kind.
    """
    from pymobilenet.parity.diff.ops import log_softmax, softmax

    if first.shape != second.shape or first.ndim != 2:
        return None
    forms = {
        "the second returns probabilities (softmax), the first logits": softmax(first),
        "the second returns log-probabilities, the first logits": log_softmax(first),
        "the second has the classes in reverse order": first[:, ::-1],
    }
    for what, value in forms.items():
        if distance(second, value) <= MAX_RATIO * floor:
            return what
    for what, value in (
        ("the first returns probabilities (softmax), the second logits", softmax(second)),
        ("the first returns log-probabilities, the second logits", log_softmax(second)),
    ):
        if distance(first, value) <= MAX_RATIO * floor:
            return what
    order = [int(np.argmin(np.abs(first - column[:, None]).max(0))) for column in second.T]
    if sorted(order) == list(range(first.shape[1])) and distance(second, first[:, order]) <= (
        MAX_RATIO * floor
    ):
        return f"the second has the classes in another order: {order}"
    return None
