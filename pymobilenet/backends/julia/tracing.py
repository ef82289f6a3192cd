"""Record what each layer of a Flux model computes, with ``MobileNets.Tracing``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.julia.interop import named_views, translate_julia_errors, view
from pymobilenet.backends.julia.runtime import backend_with
from pymobilenet.backends.trace import Layer, Participant, Trace, TrainingStep
from pymobilenet.errors import ConfigError

LISTS = ("stride", "dilation", "size", "output_size", "output_padding")
"""Settings that are a number for each spatial axis."""


class FluxParticipant(Participant):
    """A model of Flux or Lux in the running Julia: any nesting of layers, custom ones too.

    The model is copied for each run; its own weights and mode stay as they are.

    Args:
        model: A Julia object, callable with an array whose last axis is the batch. A model of Lux
            comes from `of_lux` or `from_file`.
        name: How reports call it.
        loss: A Julia function of outputs and one-hot columns; by default ``logitcrossentropy``.
    """

    dtypes = ("float64", "float32")
    moves_weights = True
    has_gradients = True

    def __init__(self, model: Any, name: str = "julia", loss: Any = None) -> None:
        self.name = name
        self.loss = loss
        self._model = model
        self._backend = backend_with("Flux")
        self._tracing = self._backend.julia.Tracing
        self.framework = str(self._tracing.framework(model))
        self._records: dict[str, Any] = {}
        self._is_flipped: dict[str, bool] = {}

    @classmethod
    def from_file(cls, path: Path, function: str, name: str | None = None) -> FluxParticipant:
        """Return the model that a function of a Julia file builds.

        Args:
            path: A ``.jl`` file, which is run in a module of its own.
            function: A function of that file without arguments, which returns a model, or a model
                and its loss.
            name: How reports call the model; by default ``path:function``.

        Raises:
            ConfigError: The file is not there.
            JuliaError: The file or the function throws.
            BackendUnavailable: Julia is not available.
        """
        if not path.is_file():
            raise ConfigError(f"the Julia file must exist. Received: {path}")
        tracing = backend_with("Flux").julia.Tracing
        with translate_julia_errors():
            model, loss = tracing.built_by(str(path.resolve()), function)
        return cls(model, name or f"{path.name}:{function}", loss)

    @classmethod
    def of_lux(cls, built: tuple[Any, Any, Any], name: str) -> FluxParticipant:
        """Return a model of Lux.

        Args:
            built: The model, its parameters and its states, as ``Lux.setup`` returns them.
            name: How reports call it.

        Raises:
            JuliaError: The first of them is no layer of Lux.
        """
        with translate_julia_errors():
            model, loss = backend_with("Flux").julia.Tracing.model_and_loss(built)
            return cls(model, name, loss)

    @classmethod
    def stock(cls, model: Any, name: str) -> FluxParticipant:
        """Return a ``MobileNet`` of MobileNets.jl as a Chain of Flux's own layers.

        Args:
            model: The Julia object.
            name: How reports call it.
        """
        with translate_julia_errors():
            return cls(backend_with("Flux").julia.flux_chain(model), name)

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Run a copy of the model in test mode; see `Participant.trace`."""
        array = np.array(inputs, dtype, order="C")
        options = {} if draw is None else {"draw": draw}
        with translate_julia_errors():
            records, output = self._tracing.trace(self._model, self._backend.wrap(array), **options)
            layers = tuple(_layer(record) for record in records)
            if draw is None:
                self._records = {str(record.name): record for record in records}
                self._is_flipped = {
                    str(record.name): bool(dict(record.settings).get("flipped", False))
                    for record in records
                }
            return Trace(layers, np.array(view(output), order="C"))

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run one layer on other inputs; see `Participant.run_layer`."""
        arrays = [np.array(value, order="C") for value in inputs]
        with translate_julia_errors():
            wrapped = tuple(self._backend.wrap(value) for value in arrays)
            output = self._tracing.run_layer(self._records[layer.name], wrapped)
            return np.array(view(output), order="C")

    def train_step(
        self, inputs: np.ndarray, labels: np.ndarray, dtype: str, draw: int | None = None
    ) -> TrainingStep:
        """Run a copy of the model in training mode; see `Participant.train_step`."""
        array = np.array(inputs, dtype, order="C")
        numbers = np.array(labels, np.int64)
        options = {} if draw is None else {"draw": draw}
        if self.loss is not None:
            options["loss"] = self.loss
        with translate_julia_errors():
            step = self._tracing.train_step(
                self._model, self._backend.wrap(array), self._backend.wrap(numbers), **options
            )
            records = {str(record.name): record for record in step.records}
            gradients = {}
            for key, pairs in step.gradients:
                record = records[str(key)]
                flipped = bool(dict(record.settings).get("flipped", False))
                gradients[str(key)] = {
                    name: _param(str(record.kind), name, value, flipped)
                    for name, value in named_views(pairs)
                }
            return TrainingStep(
                Trace(
                    tuple(_layer(record) for record in step.records),
                    np.array(view(step.output), order="C"),
                ),
                float(step.loss),
                np.array(view(step.output_gradient), order="C"),
                gradients,
                {
                    str(name): {key: np.array(value) for key, value in named_views(pairs)}
                    for name, pairs in step.statistics
                },
            )

    def load_params(self, layer: Layer, params: Mapping[str, np.ndarray]) -> None:
        """Copy parameters into a layer of the Julia model; see `Participant.load_params`."""
        is_flipped = self._is_flipped[layer.name]
        arrays = {
            name: _param(layer.kind, name, np.asarray(array), is_flipped)
            for name, array in params.items()
        }
        wrapped = self._backend.new_dict()
        for name, array in arrays.items():
            wrapped[name] = self._backend.wrap(array)
        path = layer.name.partition("#")[0]
        with translate_julia_errors():
            self._tracing.load_params_b(self._model, path, wrapped)

    def save_weights(self, path: Path) -> str:
        """Write ``Flux.state``, or Lux's ``ps`` and ``st``, to a JLD2 file.

        See `Participant.save_weights`.
        """
        backend_with("Flux", "JLD2")
        with translate_julia_errors():
            self._tracing.save_state(str(path), self._model)
        if self.framework == "Lux":
            return f'ps, st = JLD2.load("{path}", "ps", "st")'
        return f'Flux.loadmodel!(model, JLD2.load("{path}", "model_state"))'

    def versions(self) -> dict[str, str]:
        """Return the versions of Julia, of the framework and of NNlib."""
        version = str(self._tracing.framework_version(self._model))
        return self._backend.versions() | {self.framework: version}


def _layer(record: Any) -> Layer:
    """Convert a ``LayerRecord``: axes in torch's order, kernels without a flip."""
    settings = {str(name): _setting(str(name), value) for name, value in record.settings}
    flipped = settings.pop("flipped", False)
    kind = str(record.kind)
    params = {
        name: _param(kind, name, array, flipped) for name, array in named_views(record.params)
    }
    inputs = tuple(np.array(view(value), order="C") for value in record.inputs)
    return Layer(
        str(record.name), kind, inputs, np.array(view(record.output), order="C"), params, settings
    )


def _setting(name: str, value: Any) -> Any:
    if name == "padding":
        return tuple((int(low), int(high)) for low, high in value)
    if name in LISTS:
        return tuple(int(size) for size in value)
    if name == "scale":
        return tuple(float(factor) for factor in value)
    return value


def _param(kind: str, name: str, array: np.ndarray, flipped: bool) -> np.ndarray:
    if kind == "dense" and name == "weight":
        array = array.T
    if flipped and name == "weight":
        array = np.flip(array, tuple(range(2, array.ndim)))
    return np.array(array, order="C")
