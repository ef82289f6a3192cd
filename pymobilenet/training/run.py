"""A training run in a folder: begun from a recipe, stopped, resumed, in one backend or another.

The folder holds ``last.safetensors`` (the checkpoint), ``best.safetensors`` (the model of the epoch
with the highest validation accuracy, to use), ``log.jsonl`` and ``log.csv``. A run that was killed
and resumed ends with the bits of one that was left alone, in the same backend on the same machine
with the same threads; resumed in another backend, it goes on from the same bits.
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
    """A run under way; `begin` and `resume` make one, `train` continues it.

    Attributes:
        model (Model): In training.
        run (RunConfig), state (TrainState), folder (Path)
        images (Images): What it sees.
        steps_per_epoch (int)
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
        self._about = metadata_of(self.train_config, images.train)

    def train(
        self,
        callbacks: Iterable[Callback] = (),
        loggers: Sequence[Logger] = (),
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> Ending:
        """Train until the run is over, or until `is_stopping`, asked after every step, says so.

        Either way the checkpoint is of the last step. Each logger gets the line of each epoch.
        Of several processes that train one model, all go, and the one that leads writes and logs;
        all stop where `is_stopping` says so in any of them.

        Raises:
            TrainingDiverged: A loss that is not finite. The last checkpoint stays.
            RunLocked: Another process writes the folder now.
        """
        self.lock()
        try:
            return self._train(tuple(callbacks), loggers, is_stopping)
        finally:
            self.unlock()

    def lock(self) -> None:
        """Lock the folder, so that no other process writes it, until `train` returns."""
        if self._lock is None and self.model.is_main_process:
            self._lock = RunLock(self.folder)

    def unlock(self) -> None:
        """Let other processes write the folder."""
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

        def is_stopping_anywhere() -> bool:
            return self.model.any_rank(is_stopping())

        with self.model.fitting(), contextlib.suppress(_Interrupted):
            while True:
                if state.step == self.steps_per_epoch * (len(state.log) + 1):
                    self._close_epoch(loggers, is_stopping_anywhere)
                if state.step >= self.train_config.steps:
                    return "finished"
                if self.run.patience and state.epochs_since_best >= self.run.patience:
                    return "no better epoch in a while"
                if is_stopping_anywhere():
                    break
                self._step(callbacks)
                if self.run.save_steps and state.step % self.run.save_steps == 0:
                    self.save()
        self.save()
        self.model.any_rank(False)  # no process ends before the one that saves has done so
        return "interrupted"

    def save(self) -> None:
        """Write the checkpoint."""
        if self.model.is_main_process:
            path = self.folder / LAST
            write_checkpoint(path, self.model, self.run, self.state, self._digests, self._about)

    def _step(self, callbacks: Sequence[Callback]) -> None:
        began = time.perf_counter()
        (record,) = take_steps(self.model, self.batches, [self.state.step])
        if not np.isfinite(record.loss):
            raise TrainingDiverged(
                f"the loss must be finite. Received: {record.loss} at step {record.step}, rate "
                f"{record.rate:g}. A lower rate, a warm-up or clip_norm may help; "
                f"{self.folder / LAST} is as it was at the last checkpoint"
            )
        self.state.step += 1
        self.state.epoch_loss += record.loss
        self.state.epoch_seconds += time.perf_counter() - began
        for callback in callbacks:
            callback(record)

    def _close_epoch(self, loggers: Sequence[Logger], is_stopping: Callable[[], bool]) -> None:
        """Measure, log and save. If that is interrupted, the epoch stays open."""
        state, asked = self.state, self._asked()

        def check_stop() -> None:
            if is_stopping():
                raise _Interrupted

        preprocessing = self.train_config.preprocessing
        found = {
            part: evaluate(asked, data, preprocessing, on_batch=check_stop)
            for part, data in (
                ("train", self.images.train_eval),
                ("val", self.images.validation),
            )
        }
        steps, options = self.steps_per_epoch, self.model.compute_options
        line = {
            "epoch": len(state.log) + 1,
            "step": state.step,
            "train_loss": state.epoch_loss / steps,
            "train_accuracy": found["train"].top1,
            "val_loss": _finite(found["val"].loss),
            "val_accuracy": found["val"].top1,
            "val_top5": found["val"].top5,
            "rate": rate_at(self.train_config, state.step - 1),
            "backend": self.model.backend.name,
            "compute_options": " ".join(f"{key}={value}" for key, value in options.items()),
            "seconds": state.epoch_seconds,
            "images_per_second": steps * self.train_config.batch_size / state.epoch_seconds,
        }
        state.log.append(line)
        state.epoch_loss = state.epoch_seconds = 0.0
        if state.best is line and self.model.is_main_process:
            write_best(self.folder / BEST, asked, self._about)
        self._write_log()
        self.save()
        for logger in loggers if self.model.is_main_process else ():
            logger(line)

    def _write_log(self) -> None:
        if self.model.is_main_process:
            write_log(self.folder, self.state.log)

    def _asked(self) -> Model:
        """The model that is measured and kept: with averaged weights where there are any."""
        state = self.model.get_state()
        if self.train_config.ema_decay > 0:
            state = averaged(state)
        return self.model.replica(state)


class _Interrupted(Exception):
    """Measuring was stopped."""


def begin(recipe: Recipe, backend: Backend, folder: str | Path, **options: Any) -> TrainingRun:
    """A new run in `folder`, with a checkpoint of its first state.

    Args:
        recipe: See `load_recipe`.
        backend: The one to train in.
        folder: Made if it is not there; it must hold no run.
        options: The backend's own, as in `Backend.build`.

    Raises:
        ConfigError: A run is there; a batch larger than the data.
        DataError: No data, or more classes than the model has.
        WeightsError: No weights at `start`, or of another net.
        RunLocked: Another process writes the folder now.
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
        raise ConfigError(f"{folder} holds a run: resume it, or choose another folder")


def resume(
    folder: str | Path, backend: Backend, data: str | Path | None = None, **options: Any
) -> TrainingRun:
    """The run in `folder`, from its checkpoint, in any backend.

    Args:
        folder: Of `begin`.
        backend: The one to go on in; the checkpoint may be of another.
        data: Where the images are now, if they were moved.
        options: The backend's own, as in `Backend.build`.

    Raises:
        WeightsError: No checkpoint there, or a damaged one.
        DataError: No data, or other images than the run has seen so far.
        RunLocked: Another process writes the folder now.
    """
    folder = Path(folder)
    checkpoint = _version(folder / LAST)
    found = read_checkpoint(folder / LAST)
    run = found.run if data is None else replace(found.run, data=str(data))
    images = open_images(run, found.file.config.resolution, found.train.seed)
    for use, digest in images.digests().items():
        if digest != found.digests.get(use):
            raise DataError(
                f"{folder}: a run goes on with the images it began with, by SHA-256. Its {use} "
                f"images were {found.digests.get(use)}. Received: {digest}, {images.train.source}"
            )
    model = backend.from_state(found.file.config, found.file.state, **options)
    model.set_optimizer(found.train)
    model.set_state(found.file.state)
    resumed = TrainingRun(folder, model, run, images, found.state)
    resumed.lock()
    if model.is_main_process:
        if _version(folder / LAST) != checkpoint:
            resumed.unlock()
            raise RunLocked(f"{folder}: another process wrote the checkpoint meanwhile; try again")
        for name in (LAST, BEST, LOG, TABLE, CURVES):
            remove_leftovers(folder / name)
    return resumed


def _version(path: Path) -> tuple[int, int] | None:
    """Inode and time of a file, which change when another takes its place; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
