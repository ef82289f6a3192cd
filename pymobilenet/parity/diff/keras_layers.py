"""What a trace says of a Keras layer: kind, parameters and settings; and Keras' order of axes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer
from pymobilenet.parity.diff.map_ops import same_padding
from pymobilenet.parity.diff.zero_padding import ZeroPadding

ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "hard_silu": "hardswish",
    "hard_swish": "hardswish",
    "silu": "silu",
    "swish": "silu",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hardsigmoid",
    "tanh": "tanh",
    "mish": "mish",
    "softplus": "softplus",
    "gelu": "gelu",
}
"""Keras' name -> the name of an activation function in a trace."""

KINDS = {
    "Add": "add",
    "Multiply": "multiply",
    "Concatenate": "concat",
    "Flatten": "flatten",
    "Reshape": "flatten",
    "Dropout": "dropout",
    "SpatialDropout2D": "dropout",
    "InputLayer": "identity",
    "Softmax": "softmax",
}
"""Class -> kind of layer, for layers without weights and settings."""


class Gradients:
    """A layer whose weights are replaced by their gradients, with the layer's axes.

    Args:
        layer: A layer of a model with the backend torch, after the backward pass.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._layer, name)
        if not hasattr(value, "trainable") or not hasattr(value, "value"):
            return value
        gradient = getattr(value.value, "grad", None)
        return np.zeros(value.shape, np.float32) if gradient is None else as_array(gradient)


@contextlib.contextmanager
def linear(layer: Any) -> Iterator[None]:
    """Take the activation off a layer with weights, which a trace has as a layer of its own.

    Args:
        layer: A Keras layer.
    """
    from keras import activations

    activation = getattr(layer, "activation", None)
    has_weights = activation is not None and bool(layer.weights)
    if has_weights:
        layer.activation = activations.linear
    try:
        yield
    finally:
        if has_weights:
            layer.activation = activation


def steps(
    name: str,
    layer: Any,
    values: list[np.ndarray],
    result: np.ndarray,
    padded: ZeroPadding,
    training: bool = False,
) -> list[Layer]:
    """Describe a call: the layer and, where it has weights and an activation, that as well.

    Args:
        name: Of the layer.
        layer: A Keras layer.
        values: What it got, with the channels last.
        result: What it returned.
        padded: The zeros that layers before it have added.
        training: Whether it ran in training mode.

    Returns:
        One layer, or two: the layer without its activation function, and that.
    """
    kind, params, settings = describe(type(layer).__name__, layer, values, training)
    inputs, settings = padded.absorb(kind, [channels_first(value) for value in values], settings)
    activation = getattr(layer, "activation", None)
    function = getattr(activation, "__name__", "linear")
    if not layer.weights or function == "linear":
        return [Layer(name, kind, tuple(inputs), channels_first(result), params, settings)]
    with linear(layer):
        before = channels_first(as_array(layer(values[0], training=False)))
    first = Layer(name, kind, tuple(inputs), before, params, settings)
    kind = function if function in ("softmax", "log_softmax") else "activation"
    settings = {"function": ACTIVATIONS.get(function, function)} if kind == "activation" else {}
    second = Layer(f"{name}:activation", kind, (before,), channels_first(result), {}, settings)
    return [first, second]


def describe(
    name: str, layer: Any, values: list[np.ndarray], training: bool = False
) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """Return kind, parameters and settings of a Keras layer.

    Args:
        name: Of its class.
        layer: The layer, or its `Gradients`.
        values: What it got, with the channels last.
        training: Whether it runs in training mode.
    """
    if name in ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose"):
        return _convolution(name, layer, values[0].shape[1:3])
    if name == "Dense":
        weight = as_array(layer.kernel).T
        return "dense", _present(weight=weight, bias=layer.bias), {}
    if name == "BatchNormalization":
        params = _present(
            weight=layer.gamma,
            bias=layer.beta,
            running_mean=layer.moving_mean,
            running_var=layer.moving_variance,
        )
        momentum = 1 - float(layer.momentum)
        norm_settings = {"eps": float(layer.epsilon), "training": training, "momentum": momentum}
        return "batch_norm", params, norm_settings
    if name in ("GlobalAveragePooling2D", "GlobalMaxPooling2D"):
        kind = "mean_pool" if "Average" in name else "max_pool"
        return kind, {}, {"output_size": (1, 1)}
    if name in ("MaxPooling2D", "AveragePooling2D"):
        settings = {
            "size": tuple(layer.pool_size),
            "stride": tuple(layer.strides),
            "padding": _padding(layer, layer.pool_size, values[0].shape[1:3], (1, 1)),
            "count_padding": False,
        }
        return "max_pool" if "Max" in name else "mean_pool", {}, settings
    if name == "ReLU":
        top = layer.max_value
        if layer.negative_slope or layer.threshold:
            return "activation", {}, {"function": "keras.ReLU"}
        function = "relu" if top is None else "relu6" if top == 6 else "hardtanh"
        limits = {"low": 0.0, "high": float(top)} if function == "hardtanh" else {}
        return "activation", {}, {"function": function, **limits}
    if name == "Activation":
        function = layer.activation.__name__
        if function == "linear":
            return "identity", {}, {}
        if function in ("softmax", "log_softmax"):
            return function, {}, {}
        return "activation", {}, {"function": ACTIVATIONS.get(function, function)}
    return KINDS.get(name, "other"), {}, {} if name in KINDS else {"function": name}


def _convolution(
    name: str, layer: Any, sizes: Sequence[int]
) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    kernel = as_array(layer.kernel)
    if name == "DepthwiseConv2D":  # (kH, kW, C, multiplier)
        weight = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])
        groups = kernel.shape[2]
    else:  # (kH, kW, I, O), transposed (kH, kW, O, I)
        weight, groups = kernel.transpose(3, 2, 0, 1), getattr(layer, "groups", 1)
    settings = {
        "stride": tuple(layer.strides),
        "padding": _padding(layer, layer.kernel_size, sizes, layer.dilation_rate),
        "dilation": tuple(layer.dilation_rate),
        "groups": groups,
    }
    kind = "conv_transpose" if name == "Conv2DTranspose" else "conv"
    return kind, _present(weight=np.ascontiguousarray(weight), bias=layer.bias), settings


def _padding(
    layer: Any, kernel: Sequence[int], sizes: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Return the pixels before and after each axis: none, or TensorFlow's SAME."""
    if layer.padding != "same":
        return tuple((0, 0) for _ in kernel)
    return same_padding(sizes, kernel, layer.strides, dilation)


def _present(**params: Any) -> dict[str, np.ndarray]:
    return {name: as_array(value) for name, value in params.items() if value is not None}


def as_array(value: Any) -> np.ndarray:
    """Return a copy of a tensor of any Keras backend.

    Args:
        value: The tensor, a variable, or an array.
    """
    from keras import ops

    return np.array(value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value))


def channels_last(value: np.ndarray) -> np.ndarray:
    """Return (N, C, H, W) as (N, H, W, C), and vectors as they are.

    Args:
        value: With the batch as first axis.
    """
    return np.ascontiguousarray(np.moveaxis(value, 1, -1)) if value.ndim > 2 else value


def channels_first(value: np.ndarray) -> np.ndarray:
    """Return (N, H, W, C) as (N, C, H, W), and vectors as they are.

    Args:
        value: With the batch as first axis.
    """
    return np.ascontiguousarray(np.moveaxis(value, -1, 1)) if value.ndim > 2 else value
