"""Checkpoints: exchange files with weights, optimizer slots and everything a run needs to resume.

In addition to the metadata of every exchange file they have, each as JSON with sorted keys:

- ``train``, ``run``: `TrainConfig` and `RunConfig`, with the schedule and the seeds;
- ``train_state``: the progress of the run, a `TrainState`;
- ``data``: SHA-256 of the training images and of the validation images (`Dataset.digest`);
- ``preprocessing`` (a plain name), ``mean``, ``std`` and ``classes``, which `evaluate`, `predict`
  and `quantize` use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pymobilenet import metadata_keys as keys
from pymobilenet.backends.base import Model
from pymobilenet.backends.probe import probe_metadata
from pymobilenet.config import RunConfig, TrainConfig
from pymobilenet.data import Dataset, scaling_metadata
from pymobilenet.errors import WeightsError
from pymobilenet.formats.exchange import WeightsFile, read_weights, write_weights
from pymobilenet.strict_json import excerpt, parse_object
from pymobilenet.weights import OPTIMIZER_STEP

LAST, BEST = "last.safetensors", "best.safetensors"

_RENAMED_KEYS = {"choices": "compute_options"}
"""Keys of a log entry in checkpoints of earlier versions -> present names."""


@dataclass
class TrainState:
    """The progress of a run.

    Attributes:
        step: Number of steps taken; the position in the batch plan and in the schedule.
        epoch_loss: Sum of the losses of the current epoch.
        epoch_seconds: Duration of the current epoch's steps, in seconds.
        epoch_wait_seconds: How much of it the steps waited for their batches.
        log: One entry per finished epoch.
    """

    step: int = 0
    epoch_loss: float = 0.0
    epoch_seconds: float = 0.0
    epoch_wait_seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, Any] | None:
        """The log entry of the first epoch with the highest validation accuracy; None before it."""
        return max(self.log, key=lambda line: line["val_accuracy"], default=None)

    @property
    def epochs_since_best(self) -> int:
        """The number of epochs without a better validation accuracy."""
        return len(self.log) - self.best["epoch"] if self.best else 0

    @classmethod
    def from_json(cls, text: str) -> TrainState:
        """Parse and validate the JSON text.

        Args:
            text: JSON.

        Returns:
            The progress of the run.

        Raises:
            ValueError: Not a valid ``train_state``.
        """
        values = parse_object(text)
        values.setdefault("epoch_wait_seconds", 0.0)  # not written by earlier versions
        types = {"step": int, "epoch_loss": float, "epoch_seconds": float, "log": list}
        types["epoch_wait_seconds"] = float
        if {name: type(value) for name, value in values.items()} != types:
            raise ValueError(f"train_state must hold {', '.join(types)}. Received: {excerpt(text)}")
        state = cls(**values)
        for number, line in enumerate(state.log, 1):
            accuracy = line.get("val_accuracy") if isinstance(line, dict) else None
            if not isinstance(accuracy, float) or line.get("epoch") != number:
                raise ValueError(f"entry {number} of the log is invalid. Received: {excerpt(line)}")
            if "choices" in line:  # written by earlier versions
                state.log[number - 1] = {_RENAMED_KEYS.get(k, k): v for k, v in line.items()}
        if state.step < 0:
            raise ValueError(f"step must be at least 0. Received: {state.step}")
        return state


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        file: The model's config and its state, including optimizer slots.
        train: Optimizer, schedule and augmentation.
        run: Data and length of the run.
        state: The progress of the run.
        digests: SHA-256 of the images, by use ("train", "validation").
    """

    file: WeightsFile
    train: TrainConfig
    run: RunConfig
    state: TrainState
    digests: dict[str, str]


def metadata_of(train: TrainConfig, data: Dataset) -> dict[str, str]:
    """Return the metadata of a trained model's file that describe its images.

    Args:
        train: For `preprocessing`.
        data: The training images.

    Returns:
        ``preprocessing``, ``mean``, ``std`` and ``classes``.
    """
    scaled = scaling_metadata(train.preprocessing, data)
    return {**scaled, keys.CLASSES: _json(list(data.class_names))}


def write_checkpoint(
    path: Path,
    model: Model,
    run: RunConfig,
    state: TrainState,
    digests: Mapping[str, str],
    image_metadata: Mapping[str, str],
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The file.
        model: The model, with its optimizer.
        run: Data and length of the run.
        state: The progress of the run.
        digests: SHA-256 of the images, by use.
        image_metadata: From `metadata_of`.
    """
    assert model.optimizer is not None
    metadata = {
        **image_metadata,
        keys.TRAIN: model.optimizer.to_json(),
        keys.RUN: run.to_json(),
        keys.TRAIN_STATE: _json(asdict(state)),
        keys.DATA: _json(dict(digests)),
    }
    write_weights(path, model.config, model.get_state(), model.backend.versions(), metadata)


def write_best(path: Path, model: Model, image_metadata: Mapping[str, str]) -> None:
    """Write a model for inference, without optimizer slots, with a probe as in `Model.save`.

    Args:
        path: The file.
        model: A model without an optimizer.
        image_metadata: From `metadata_of`.
    """
    state = model.get_state()
    metadata = {**image_metadata, **probe_metadata(model, state)}
    write_weights(path, model.config, state, model.backend.versions(), metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any backend.

    Args:
        path: The file.

    Returns:
        Its contents.

    Raises:
        WeightsError: Not an exchange file, not a checkpoint, or an inconsistent one.
    """
    file = read_weights(path)
    metadata = file.metadata
    if keys.TRAIN_STATE not in metadata:
        raise WeightsError(
            f"{path}: must be a checkpoint of a run. Received: a model file. To start a new run "
            f"from its weights, use --set start={path}"
        )
    try:
        train = TrainConfig.from_json(metadata.get(keys.TRAIN, ""))
        run = RunConfig.from_json(metadata.get(keys.RUN, ""))
        state = TrainState.from_json(metadata[keys.TRAIN_STATE])
        digests = parse_object(metadata.get(keys.DATA, ""))
    except ValueError as error:
        raise WeightsError(f"{path}: metadata: {error}") from None
    step = file.state.get(OPTIMIZER_STEP)
    if bool(train.slots) != (step is not None) or step not in (None, state.step):
        raise WeightsError(
            f"{path}: {OPTIMIZER_STEP} must be {state.step}, the step of train_state"
            f"{'' if train.slots else ', or absent without slots'}. Received: {step}"
        )
    return Checkpoint(file, train, run, state, digests)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
