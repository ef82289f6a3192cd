"""A model of this package, of any backend, as a participant: by the activations that it reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pymobilenet.architecture import Layer as Unit
from pymobilenet.architecture import layers
from pymobilenet.backends.base import Model
from pymobilenet.backends.trace import Layer, Participant, Trace, TrainingStep
from pymobilenet.config import TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.ops import compute
from pymobilenet.weights import State
from pymobilenet.weights.perturb import move_parameters

NORM_FIELDS = ("weight", "bias", "running_mean", "running_var")


class ModelParticipant(Participant):
    """A `Model`: its own kernels, also those of a backend that has no module.

    Layers have canonical names. A layer cannot be run alone, so that a fault shows where the whole
    model begins to differ.

    Args:
        model: Of any backend; it stays as it is.
        name: How reports call it.
    """

    framework = "pymobilenet"
    moves_weights = True
    runs_layers = False
    has_gradients = True

    def __init__(self, model: Model, name: str) -> None:
        self.name, self._model = name, model
        self.dtypes = tuple(
            dtype for dtype in ("float64", "float32") if model.backend.supports_dtype(dtype)
        )

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Run a copy of the model in evaluation mode; see `Participant.trace`."""
        model = self._copy(dtype, draw)
        return _trace(model, inputs, model.activations(inputs), is_training=False)

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the layer's formula, for its noise floor; see `Participant.run_layer`."""
        output = compute(replace(layer, inputs=tuple(inputs)))
        same_size = output.size == layer.output.size  # pooled maps have no rows and columns here
        return output.reshape(layer.output.shape) if same_size else output

    def train_step(
        self, inputs: np.ndarray, labels: np.ndarray, dtype: str, draw: int | None = None
    ) -> TrainingStep:
        """Run a copy of the model in training mode; see `Participant.train_step`.

        The gradient of the output is that which the gradient of the classifier's weight contains.

        Raises:
            ConfigError: The participant has a loss of its own, or there are more images than
                features.
        """
        model = self._copy(dtype, draw)
        if self.loss is not None:
            raise ConfigError(f"{self.name}: the loss of a model of this package is its own")
        trace = _trace(model, inputs, model.activations(inputs, train=True), is_training=True)
        loss, gradients = model.loss_and_grads(inputs, labels)
        arrays = {name: np.array(array) for name, array in gradients.items()}
        model.set_optimizer(TrainConfig(optimizer="sgd", momentum=0.0))
        model.step(inputs, labels, 0.0)
        state = model.get_state()
        grouped: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            layer, _, field = name.rpartition(".")
            grouped.setdefault(layer, {})[field] = array
        norms = [f"{unit.name}.norm" for unit in layers(model.config)]
        statistics = {
            norm: {field: state[f"{norm}.{field}"] for field in NORM_FIELDS[2:]} for norm in norms
        }
        output_gradient = self._output_gradient(trace, arrays["classifier.weight"])
        return TrainingStep(trace, float(loss), output_gradient, grouped, statistics)

    def _output_gradient(self, trace: Trace, weight_gradient: np.ndarray) -> np.ndarray:
        """Solve ``weight_gradient = output_gradient.T @ features``."""
        (classifier,) = (layer for layer in trace.layers if layer.name == "classifier")
        features = np.asarray(classifier.inputs[0], np.float64)
        if len(features) > features.shape[1]:
            raise ConfigError(
                f"{self.name}: a training step needs at most as many images as there are features, "
                f"{features.shape[1]}. Received: {len(features)}"
            )
        solved = np.asarray(weight_gradient, np.float64) @ np.linalg.pinv(features)
        return np.ascontiguousarray(solved.T).astype(weight_gradient.dtype)

    def _copy(self, dtype: str, draw: int | None) -> Model:
        state = {
            name: tensor.astype(dtype)
            for name, tensor in self._model.get_state().items()
            if not name.startswith("optimizer.")
        }
        return self._model.replica(state if draw is None else move_parameters(state, draw))

    def versions(self) -> dict[str, str]:
        """Return the versions of the backend's libraries."""
        return self._model.backend.versions()


def _trace(model: Model, inputs: np.ndarray, values: State, is_training: bool) -> Trace:
    """Return the activations of a run as layers."""
    state, config = model.get_state(), model.config
    recorded: list[Layer] = []
    x, block, block_input = inputs, "", inputs

    def add(name: str, kind: str, inputs: tuple[np.ndarray, ...], key: str, **more: Any) -> None:
        recorded.append(Layer(name, kind, inputs, np.asarray(values[key]), **more))

    for unit in layers(config):
        if unit.block != block:
            block, block_input = unit.block, x
        conv, norm = f"{unit.name}.conv", f"{unit.name}.norm"
        params: Mapping[str, np.ndarray] = {"weight": state[f"{conv}.weight"]}
        add(conv, "conv", (x,), conv, params=params, settings=_conv_settings(unit))
        params = {field: state[f"{norm}.{field}"] for field in NORM_FIELDS}
        settings = {
            "eps": config.norm_eps,
            "training": is_training,
            "momentum": config.norm_momentum,
        }
        add(norm, "batch_norm", (recorded[-1].output,), norm, params=params, settings=settings)
        if unit.activation:
            name = f"{unit.name}.act"
            function = {"function": config.activation}
            add(name, "activation", (recorded[-1].output,), name, settings=function)
        if unit.residual:
            name = f"{block}.add"
            add(name, "add", (block_input, recorded[-1].output), name)
        x = recorded[-1].output
    add("pool", "mean_pool", (x,), "pool", settings={"output_size": (1, 1)})
    if config.dropout > 0:
        add("dropout", "dropout", (recorded[-1].output,), "pool", settings={"p": config.dropout})
    params = {field: state[f"classifier.{field}"] for field in ("weight", "bias")}
    add("classifier", "dense", (recorded[-1].output,), "logits", params=params)
    if config.softmax and not is_training:
        logits = (recorded[-1].output,)
        add("softmax", "softmax", logits, "probabilities", settings={"axis": 1})
    return Trace(tuple(recorded), recorded[-1].output)


def _conv_settings(unit: Unit) -> dict[str, Any]:
    return {
        "stride": (unit.stride, unit.stride),
        "padding": (tuple(unit.padding),) * 2,
        "dilation": (1, 1),
        "groups": unit.groups,
    }
