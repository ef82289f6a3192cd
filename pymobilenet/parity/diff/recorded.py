"""What a model computed, in a file: so that models of two machines can be compared.

`record_outputs` runs a model and writes its inputs, its noise floors, and what each layer gets and
computes, with weights and settings. `RecordedOutputs` is then the model in a comparison elsewhere.
The file is an npz file of plain arrays, read by `pymobilenet.formats.npz` without pickle; equal
arrays are stored once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.trace import KnownFloors, Participant, Trace, TrainingStep
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import npz
from pymobilenet.parity.diff import recorded_layers
from pymobilenet.parity.diff.measure import layer_floor, trace_floors

FORMAT = "pymobilenet layer outputs 1"
"""The metadata ``format`` of these files."""


class RecordedOutputs(Participant):
    """A model that ran before, maybe on another machine.

    Args:
        path: A file of `record_outputs`.
        name: How reports call it; by default as when it was recorded.

    Raises:
        WeightsError: The file is missing, damaged or of another kind.

    Attributes:
        inputs: (N, ...), what the model was given.
        labels: (N,), the labels of the recorded training step, or None.
    """

    framework = "recording"
    runs_layers = False

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        arrays, metadata = npz.read(path)
        if metadata.get("format") != FORMAT:
            raise WeightsError(
                f"{path}: must be a file of recorded outputs, of the format {FORMAT!r}. Received: "
                f"{metadata.get('format')!r:.80}"
            )
        try:
            content = recorded_layers.decode(arrays, metadata)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{path}: these recorded outputs are damaged: {error}") from None
        self.name = name or content.name
        self.inputs = content.inputs
        self.dtypes = (content.inputs.dtype.name,)
        self.floors = content.floors
        self.labels = content.labels
        self.has_gradients = content.step is not None
        self._trace = content.trace
        self._step = content.step
        self._versions = content.versions

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Return what was recorded; see `Participant.trace`.

        Raises:
            ConfigError: These are not the recorded inputs, or a draw is wanted.
        """
        self._check(inputs, dtype, draw)
        return self._trace

    def train_step(
        self, inputs: np.ndarray, labels: np.ndarray, dtype: str, draw: int | None = None
    ) -> TrainingStep:
        """Return the recorded training step; see `Participant.train_step`.

        Raises:
            ConfigError: None was recorded, or not with these inputs and labels.
        """
        self._check(inputs, dtype, draw)
        is_recorded = self.labels is not None and np.array_equal(labels, self.labels)
        if self._step is None or not is_recorded:
            raise ConfigError(f"{self.name}: no training step with these labels was recorded")
        return self._step

    def _check(self, inputs: np.ndarray, dtype: str, draw: int | None) -> None:
        if draw is not None or dtype not in self.dtypes:
            raise ConfigError(
                f"{self.name}: recorded outputs are of {self.dtypes[0]}, without draws. Received: "
                f"{dtype}, draw {draw}"
            )
        if not np.array_equal(inputs, self.inputs):
            raise ConfigError(
                f"{self.name}: the inputs must be those that were recorded, of shape "
                f"{self.inputs.shape}. Received: others, of shape {np.shape(inputs)}"
            )

    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that computed."""
        return self._versions


def record_outputs(
    model: Any,
    inputs: np.ndarray,
    path: str | Path,
    dtype: str | None = None,
    labels: np.ndarray | None = None,
) -> Path:
    """Run a model and write what each of its layers computes, with its noise floors.

    Args:
        model: As for `pymobilenet.parity.compare`.
        inputs: (N, ...), floating, at least two.
        path: The npz file to write. It holds all activations: 0.28 GB for two images of 224x224
            pixels in a MobileNet V1 in float64.
        dtype: float64 or float32; by default float64 where the model computes in it. The other
            model must compute in the same.
        labels: (N,), integers from 0: also a training step is recorded.

    Returns:
        The file.

    Raises:
        ConfigError: The model is of no known kind, the inputs are not floating, or the model does
            not compute in `dtype` or has no gradients.
    """
    from pymobilenet.parity.diff.engine import checked_inputs
    from pymobilenet.parity.diff.participants import participant
    from pymobilenet.parity.diff.training import checked_labels, training_floors

    runner = participant(model)
    chosen = dtype or runner.dtypes[0]
    if chosen not in runner.dtypes:
        raise ConfigError(
            f"{runner.name} computes in {', '.join(runner.dtypes)}. Received: {chosen}"
        )
    values = checked_inputs(inputs).astype(chosen)
    trace = runner.trace(values, chosen)
    whole, output = trace_floors(runner, values, chosen, trace)
    alone = {layer.name: layer_floor(runner, layer, chosen) for layer in trace.layers}
    step, training = None, {}
    if labels is not None:
        labels = checked_labels(labels, len(values))
        step = runner.train_step(values, labels, chosen)
        training = training_floors(runner, values, labels, chosen, step)
    floors = KnownFloors(whole, alone, output, training)
    content = recorded_layers.Content(
        runner.name, values, trace, floors, runner.versions(), labels, step
    )
    arrays, metadata = recorded_layers.encode(content)
    npz.write(path, arrays, {"format": FORMAT, **metadata})
    return Path(path)
