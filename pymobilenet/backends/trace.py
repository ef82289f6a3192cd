"""Traces: what each layer of a model computes, whatever framework the model is in.

A participant runs a model and records each of its layers as a `Layer`: inputs, output, weights and
settings, with the same names and axes in every framework. Images have the axes (N, C, H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.errors import ConfigError

WEIGHTED = (
    "conv",
    "conv_transpose",
    "dense",
    "batch_norm",
    "instance_norm",
    "group_norm",
    "layer_norm",
)
"""Kinds of layers with parameters."""

KINDS = (
    *WEIGHTED,
    "max_pool",
    "mean_pool",
    "resize",
    "activation",
    "softmax",
    "log_softmax",
    "flatten",
    "dropout",
    "add",
    "multiply",
    "concat",
    "identity",
    "other",
)
"""Kinds of layers. A layer that is none of the others is recorded as ``other``."""

TRANSPARENT = ("identity", "dropout", "flatten")
"""Kinds that leave all values as they are in evaluation mode: a model may have them or not."""


@dataclass(frozen=True)
class Layer:
    """One layer of a model in one run.

    Attributes:
        name: Its path in the model, such as ``features.0.1`` in torch and ``layers[3]`` in Flux.
        kind: One of `KINDS`.
        inputs: The arrays that the layer got, with the batch as first axis.
        output: The array that it returned.
        params: Name -> array. A convolution has ``weight`` (O, I/groups, kH, kW), applied without a
            flip, and ``bias`` (O,); a transposed one has ``weight`` (I, O/groups, kH, kW); a dense
            layer has ``weight`` (out, in) and ``bias``; norms have ``weight``, ``bias``,
            ``running_mean`` and ``running_var`` (C,). Absent parameters have no entry.
        settings: Name -> value: ``stride``, ``padding`` (pairs of the pixels before and after, one
            for each spatial axis), ``dilation``, ``groups``, ``eps``, ``training``, ``size``,
            ``count_padding``, ``function``, ``axis``, ``p``; of a layer of the kind ``resize``,
            ``mode``, ``align_corners``, ``antialias`` and ``scale`` or ``output_size``.
    """

    name: str
    kind: str
    inputs: tuple[np.ndarray, ...]
    output: np.ndarray
    params: Mapping[str, np.ndarray] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def with_params(self, **params: np.ndarray | None) -> Layer:
        """Return the layer with other parameters.

        Args:
            params: Name -> array, or None to leave the parameter out.
        """
        merged = {**self.params, **params}
        return replace(self, params={k: v for k, v in merged.items() if v is not None})

    def with_settings(self, **settings: Any) -> Layer:
        """Return the layer with other settings.

        Args:
            settings: Name -> value.
        """
        return replace(self, settings={**self.settings, **settings})

    def __str__(self) -> str:
        """Return the name and what kind of layer it is."""
        function = self.settings.get("function")
        return f"{self.name} ({function or self.kind.replace('_', ' ')})"


Variant = Iterator[tuple[str, Layer]]
"""What is different, in words, and a layer that is computed in that way."""

Variants = Callable[[Layer, Layer], Variant]
"""Maps a layer and its counterpart in another model to variants of the layer."""


@dataclass(frozen=True)
class Trace:
    """All layers of a model in one run, in the order of execution, and what the model returned."""

    layers: tuple[Layer, ...]
    output: np.ndarray


@dataclass(frozen=True)
class TrainingStep:
    """What one training step computes, before any optimizer. Dropout layers drop nothing.

    Attributes:
        trace: All layers in training mode.
        loss: The loss of the batch.
        output_gradient: Of the loss in the model's output, of the output's shape.
        gradients: Name of a layer -> name of a parameter -> gradient, with the names and axes of
            `Layer.params`. Zeros where the loss does not depend on it or it takes no gradient.
        statistics: Name of a norm -> ``running_mean`` and ``running_var`` (C,) after the step.
    """

    trace: Trace
    loss: float
    output_gradient: np.ndarray
    gradients: Mapping[str, Mapping[str, np.ndarray]]
    statistics: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class KnownFloors:
    """Noise floors that were measured when a model ran, as fractions of each tensor's norm.

    Attributes:
        whole: Name of a layer -> floor of its output in the run of the whole model.
        alone: Name of a layer -> floor of its output where the layer runs alone.
        output: Floor of what the model returns.
        training: (quantity, name of a layer, name of a parameter) -> floor in a training step.
    """

    whole: Mapping[str, float]
    alone: Mapping[str, float]
    output: float
    training: Mapping[tuple[str, str, str], float] = field(default_factory=dict)


class Participant(ABC):
    """A model in any framework that a comparison runs.

    Attributes:
        name: How reports call it.
        framework: Such as ``torch`` or ``Flux``.
        dtypes: The dtypes that it computes in, ``float64`` and ``float32`` or one of them.
        moves_weights: Whether `trace` can move weights for a draw.
        runs_layers: Whether `run_layer` works: a recording has no layers to run.
        floors: For a recording, the floors that were measured with it.
        has_gradients: Whether `train_step` works.
        loss: The model's own loss, a function of outputs and labels in its framework; None is cross
            entropy of logits, the mean over the batch.
    """

    name: str
    framework: str
    dtypes: tuple[str, ...]
    moves_weights: bool = False
    runs_layers: bool = True
    floors: KnownFloors | None = None
    has_gradients: bool = False
    loss: Any = None

    @abstractmethod
    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Run the model in evaluation mode and record its layers.

        Args:
            inputs: (N, ...), of `dtype`.
            dtype: One of `dtypes`; the weights are converted to it.
            draw: With a number, every weight is moved up or down by one unit in the last place, at
                random, if `moves_weights`.

        Returns:
            Its layers and its output.
        """

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run one layer of the latest `trace` without a draw on other inputs.

        Args:
            layer: A layer of that trace.
            inputs: As many arrays as `layer.inputs`, of the same shapes and dtype.

        Returns:
            The layer's output.

        Raises:
            ConfigError: The participant has no layers that it can run.
        """
        raise ConfigError(
            f"{self.name} has no layers to run. Received: {layer}, {len(inputs)} inputs"
        )

    def train_step(
        self, inputs: np.ndarray, labels: np.ndarray, dtype: str, draw: int | None = None
    ) -> TrainingStep:
        """Run a copy of the model in training mode, without dropout, and compute gradients.

        Args:
            inputs: (N, ...), of `dtype`.
            labels: (N,), int64, from 0.
            dtype: One of `dtypes`.
            draw: As in `trace`.

        Returns:
            Loss, gradients and running statistics.

        Raises:
            ConfigError: Models of this kind have no gradients here.
        """
        raise ConfigError(
            f"{self.name}: a {self.framework} model has no gradients here. Received: {len(inputs)} "
            f"inputs, {len(labels)} labels, {dtype}, draw {draw}"
        )

    def load_params(self, layer: Layer, params: Mapping[str, np.ndarray]) -> None:
        """Copy parameters into a layer of the model itself.

        Args:
            layer: A layer of a trace.
            params: Name -> array, with the names and axes of `Layer.params`.

        Raises:
            ConfigError: Weights cannot be written into this kind of model.
        """
        raise ConfigError(
            f"{self.name}: the {len(params)} parameters of {layer.name} cannot be written into a "
            f"{self.framework} model"
        )

    def save_weights(self, path: Path) -> str:
        """Write the model's weights to a file that the framework itself loads.

        Args:
            path: The file.

        Returns:
            The line of code that loads it.

        Raises:
            ConfigError: Weights of this kind of model cannot be written.
        """
        raise ConfigError(f"{path}: weights of a {self.framework} model cannot be written")

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that compute."""
