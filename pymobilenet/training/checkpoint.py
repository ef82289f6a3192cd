"""Checkpoints: an exchange file with weights and moments, and all that a run needs to go on.

Its metadata has, beside those of every exchange file, each a JSON text with sorted keys:

- ``train``, ``run``: `TrainConfig` and `RunConfig`, which hold the schedule and the seeds;
- ``train_state``: where the run stands, a `TrainState`;
- ``data``: SHA-256 of the images trained on and of those validated on (`Dataset.digest`);
- ``preprocessing`` (a plain name), ``mean``, ``std`` and ``classes``, which `evaluate`, `predict`
  and `quantize` read.
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
from pymobilenet.strict_json import parse_object, shown
from pymobilenet.weights import OPTIMIZER_STEP

LAST, BEST = "last.safetensors", "best.safetensors"

_PRESENT_KEYS = {"choices": "compute_options"}
"""Keys of a log's line in checkpoints of earlier versions -> their present names."""


@dataclass
class TrainState:
    """Where a run stands, beside its weights and moments.

    Attributes:
        step: Steps taken, which is the place in the batch plan and in the schedule too.
        epoch_loss: The sum of the losses of this epoch's steps.
        epoch_seconds: The time they took.
        log: The line of each finished epoch.
    """

    step: int = 0
    epoch_loss: float = 0.0
    epoch_seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, Any] | None:
        """The line of the first epoch with the highest validation accuracy."""
        return max(self.log, key=lambda line: line["val_accuracy"], default=None)

    @property
    def epochs_since_best(self) -> int:
        return len(self.log) - self.best["epoch"] if self.best else 0

    @classmethod
    def from_json(cls, text: str) -> TrainState:
        """Raises a ValueError that names the rule that is broken."""
        values = parse_object(text)
        wanted = {"step": int, "epoch_loss": float, "epoch_seconds": float, "log": list}
        if {name: type(value) for name, value in values.items()} != wanted:
            raise ValueError(f"train_state must hold {', '.join(wanted)}. Received: {shown(text)}")
        state = cls(**values)
        for number, line in enumerate(state.log, 1):
            accuracy = line.get("val_accuracy") if isinstance(line, dict) else None
            if not isinstance(accuracy, float) or line.get("epoch") != number:
                raise ValueError(f"line {number} of the log is none. Received: {shown(line)}")
            if "choices" in line:  # what files of earlier versions call it
                state.log[number - 1] = {_PRESENT_KEYS.get(k, k): v for k, v in line.items()}
        if state.step < 0:
            raise ValueError(f"step must be at least 0. Received: {state.step}")
        return state


@dataclass(frozen=True)
class Checkpoint:
    """What `read_checkpoint` finds; `file` has the model's config and the state with moments."""

    file: WeightsFile
    train: TrainConfig
    run: RunConfig
    state: TrainState
    digests: dict[str, str]


def metadata_of(train: TrainConfig, data: Dataset) -> dict[str, str]:
    """What a trained model's file says of its images."""
    scaled = scaling_metadata(train.preprocessing, data)
    return {**scaled, keys.CLASSES: _json(list(data.class_names))}


def write_checkpoint(
    path: Path,
    model: Model,
    run: RunConfig,
    state: TrainState,
    digests: Mapping[str, str],
    about: Mapping[str, str],
) -> None:
    """Write what `read_checkpoint` reads, atomically; `about` is what `metadata_of` gives."""
    assert model.optimizer is not None
    metadata = {
        **about,
        keys.TRAIN: model.optimizer.to_json(),
        keys.RUN: run.to_json(),
        keys.TRAIN_STATE: _json(asdict(state)),
        keys.DATA: _json(dict(digests)),
    }
    write_weights(path, model.config, model.get_state(), model.backend.versions(), metadata)


def write_best(path: Path, model: Model, about: Mapping[str, str]) -> None:
    """Write a model to use, which has no moments; with a probe, as `Model.save` does."""
    metadata = {**about, **probe_metadata(model)}
    write_weights(path, model.config, model.get_state(), model.backend.versions(), metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any backend.

    Raises:
        WeightsError: No file of this format, no checkpoint, or one that contradicts itself.
    """
    file = read_weights(path)
    said = file.metadata
    if keys.TRAIN_STATE not in said:
        raise WeightsError(
            f"{path}: a model and no checkpoint: it does not say where a run stands. A new run "
            f"begins with its weights by --set start={path}"
        )
    try:
        train = TrainConfig.from_json(said.get(keys.TRAIN, ""))
        run = RunConfig.from_json(said.get(keys.RUN, ""))
        state = TrainState.from_json(said[keys.TRAIN_STATE])
        digests = parse_object(said.get(keys.DATA, ""))
    except ValueError as error:
        raise WeightsError(f"{path}: metadata: {error}") from None
    counted = file.state.get(OPTIMIZER_STEP)
    if bool(train.slots) != (counted is not None) or counted not in (None, state.step):
        raise WeightsError(
            f"{path}: {OPTIMIZER_STEP} must be the {state.step} steps of train_state"
            f"{'' if train.slots else ', or absent without moments'}. Received: {counted}"
        )
    return Checkpoint(file, train, run, state, digests)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
