"""Carry weights from one model to another by the pairs of their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymobilenet.backends.trace import WEIGHTED, Layer, Participant
from pymobilenet.errors import WeightsError
from pymobilenet.parity.diff.pairing import Pair, align, pair_by_names


def port_weights(
    first: Participant,
    second: Participant,
    inputs: np.ndarray,
    names: Mapping[str, str] | None = None,
) -> int:
    """Copy the weights of the first model into the second: kernels flipped, axes exchanged.

    Args:
        first: Where the weights come from.
        second: Whose weights are replaced.
        inputs: (N, ...); both models run once on them, so that their layers can be paired.
        names: Name of a layer in the first -> name in the second; by default layers are paired by
            kind, shapes and order.

    Returns:
        The number of layers that were copied.

    Raises:
        WeightsError: A layer with weights has no counterpart, or one of other shapes. No weight is
            replaced then.
    """
    traces = [p.trace(inputs.astype(p.dtypes[0]), p.dtypes[0]) for p in (first, second)]
    if names is None:
        pairs = align(traces[0].layers, traces[1].layers)
    else:
        pairs = pair_by_names(traces[0], traces[1], dict(names))
    weighted = [pair for pair in pairs if _has_weights(pair)]
    problems = [problem for pair in weighted for problem in _problems(pair)]
    if problems:
        raise WeightsError(
            f"{first.name} and {second.name} must have the same layers with weights. Received: "
            + "; ".join(problems)
        )
    for pair in weighted:
        second.load_params(*_params(pair))
    return len(weighted)


def _has_weights(pair: Pair) -> bool:
    return any(layer is not None and layer.params for layer in (pair.first, pair.second))


def _problems(pair: Pair) -> Sequence[str]:
    first, second = pair.first, pair.second
    if first is None or second is None:
        layer, other = (first, "second") if first is not None else (second, "first")
        return [f"{layer}, which the {other} model does not have"]
    if first.kind != second.kind or first.kind not in WEIGHTED:
        return [f"{first} and {second}"]
    problems = []
    for name, array in second.params.items():
        own = first.params.get(name)
        if own is None and name not in ("bias", "weight"):
            problems.append(f"{second}: {name}, which {first} does not have")
        elif own is not None and own.shape != array.shape:
            problems.append(f"{first}: {name} {own.shape}, and {second}: {array.shape}")
    missing = [n for n in first.params if n not in second.params and np.any(first.params[n])]
    return [*problems, *(f"{first}: {name}, which {second} does not have" for name in missing)]


def _params(pair: Pair) -> tuple[Layer, dict[str, np.ndarray]]:
    """Return the second layer and its new parameters.

    Where the first has no bias or scale, they are those that change nothing.
    """
    first, second = pair.first, pair.second
    assert first is not None
    assert second is not None
    neutral = {"weight": np.ones_like, "bias": np.zeros_like}
    return second, {
        name: np.array(
            first.params[name] if name in first.params else neutral[name](array),
            array.dtype,
            order="C",
        )
        for name, array in second.params.items()
    }
