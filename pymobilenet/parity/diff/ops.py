"""Layers in float64 NumPy: what a layer of a trace computes, also with other settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer
from pymobilenet.parity.diff.map_ops import max_pool, mean_pool, pad, resize, windows


def compute(layer: Layer) -> np.ndarray:
    """Compute a layer's output from its inputs, parameters and settings.

    Args:
        layer: Of a kind in `OPERATIONS`.

    Returns:
        The output in float64.

    Raises:
        ValueError: The shapes of inputs and parameters do not fit the settings.
        KeyError: The kind or the activation function is not known here.
    """
    inputs = [np.asarray(value, np.float64) for value in layer.inputs]
    params = {name: np.asarray(value, np.float64) for name, value in layer.params.items()}
    return OPERATIONS[layer.kind](inputs, params, layer.settings)


Operation = Callable[[list[np.ndarray], Mapping[str, np.ndarray], Mapping[str, Any]], np.ndarray]


def _conv(
    inputs: list[np.ndarray], params: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> np.ndarray:
    weight = params["weight"]
    kernel, groups = weight.shape[2:], settings["groups"]
    value = pad(inputs[0], settings["padding"], settings.get("padding_mode", "zeros"))
    view = windows(value, kernel, settings["stride"], settings["dilation"])
    count, channels = view.shape[:2]
    positions = view.shape[2 : 2 + len(kernel)]
    area = math.prod(kernel)
    view = view.reshape(count, groups, channels // groups, math.prod(positions), area)
    columns = view.transpose(0, 1, 3, 2, 4).reshape(count, groups, math.prod(positions), -1)
    matrix = weight.reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1)
    output = (columns @ matrix).transpose(0, 1, 3, 2).reshape(count, weight.shape[0], *positions)
    return _with_bias(output, params)


def _conv_transpose(
    inputs: list[np.ndarray], params: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> np.ndarray:
    value, weight, groups = inputs[0], params["weight"], settings["groups"]
    kernel = weight.shape[2:]
    spread = np.zeros(
        (
            *value.shape[:2],
            *((n - 1) * s + 1 for n, s in zip(value.shape[2:], settings["stride"], strict=True)),
        )
    )
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in settings["stride"]))] = value
    extra = settings.get("output_padding", (0,) * len(kernel))
    padding = [
        (d * (k - 1) - low, d * (k - 1) - high + e)
        for k, d, (low, high), e in zip(
            kernel, settings["dilation"], settings["padding"], extra, strict=True
        )
    ]
    flipped = np.flip(weight, tuple(range(2, weight.ndim)))
    split = flipped.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]).swapaxes(1, 2)
    swapped = {**params, "weight": split.reshape(-1, weight.shape[0] // groups, *kernel)}
    ones = (1,) * len(kernel)
    return _conv(
        [spread],
        swapped,
        {"stride": ones, "padding": padding, "dilation": settings["dilation"], "groups": groups},
    )


def _with_bias(output: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
    return output + _by_channel(params["bias"], output) if "bias" in params else output


def _by_channel(vector: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Reshape (C,) so that it broadcasts against (N, C, ...)."""
    return vector.reshape(1, -1, *(1,) * (value.ndim - 2))


def _dense(
    inputs: list[np.ndarray], params: Mapping[str, np.ndarray], _settings: Mapping[str, Any]
) -> np.ndarray:
    value, weight = inputs[0], params["weight"]
    if value.shape[-1] != weight.shape[1]:  # maps of one pixel
        value = value.reshape(len(value), -1)
    output = value @ weight.T
    return output + params["bias"] if "bias" in params else output


