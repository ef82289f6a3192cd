"""Training runs in a folder: started from a recipe, interrupted, resumed in any backend.

The folder contains ``last.safetensors`` (the checkpoint), ``best.safetensors`` (the model of the
epoch with the highest validation accuracy), ``log.jsonl`` and ``log.csv``. A run that was killed
and resumed gives the same bits as an uninterrupted run, in the same backend on the same machine
with the same threads. In another backend it continues from the same bits.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pymobilenet.backends.base import Backend, Model
from pymobilenet.config import RunConfig
from pymobilenet.data import BatchPlan
from pymobilenet.errors import ConfigError, DataError, RunLocked, TrainingDiverged
from pymobilenet.evaluation import evaluate
from pymobilenet.evaluation.run_logs import CURVES, LOG
from pymobilenet.files import remove_leftovers
from pymobilenet.training.batches import Batches
from pymobilenet.training.checkpoint import (
    BEST,
    LAST,
    TrainState,
    metadata_of,
    read_checkpoint,
    write_best,
    write_checkpoint,
)
from pymobilenet.training.lock import RunLock
from pymobilenet.training.log import TABLE, Logger, write_log
from pymobilenet.training.loop import Callback, take_steps
from pymobilenet.training.recipe import Recipe
from pymobilenet.training.schedules import rate_at
from pymobilenet.training.setup import Images, first_state, open_images
from pymobilenet.weights import averaged

Ending = Literal["finished", "no better epoch in a while", "interrupted"]


class TrainingRun:
    """A training run. `begin` and `resume` create one; `train` runs it.

    Attributes:
        folder (Path): The run's folder.
        model (Model): The model in training.
        run (RunConfig): Data and length of the run.
        train_config (TrainConfig): Optimizer, schedule and augmentation.
        images (Images): Training and validation images.
        state (TrainState): The progress of the run.
        batches (Batches): The training batches.
        steps_per_epoch (int): Number of steps of an epoch.
    """

    def __init__(
        self, folder: Path, model: Model, run: RunConfig, images: Images, state: TrainState
    ) -> None:
        assert model.optimizer is not None
        self.folder, self.model, self.run = folder, model, run
        self.images, self.state, self.train_config = images, state, model.optimizer
        self.batches = Batches(images.train, self.train_config, model.config, model.dtype)
        self.steps_per_epoch = self.batches.plan.steps_per_epoch
        self._lock: RunLock | None = None
        self._digests = images.digests()
        self._image_metadata = metadata_of(self.train_config, images.train)

    def train(
        self,
        callbacks: Iterable[Callback] = (),
        loggers: Sequence[Logger] = (),
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> Ending:
        """Train until the end of the run, or until `is_stopping` returns True.

        In both cases a checkpoint of the last step is written. In distributed training every
        process must call this method; the main process writes files and logs, and all processes
        stop if `is_stopping` returns True in any of them.

        Args:
            callbacks: Functions that are called after every step.
            loggers: Functions that are called with the log entry of every epoch.
            is_stopping: Called after every step.

        Returns:
            Why training ended.

        Raises:
            TrainingDiverged: A loss is NaN or infinite. The last checkpoint is kept.
            RunLocked: Another process writes the folder.
        """
        self.lock()
        try:
            return self._train(tuple(callbacks), loggers, is_stopping)
        finally:
            self.unlock()

    def lock(self) -> None:
        """Lock the folder until `train` returns, so that no other process writes it.

        Raises:
            RunLocked: Another process writes the folder.
        """
        if self._lock is None and self.model.is_main_process:
            self._lock = RunLock(self.folder)

    def unlock(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _train(
        self,
        callbacks: Sequence[Callback],
        loggers: Sequence[Logger],
        is_stopping: Callable[[], bool],
    ) -> Ending:
        state = self.state
        self._write_log()

        def is_any_rank_stopping() -> bool:
            return self.model.any_rank(is_stopping())

        with self.model.fitting(), contextlib.suppress(_Interrupted):
            while True:
                if state.step == self.steps_per_epoch * (len(state.log) + 1):
                    self._close_epoch(loggers, is_any_rank_stopping)
                if state.step >= self.train_config.steps:
                    return "finished"
                if self.run.patience and state.epochs_since_best >= self.run.patience:
                    return "no better epoch in a while"
                if is_any_rank_stopping():
                    break
                self._step(callbacks)
                if self.run.save_steps and state.step % self.run.save_steps == 0:
                    self.save()
        self.save()
        self.model.any_rank(False)  # wait until the main process has saved
        return "interrupted"

    def save(self) -> None:
        """Write the checkpoint."""
        if self.model.is_main_process:
            path = self.folder / LAST
            write_checkpoint(
                path, self.model, self.run, self.state, self._digests, self._image_metadata
            )

    def _step(self, callbacks: Sequence[Callback]) -> None:
        start = time.perf_counter()
        (record,) = take_steps(self.model, self.batches, [self.state.step])
        if not np.isfinite(record.loss):
            raise TrainingDiverged(
                f"the loss must be finite. Received: {record.loss} at step {record.step}, rate "
                f"{record.rate:g}. A lower rate, a warm-up or clip_norm may help; "
                f"{self.folder / LAST} is the last checkpoint"
            )
        self.state.step += 1
        self.state.epoch_loss += record.loss
        self.state.epoch_seconds += time.perf_counter() - start
        for callback in callbacks:
            callback(record)

    def _close_epoch(self, loggers: Sequence[Logger], is_stopping: Callable[[], bool]) -> None:
        """Evaluate, log and save. If this is interrupted, the epoch is not finished."""
        state, model = self.state, self._evaluated_model()

        def check_stop() -> None:
            if is_stopping():
                raise _Interrupted

        preprocessing = self.train_config.preprocessing
        results = {
            split: evaluate(model, data, preprocessing, on_batch=check_stop)
            for split, data in (
                ("train", self.images.train_eval),
                ("val", self.images.validation),
            )
        }
        steps, options = self.steps_per_epoch, self.model.compute_options
        line = {
            "epoch": len(state.log) + 1,
            "step": state.step,
            "train_loss": state.epoch_loss / steps,
            "train_accuracy": results["train"].top1,
            "val_loss": _finite(results["val"].loss),
            "val_accuracy": results["val"].top1,
            "val_top5": results["val"].top5,
            "rate": rate_at(self.train_config, state.step - 1),
            "backend": self.model.backend.name,
            "compute_options": " ".join(f"{key}={value}" for key, value in options.items()),
            "seconds": state.epoch_seconds,
            "images_per_second": steps * self.train_config.batch_size / state.epoch_seconds,
        }
        state.log.append(line)
        state.epoch_loss = state.epoch_seconds = 0.0
        if state.best is line and self.model.is_main_process:
            write_best(self.folder / BEST, model, self._image_metadata)
        self._write_log()
        self.save()
        for logger in loggers if self.model.is_main_process else ():
            logger(line)

    def _write_log(self) -> None:
        if self.model.is_main_process:
            write_log(self.folder, self.state.log)

    def _evaluated_model(self) -> Model:
        """Return a copy of the model, with averaged weights if `ema_decay` is set."""
        state = self.model.get_state()
        if self.train_config.ema_decay > 0:
            state = averaged(state)
        return self.model.replica(state)


class _Interrupted(Exception):
    """The evaluation was interrupted."""


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
    run = checkpoint.run if data is None else replace(checkpoint.run, data=str(data))
    images = open_images(run, checkpoint.file.config.resolution, checkpoint.train.seed)
    for use, digest in images.digests().items():
        if digest != checkpoint.digests.get(use):
            raise DataError(
                f"{folder}: a run must be resumed with its own images. The SHA-256 of its {use} "
                f"images is {checkpoint.digests.get(use)}. "
                f"Received: {digest}, {images.train.source}"
            )
    model = backend.from_state(checkpoint.file.config, checkpoint.file.state, **options)
    model.set_optimizer(checkpoint.train)
    model.set_state(checkpoint.file.state)
    resumed = TrainingRun(folder, model, run, images, checkpoint.state)
    resumed.lock()
    if model.is_main_process:
        if _version(folder / LAST) != version:
            resumed.unlock()
            raise RunLocked(f"{folder}: another process wrote the checkpoint meanwhile; try again")
        for name in (LAST, BEST, LOG, TABLE, CURVES):
            remove_leftovers(folder / name)
    return resumed


def _version(path: Path) -> tuple[int, int] | None:
    """Return inode and time of a file, which change when it is replaced; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
