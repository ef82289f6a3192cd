"""A Keras model, recorded while it runs; images are transposed to Keras' channels-last axes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer, Participant, Trace, TrainingStep
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.keras_layers import (
    Gradients,
    as_array,
    channels_first,
    channels_last,
    describe,
    linear,
    steps,
)
from pymobilenet.parity.diff.zero_padding import ZeroPadding, padded_inputs

DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout")
"""Layers that drop values at random; each framework draws other ones."""

Call = tuple[Any, list[np.ndarray], np.ndarray]
"""A layer, what it got and what it returned, with the channels last."""


class KerasParticipant(Participant):
    """A Keras model of any nesting with one input and one output.

    It computes in float32: Keras computes norms in float32 whatever the policy. Gradients are
    computed with Keras' backend torch.

    Args:
        model: A ``keras.Model``.
        name: How reports call it.
    """

    framework = "Keras"
    dtypes = ("float32",)

    def __init__(self, model: Any, name: str) -> None:
        import keras

        self.name = name
        self.has_gradients = keras.backend.backend() == "torch"
        self._model = model
        self._layers: dict[str, Any] = {}

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Run the model in inference mode; see `Participant.trace`.

        Raises:
            ConfigError: The dtype is not float32.
        """
        self._check(dtype, draw)
        calls: list[Call] = []
        with _recording(calls):
            output = as_array(self._model(channels_last(inputs), training=False))
        return Trace(tuple(self._described(calls, training=False)), channels_first(output))

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run one layer; see `Participant.run_layer`."""
        name, _, part = layer.name.partition(":")
        keras_layer = self._layers[name]
        values = [channels_last(value) for value in padded_inputs(layer, inputs)]
        if part == "activation":
            return channels_first(as_array(keras_layer.activation(values[0])))
        with linear(keras_layer):
            argument = values[0] if len(values) == 1 else values
            return channels_first(as_array(keras_layer(argument, training=False)))

    def train_step(
        self, inputs: np.ndarray, labels: np.ndarray, dtype: str, draw: int | None = None
    ) -> TrainingStep:
        """Run the model in training mode, and restore it; see `Participant.train_step`.

        Raises:
            ConfigError: The dtype is not float32, or Keras' backend is not torch.
        """
        if not self.has_gradients:
            return super().train_step(inputs, labels, dtype, draw)
        self._check(dtype, draw)
        calls: list[Call] = []
        with _restored(self._model):
            with _recording(calls, drops_values=False):
                output = self._model(channels_last(inputs), training=True)
            output.retain_grad()
            loss = (self.loss or _cross_entropy)(output, labels)
            loss.backward()
            layers = self._described(calls, training=True)
            gradients, statistics = self._gradients(layers), self._statistics(layers)
            return TrainingStep(
                Trace(tuple(layers), channels_first(as_array(output))),
                float(loss),
                channels_first(as_array(output.grad)),
                gradients,
                statistics,
            )

    def versions(self) -> dict[str, str]:
        """Return the versions of Keras and the name of its backend."""
        import keras

        return {"keras": keras.__version__, "backend": keras.backend.backend()}

    def _check(self, dtype: str, draw: int | None) -> None:
        if dtype not in self.dtypes or draw is not None:
            raise ConfigError(f"{self.name}: dtype must be float32. Received: {dtype}, draw {draw}")

    def _described(self, calls: Sequence[Call], training: bool) -> list[Layer]:
        """Return the layers of a run, and remember which Keras layer has which name."""
        names: Counter[str] = Counter()
        layers: list[Layer] = []
        padded = ZeroPadding()
        for layer, values, result in calls:
            if type(layer).__name__ == "ZeroPadding2D":
                maps = channels_first(values[0]), channels_first(result)
                padded.add(*maps, tuple(map(tuple, layer.padding)))
                continue
            name = str(layer.name)
            names[name] += 1
            name = name if names[name] == 1 else f"{name}#{names[name]}"
            self._layers[name] = layer
            layers += steps(name, layer, values, result, padded, training)
        return layers

    def _gradients(self, layers: Sequence[Layer]) -> dict[str, dict[str, np.ndarray]]:
        gradients = {}
        for layer in filter(lambda each: each.params, layers):
            own = self._layers[layer.name]
            inputs = [channels_last(value) for value in layer.inputs]
            found = describe(type(own).__name__, Gradients(own), inputs)[1]
            gradients[layer.name] = {
                name: array for name, array in found.items() if not name.startswith("running")
            }
        return gradients

    def _statistics(self, layers: Sequence[Layer]) -> dict[str, dict[str, np.ndarray]]:
        """Return the statistics of all norms, as they are now."""
        return {
            layer.name: {name: layer.params[name] for name in ("running_mean", "running_var")}
            for layer in layers
            if layer.kind == "batch_norm"
        }


def _cross_entropy(outputs: Any, labels: np.ndarray) -> Any:
    """Return the cross entropy of logits, the mean over the batch."""
    import keras

    losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)
    return keras.ops.mean(losses)


@contextlib.contextmanager
def _restored(model: Any) -> Iterator[None]:
    """Give a model its weights, statistics and gradients back at the end."""
    weights = model.get_weights()
    tensors = [variable.value for variable in model.trainable_variables]
    gradients = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    try:
        yield
    finally:
        model.set_weights(weights)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient


@contextlib.contextmanager
def _recording(calls: list[Call], *, drops_values: bool = True) -> Iterator[None]:
    """Record every call of a layer that has no layers inside."""
    from keras.layers import Layer as KerasLayer

    call: Callable[..., Any] = KerasLayer.__call__

    def record(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not drops_values and type(self).__name__ in DROPOUTS:
            kwargs["training"] = False
        result = call(self, *args, **kwargs)
        if not list(self._flatten_layers(include_self=False)):
            values = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
            calls.append((self, [as_array(value) for value in values], as_array(result)))
        return result

    KerasLayer.__call__ = record
    try:
        yield
    finally:
        KerasLayer.__call__ = call