def _scaled(value: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
    if "weight" in params:
        value = value * _by_channel(params["weight"], value)
    return _with_bias(value, params)


def _batch_norm(
    inputs: list[np.ndarray], params: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> np.ndarray:
    value = inputs[0]
    if settings["training"]:
        axes = (0, *range(2, value.ndim))
        mean, variance = value.mean(axes), value.var(axes)
    else:
        mean, variance = params["running_mean"], params["running_var"]
    centred = value - _by_channel(mean, value)
    return _scaled(centred / np.sqrt(_by_channel(variance, value) + settings["eps"]), params)


def _instance_norm(
    inputs: list[np.ndarray], params: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> np.ndarray:
    value = inputs[0]
    axes = tuple(range(2, value.ndim))
    centred = value - value.mean(axes, keepdims=True)
    return _scaled(centred / np.sqrt(value.var(axes, keepdims=True) + settings["eps"]), params)


def _group_norm(
    inputs: list[np.ndarray], params: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> np.ndarray:
    value = inputs[0]
    grouped = value.reshape(len(value), settings["groups"], -1)
    centred = grouped - grouped.mean(-1, keepdims=True)
    scale = np.sqrt(grouped.var(-1, keepdims=True) + settings["eps"])
    return _scaled((centred / scale).reshape(value.shape), params)


def _layer_norm(
    inputs: list[np.ndarray], params: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> np.ndarray:
    value = inputs[0]
    axes = tuple(range(-settings["axes"], 0))
    variance = value.var(axes, keepdims=True, ddof=settings.get("ddof", 0))
    eps = settings["eps"] ** 2 if settings.get("eps_squared") else settings["eps"]
    scale = np.sqrt(variance) + eps if settings.get("eps_outside") else np.sqrt(variance + eps)
    output = (value - value.mean(axes, keepdims=True)) / scale
    if "weight" in params:
        output = output * params["weight"]
    return output + params["bias"] if "bias" in params else output


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


ACTIVATIONS: dict[str, Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]] = {
    "identity": lambda x, _: x,
    "relu": lambda x, _: np.maximum(x, 0),
    "relu6": lambda x, _: np.clip(x, 0, 6),
    "hardtanh": lambda x, s: np.clip(x, s.get("low", -1), s.get("high", 1)),
    "leaky_relu": lambda x, s: np.where(x > 0, x, s.get("slope", 0.01) * x),
    "elu": lambda x, s: np.where(x > 0, x, s.get("slope", 1.0) * np.expm1(np.minimum(x, 0))),
    "sigmoid": lambda x, _: _sigmoid(x),
    "hardsigmoid": lambda x, _: np.clip(x + 3, 0, 6) / 6,
    "tanh": lambda x, _: np.tanh(x),
    "silu": lambda x, _: x * _sigmoid(x),
    "hardswish": lambda x, _: x * np.clip(x + 3, 0, 6) / 6,
    "softplus": lambda x, _: np.logaddexp(x, 0),
    "mish": lambda x, _: x * np.tanh(np.logaddexp(x, 0)),
    "gelu": lambda x, _: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x, _: (
        0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
}
"""Name -> function of values and settings."""


def softmax(value: np.ndarray, axis: int = 1) -> np.ndarray:
    """Return the softmax.

    Args:
        value: An array of any shape.
        axis: Along which exponentials are summed.
    """
    exponentials = np.exp(value - value.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)


def log_softmax(value: np.ndarray, axis: int = 1) -> np.ndarray:
    """Return the logarithm of the softmax.

    Args:
        value: An array of any shape.
        axis: Along which exponentials are summed.
    """
    shifted = value - value.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


OPERATIONS: dict[str, Operation] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "max_pool": max_pool,
    "mean_pool": mean_pool,
    "resize": resize,
    "activation": lambda inputs, _, settings: ACTIVATIONS[settings["function"]](
        inputs[0], settings
    ),
    "softmax": lambda inputs, _, settings: softmax(inputs[0], settings.get("axis", 1)),
    "log_softmax": lambda inputs, _, settings: log_softmax(inputs[0], settings.get("axis", 1)),
    "flatten": lambda inputs, _, _settings: inputs[0].reshape(len(inputs[0]), -1),
    "dropout": lambda inputs, _, _settings: inputs[0],
    "identity": lambda inputs, _, _settings: inputs[0],
    "add": lambda inputs, _, _settings: inputs[0] + inputs[1],
    "multiply": lambda inputs, _, _settings: inputs[0] * inputs[1],
    "concat": lambda inputs, _, settings: np.concatenate(inputs, settings.get("axis", 1)),
}
"""Kind of layer -> its computation."""
