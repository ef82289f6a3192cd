"""A Keras model, recorded while it runs; images are transposed to Keras' channels-last axes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer, Participant, Trace
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.ops import same_padding
from pymobilenet.parity.diff.zero_padding import ZeroPadding, padded_inputs

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


class KerasParticipant(Participant):
    """A Keras model of any nesting with one input and one output.

    It computes in float32: Keras computes norms in float32 whatever the policy.

    Args:
        model: A ``keras.Model``.
        name: How reports call it.
    """

    framework = "Keras"
    dtypes = ("float32",)

    def __init__(self, model: Any, name: str) -> None:
        self.name = name
        self._model = model
        self._layers: dict[str, Any] = {}

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Run the model in inference mode; see `Participant.trace`.

        Raises:
            ConfigError: The dtype is not float32.
        """
        if dtype not in self.dtypes or draw is not None:
            raise ConfigError(f"{self.name}: dtype must be float32. Received: {dtype}, draw {draw}")
        calls: list[tuple[Any, list[np.ndarray], np.ndarray]] = []
        with _recording(calls):
            output = _array(self._model(_channels_last(inputs), training=False))
        names: Counter[str] = Counter()
        layers: list[Layer] = []
        padded = ZeroPadding()
        for layer, values, result in calls:
            if type(layer).__name__ == "ZeroPadding2D":
                maps = _channels_first(values[0]), _channels_first(result)
                padded.add(*maps, tuple(map(tuple, layer.padding)))
                continue
            name = str(layer.name)
            names[name] += 1
            name = name if names[name] == 1 else f"{name}#{names[name]}"
            self._layers[name] = layer
            layers += _steps(name, layer, values, result, padded)
        return Trace(tuple(layers), _channels_first(output))

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run one layer; see `Participant.run_layer`."""
        name, _, part = layer.name.partition(":")
        keras_layer = self._layers[name]
        values = [_channels_last(value) for value in padded_inputs(layer, inputs)]
        if part == "activation":
            return _channels_first(_array(keras_layer.activation(values[0])))
        with _linear(keras_layer):
            argument = values[0] if len(values) == 1 else values
            return _channels_first(_array(keras_layer(argument, training=False)))

    def versions(self) -> dict[str, str]:
        """Return the versions of Keras and the name of its backend."""
        import keras

        return {"keras": keras.__version__, "backend": keras.backend.backend()}


@contextlib.contextmanager
def _recording(calls: list[tuple[Any, list[np.ndarray], np.ndarray]]) -> Iterator[None]:
    """Record every call of a layer that has no layers inside."""
    from keras.layers import Layer as KerasLayer

    call: Callable[..., Any] = KerasLayer.__call__

    def record(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = call(self, *args, **kwargs)
        if not list(self._flatten_layers(include_self=False)):
            values = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
            calls.append((self, [_array(value) for value in values], _array(result)))
        return result

    KerasLayer.__call__ = record
    try:
        yield
    finally:
        KerasLayer.__call__ = call


@contextlib.contextmanager
def _linear(layer: Any) -> Iterator[None]:
    """Take the activation off a layer with weights, which a trace has as a layer of its own."""
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


def _steps(
    name: str, layer: Any, values: list[np.ndarray], result: np.ndarray, padded: ZeroPadding
) -> list[Layer]:
    """Describe a call: the layer and, where it has weights and an activation, that as well."""
    kind, params, settings = _describe(layer, values)
    inputs, settings = padded.absorb(kind, [_channels_first(value) for value in values], settings)
    activation = getattr(layer, "activation", None)
    function = getattr(activation, "__name__", "linear")
    if not layer.weights or function == "linear":
        return [Layer(name, kind, tuple(inputs), _channels_first(result), params, settings)]
    with _linear(layer):
        before = _channels_first(_array(layer(values[0], training=False)))
    first = Layer(name, kind, tuple(inputs), before, params, settings)
    kind = function if function in ("softmax", "log_softmax") else "activation"
    settings = {"function": ACTIVATIONS.get(function, function)} if kind == "activation" else {}
    second = Layer(f"{name}:activation", kind, (before,), _channels_first(result), {}, settings)
    return [first, second]


def _describe(
    layer: Any, values: list[np.ndarray]
) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """Return kind, parameters and settings of a Keras layer."""
    name = type(layer).__name__
    if name in ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose"):
        return _convolution(name, layer, values[0].shape[1:3])
    if name == "Dense":
        weight = _array(layer.kernel).T
        return "dense", _present(weight=weight, bias=layer.bias), {}
    if name == "BatchNormalization":
        params = _present(
            weight=layer.gamma,
            bias=layer.beta,
            running_mean=layer.moving_mean,
            running_var=layer.moving_variance,
        )
        return "batch_norm", params, {"eps": float(layer.epsilon), "training": False}
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
    kernel = _array(layer.kernel)
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
    return {name: _array(value) for name, value in params.items() if value is not None}


def _array(value: Any) -> np.ndarray:
    """Return a copy of a tensor of any Keras backend."""
    from keras import ops

    return np.array(value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value))


def _channels_last(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(value, 1, -1)) if value.ndim > 2 else value


def _channels_first(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(value, -1, 1)) if value.ndim > 2 else value
