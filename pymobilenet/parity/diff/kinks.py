"""Values that rounding may put on the other side of a kink, where the derivative jumps.

Behind such a value two correct programs differentiate different functions: a single ReLU on the
other side changes the gradients of all layers before it far more than rounding does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymobilenet.backends.trace import Layer, Trace
from pymobilenet.parity.diff.map_ops import pool_windows

KINKS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "relu6": (0.0, 6.0),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "hardswish": (-3.0, 3.0),
    "hardsigmoid": (-3.0, 3.0),
}
"""Activation function -> where its derivative jumps; see `_kinks` for ``hardtanh``."""

SPREAD = 10.0
"""How many times the error of a tensor, spread evenly over its values, a single value may be off.
It decides no verdict: in a tensor of a million values with normal errors, the largest is at 5."""


def layers_near_kinks(trace: Trace, errors: Mapping[str, float]) -> list[str]:
    """Return the layers with a value that is as near to a kink as rounding moves it.

    Args:
        trace: Of the first model, in training mode.
        errors: Name of a layer -> relative error of the other model's output. A layer without
            counterpart has the error of the layer before it.

    Returns:
        Names, in order of execution.
    """
    found = []
    error = float(np.finfo(trace.output.dtype).eps)
    for layer in trace.layers:
        if _is_near(layer, error):
            found.append(layer.name)
        error = max(error, errors.get(layer.name, 0.0))
    return found


def nearly_equal_maxima(layer: Layer) -> int:
    """Return how many windows of a max pool have another value that is about as large (≈).

    Args:
        layer: Of the kind ``max_pool``.

    Returns:
        The number of windows whose second value is within the square root of the dtype's precision
        of the largest, but not equal: Julia's ``≈``.
    """
    if "output_size" in layer.settings:
        return 0
    value = np.asarray(layer.inputs[0], np.float64)
    first, second = _two_largest(value, layer)
    tolerance = float(np.sqrt(np.finfo(layer.inputs[0].dtype).eps)) * np.abs(first)
    return int(np.sum((first > second) & (first - second <= tolerance)))


def _two_largest(value: np.ndarray, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    windows = pool_windows(value, layer.settings)
    if windows.shape[-1] < 2:
        return windows[..., 0], np.full(windows.shape[:-1], -np.inf)
    largest = np.partition(windows, -2, -1)[..., -2:]
    return largest[..., 1], largest[..., 0]


def _is_near(layer: Layer, error: float) -> bool:
    if layer.kind not in ("activation", "max_pool"):
        return False
    value = np.asarray(layer.inputs[0], np.float64)
    margin = SPREAD * error * float(np.sqrt(np.mean(value**2)))
    return any(np.any((d > 0) & (d <= margin)) for d in _distances(layer, value))


def _distances(layer: Layer, value: np.ndarray) -> Sequence[np.ndarray]:
    """Return how far values are from each kink; 0 for those that are there in both models."""
    if layer.kind == "activation":
        return [np.abs(value - kink) for kink in _kinks(layer)]
    if "output_size" in layer.settings:
        return []
    first, second = _two_largest(value, layer)
    return [np.where(np.isfinite(second), first - second, 0.0)]


def _kinks(layer: Layer) -> tuple[float, ...]:
    if layer.settings["function"] == "hardtanh":
        return layer.settings.get("low", -1.0), layer.settings.get("high", 1.0)
    return KINKS.get(layer.settings["function"], ())
