"""Begin a training run from a recipe, or resume one from its checkpoint, in any backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pymobilenet.backends.base import Backend
from pymobilenet.config import RunConfig
from pymobilenet.data import BatchPlan
from pymobilenet.errors import ConfigError, DataError, RunLocked
from pymobilenet.evaluation.run_logs import CURVES, LOG
from pymobilenet.files import remove_leftovers
from pymobilenet.training.checkpoint import BEST, LAST, Checkpoint, TrainState, read_checkpoint
from pymobilenet.training.log import TABLE
from pymobilenet.training.recipe import Recipe
from pymobilenet.training.run import TrainingRun
from pymobilenet.training.setup import Images, first_state, open_images


def begin(recipe: Recipe, backend: Backend, folder: str | Path, **options: Any) -> TrainingRun:
    """Start a new run, and write a checkpoint of its initial state.

    Args:
        recipe: From `load_recipe`.
        backend: The backend to train in.
        folder: The run's folder. It is created if necessary and must not contain a run.
        options: Options of the backend, as in `Backend.build`.

    Returns:
        The run; call its method `train`.

    Raises:
        ConfigError: The folder contains a run, or the batch is larger than the data set.
        DataError: The data are not found, or have more classes than the model.
        WeightsError: The file at `start` cannot be read, or does not fit the model.
        RunLocked: Another process writes the folder.
    """
    folder = Path(folder)
    _require_no_run(folder)
    config, state, images = first_state(recipe)
    model = backend.from_state(config, state, **options)
    plan = BatchPlan(0, len(images.train), recipe.train_config(1).batch_size)
    model.set_optimizer(recipe.train_config(plan.steps_per_epoch))
    run = TrainingRun(folder, model, recipe.run, images, TrainState())
    folder.mkdir(parents=True, exist_ok=True)
    run.lock()
    try:
        if model.is_main_process:
            _require_no_run(folder)
            _remove_leftovers(folder)
        run.save()
    except BaseException:
        run.unlock()
        raise
    return run


def _require_no_run(folder: Path) -> None:
    if (folder / LAST).exists():
        raise ConfigError(f"{folder} contains a run: resume it, or choose another folder")


def resume(
    folder: str | Path, backend: Backend, data: str | Path | None = None, **options: Any
) -> TrainingRun:
    """Resume a run from its checkpoint, in any backend.

    Args:
        folder: The run's folder.
        backend: The backend to continue in; it may differ from that of the checkpoint.
        data: The new path of the images, if they have moved.
        options: Options of the backend, as in `Backend.build`.

    Returns:
        The run; call its method `train`.

    Raises:
        WeightsError: There is no checkpoint, or it is damaged.
        DataError: The data are not found, or are not those of the run.
        RunLocked: Another process writes the folder.
    """
    folder = Path(folder)
    version = _version(folder / LAST)
    checkpoint = read_checkpoint(folder / LAST)
    run, images = open_run_images(folder, checkpoint, data)
    model = backend.from_state(checkpoint.file.config, checkpoint.file.state, **options)
    model.set_optimizer(checkpoint.train)
    model.set_state(checkpoint.file.state)
    resumed = TrainingRun(folder, model, run, images, checkpoint.state)
    resumed.lock()
    if model.is_main_process:
        if _version(folder / LAST) != version:
            resumed.unlock()
            raise RunLocked(f"{folder}: another process wrote the checkpoint meanwhile; try again")
        _remove_leftovers(folder)
    return resumed


def open_run_images(
    folder: Path, checkpoint: Checkpoint, data: str | Path | None = None
) -> tuple[RunConfig, Images]:
    """Load the images of an existing run.

    Args:
        folder: The run's folder, for messages.
        checkpoint: Its checkpoint.
        data: The new path of the images, if they have moved.

    Returns:
        The `RunConfig` of the checkpoint with the path of the images, and the images.

    Raises:
        DataError: The data are not found, or are not those of the run.
    """
    run = checkpoint.run if data is None else replace(checkpoint.run, data=str(data))
    images = open_images(run, checkpoint.file.config.resolution, checkpoint.train.seed)
    for use, digest in images.digests().items():
        if digest != checkpoint.digests.get(use):
            raise DataError(
                f"{folder}: a run must be resumed with its own images. The SHA-256 of its {use} "
                f"images is {checkpoint.digests.get(use)}. "
                f"Received: {digest}, {images.train.source}"
            )
    return run, images


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of a killed process from a run's folder, which must be locked."""
    for name in (LAST, BEST, LOG, TABLE, CURVES):
        remove_leftovers(folder / name)


def _version(path: Path) -> tuple[int, int] | None:
    """Return inode and time of a file, which change when it is replaced; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
