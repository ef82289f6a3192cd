"""Pair the layers of two traces: by kind, shapes and order of execution.

A sequence alignment (Needleman and Wunsch, 1970) finds the pairs. A layer that only one side has
stays alone and can so be named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends.trace import TRANSPARENT, Layer, Trace

SAME_KIND = 4.0
SAME_SHAPE = 2.0
OTHER_KIND = -6.0
GAP = -1.0
"""Scores of an alignment. Two gaps are better than a pair of two kinds, and a pair of one kind with
other shapes is better than two gaps."""

INTERCHANGEABLE = (
    {"activation"},
    {"max_pool", "mean_pool"},
    {"batch_norm", "instance_norm", "group_norm", "layer_norm"},
    {"softmax", "log_softmax"},
)
"""Kinds that one side may have in the place of another by mistake."""


@dataclass(frozen=True)
class Pair:
    """Two layers that correspond, or one that the other side does not have."""

    first: Layer | None
    second: Layer | None

    @property
    def is_complete(self) -> bool:
        """Whether both sides have the layer."""
        return self.first is not None and self.second is not None


def align(first: Sequence[Layer], second: Sequence[Layer]) -> list[Pair]:
    """Pair the layers of two traces in order.

    Args:
        first: Layers in order of execution.
        second: Those of the other model.

    Returns:
        A pair for each layer of both, in order of execution. Transparent layers that only one side
        has are left out.
    """
    rows, columns = len(first), len(second)
    scores = np.zeros((rows + 1, columns + 1))
    scores[:, 0], scores[0, :] = GAP * np.arange(rows + 1), GAP * np.arange(columns + 1)
    match = np.array([[_score(a, b) for b in second] for a in first]).reshape(rows, columns)
    for i in range(rows):
        for j in range(columns):
            scores[i + 1, j + 1] = max(
                scores[i, j] + match[i, j], scores[i, j + 1] + GAP, scores[i + 1, j] + GAP
            )
    pairs: list[Pair] = []
    i, j = rows, columns
    while i or j:
        if i and j and scores[i, j] == scores[i - 1, j - 1] + match[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append(Pair(first[i], second[j]))
        elif i and scores[i, j] == scores[i - 1, j] + GAP:
            i -= 1
            pairs.append(Pair(first[i], None))
        else:
            j -= 1
            pairs.append(Pair(None, second[j]))
    return [pair for pair in reversed(pairs) if pair.is_complete or not _is_transparent(pair)]


def pair_by_names(first: Trace, second: Trace, names: dict[str, str]) -> list[Pair]:
    """Pair layers by a map of names that the user gives; all others stay alone.

    Args:
        first: The first model's trace.
        second: The other's.
        names: Name in the first -> name in the second.

    Returns:
        A pair for each layer of the first model, then the other layers of the second.
    """
    others = {layer.name: layer for layer in second.layers}
    pairs = [Pair(layer, others.get(names.get(layer.name, ""))) for layer in first.layers]
    used = set(names.values())
    rest = [Pair(None, layer) for layer in second.layers if layer.name not in used]
    return [pair for pair in [*pairs, *rest] if pair.is_complete or not _is_transparent(pair)]


def fold_norms(trace: Trace, other: Trace) -> Trace:
    """Return a trace in which each batch norm behind a convolution is part of that convolution.

    For a comparison with a model whose norms are folded into the weights, such as an ONNX file. A
    convolution whose own weights the other model has stays as it is: there the norm is missing.

    Args:
        trace: Of one run.
        other: Of the other model, which has no batch norms.
    """
    layers: list[Layer] = []
    weights = [layer.params["weight"] for layer in other.layers if layer.kind == "conv"]
    for layer in trace.layers:
        conv = layers[-1] if layers else None
        if (
            conv is not None
            and _can_be_folded(conv, layer)
            and not any(np.array_equal(conv.params["weight"], weight) for weight in weights)
        ):
            layers[-1] = _folded(conv, layer)
        else:
            layers.append(layer)
    return Trace(tuple(layers), trace.output)


def _can_be_folded(conv: Layer, norm: Layer) -> bool:
    return (
        (conv.kind, norm.kind) == ("conv", "batch_norm")
        and not norm.settings["training"]
        and np.array_equal(norm.inputs[0], conv.output)
    )


def _folded(conv: Layer, norm: Layer) -> Layer:
    dtype = conv.params["weight"].dtype
    channels = len(conv.params["weight"])
    params = {name: np.asarray(value, np.float64) for name, value in norm.params.items()}
    scale = params.get("weight", np.ones(channels)) / np.sqrt(
        params["running_var"] + norm.settings["eps"]
    )
    bias = conv.params.get("bias", np.zeros(channels))
    shift = params.get("bias", np.zeros(channels)) + (bias - params["running_mean"]) * scale
    weight = conv.params["weight"] * scale.reshape(-1, *(1,) * (conv.params["weight"].ndim - 1))
    folded = {"weight": weight.astype(dtype), "bias": shift.astype(dtype)}
    return replace(conv, output=norm.output, params=folded)


def has_norms(trace: Trace) -> bool:
    """Return whether a trace has any batch norm."""
    return any(layer.kind == "batch_norm" for layer in trace.layers)


def _is_transparent(pair: Pair) -> bool:
    layer = pair.first or pair.second
    return layer is not None and layer.kind in TRANSPARENT


def _score(a: Layer, b: Layer) -> float:
    if a.kind != b.kind and not any({a.kind, b.kind} <= kinds for kinds in INTERCHANGEABLE):
        return OTHER_KIND
    score = SAME_KIND if a.kind == b.kind else 0.0
    if a.settings.get("function") != b.settings.get("function"):
        score -= 1.0
    same_output = _squeezed(a.output) == _squeezed(b.output)
    weights = a.params.get("weight"), b.params.get("weight")
    same_weight = all(w is None for w in weights) or (
        weights[0] is not None and weights[1] is not None and weights[0].size == weights[1].size
    )
    return score + SAME_SHAPE * (same_output + same_weight) / 2 - (0.0 if same_output else 1.0)


def _squeezed(value: np.ndarray) -> tuple[int, ...]:
    """Return the shape without axes of length one behind the second axis."""
    return (*value.shape[:2], *(size for size in value.shape[2:] if size > 1))
