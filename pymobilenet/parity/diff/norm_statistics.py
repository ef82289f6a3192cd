"""How a batch norm updates its running statistics: with which momentum, with which variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pymobilenet.backends.trace import Layer
from pymobilenet.weights.perturb import distance

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
"""Relative distance at which an update rule is recognised."""

SIGNIFICANT = 1e-3
"""Relative difference of two momenta that is one: a momentum is a number of few digits, and may
have been rounded to float32 or bfloat16."""


CLEAR = 10.0
"""How many times nearer one of the two variances must be than the other: in float32, a batch of
many values with a small weight follows both."""


@dataclass(frozen=True)
class UpdateRule:
    """How running statistics change in a step: ``old + momentum * (batch - old)``.

    Attributes:
        momentum: The weight of the batch, as in torch and Flux; Keras writes one minus it.
        is_biased: Whether the variance of the batch is divided by the number of its values, and not
            by one less; None if the variances follow neither, or cannot tell.
    """

    momentum: float
    is_biased: bool | None


def identify_rule(layer: Layer, after: Mapping[str, np.ndarray]) -> UpdateRule | None:
    """Return by which rule a batch norm has updated its statistics, or None if by none.

    Args:
        layer: The norm in training mode, with its inputs and with its statistics before.
        after: ``running_mean`` and ``running_var`` (C,) after the step.
    """
    if layer.kind != "batch_norm" or {"running_mean", "running_var"} - set(layer.params):
        return None
    value = np.asarray(layer.inputs[0], np.float64)
    axes = (0, *range(2, value.ndim))
    old = np.asarray(layer.params["running_mean"], np.float64)
    new = np.asarray(after["running_mean"], np.float64)
    towards = value.mean(axes) - old
    if not np.any(towards):
        return None
    momentum = float(towards @ (new - old) / (towards @ towards))
    tolerance = TOLERANCES[layer.inputs[0].dtype.name]
    if distance(new, old + momentum * towards) > tolerance:
        return None
    old = np.asarray(layer.params["running_var"], np.float64)
    count = value.size // value.shape[1]
    errors = {}
    for is_biased in (True, False):
        variance = value.var(axes) * (1 if is_biased else count / max(count - 1, 1))
        expected = old + momentum * (variance - old)
        errors[is_biased] = distance(after["running_var"], expected)
    nearest = min(errors, key=lambda is_biased: errors[is_biased])
    is_clear = errors[nearest] * CLEAR <= errors[not nearest] and errors[nearest] <= tolerance
    return UpdateRule(momentum, nearest if is_clear else None)


def rule_departures(first: UpdateRule, second: UpdateRule) -> list[tuple[str, str]]:
    """Return how two rules differ.

    Args:
        first: The first model's.
        second: The other's.

    Returns:
        Name of a known difference, and what the second does.
    """
    found = []
    if abs(first.momentum - second.momentum) > SIGNIFICANT * max(first.momentum, second.momentum):
        is_complement = abs(first.momentum + second.momentum - 1) <= SIGNIFICANT
        words = f"the batch has the weight {second.momentum:.4g} instead of {first.momentum:.4g}"
        found.append(("momentum of a norm", words + ", its complement" * is_complement))
    if None not in (first.is_biased, second.is_biased) and first.is_biased != second.is_biased:
        own, other = ("unbiased", "biased") if second.is_biased else ("biased", "unbiased")
        what = f"the running variance is of the {other} variance of the batch, not the {own} one"
        found.append(("biased running variance", what))
    return found
