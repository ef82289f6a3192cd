"""A training run in a folder; see `pymobilenet.training.start` for how it begins or resumes.

The folder contains ``last.safetensors`` (the checkpoint), ``best.safetensors`` (the model of the
epoch with the highest validation accuracy), ``log.jsonl`` and ``log.csv``. A run that was killed
and resumed gives the same bits as an uninterrupted run, in the same backend on the same machine
with the same threads. In another backend it continues from the same bits.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.config import RunConfig
from pymobilenet.errors import TrainingDiverged
from pymobilenet.evaluation import evaluate
from pymobilenet.machine import resident_bytes
from pymobilenet.training.batches import Batches
from pymobilenet.training.checkpoint import (
    BEST,
    LAST,
    TrainState,
    metadata_of,
    write_best,
    write_checkpoint,
)
from pymobilenet.training.lock import RunLock
from pymobilenet.training.log import Logger, write_log
from pymobilenet.training.loop import Callback, take_steps
from pymobilenet.training.prefetch import Prefetch
from pymobilenet.training.schedules import rate_at
from pymobilenet.training.setup import Images
from pymobilenet.weights import averaged

Ending = Literal["finished", "no better epoch in a while", "interrupted"]


class TrainingRun:
    """A training run. See `begin` and `resume` in `pymobilenet.training.start`.

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

    @property
    def ending(self) -> Ending | None:
        """Why the run has ended, by its checkpoint; None: there is something left to train."""
        if self._is_epoch_open:
            return None
        if self.state.step >= self.train_config.steps:
            return "finished"
        if self.run.patience and self.state.epochs_since_best >= self.run.patience:
            return "no better epoch in a while"
        return None

    @property
    def _is_epoch_open(self) -> bool:
        """Whether an epoch's steps are taken and its evaluation is not finished."""
        return self.state.step == self.steps_per_epoch * (len(self.state.log) + 1)

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

        prefetch = Prefetch(self.batches, self.train_config.steps)
        with self.model.fitting(), prefetch, contextlib.suppress(_Interrupted):
            while True:
                if self._is_epoch_open:
                    self._close_epoch(loggers, is_any_rank_stopping)
                if self.ending is not None:
                    return self.ending
                if is_any_rank_stopping():
                    break
                self._step(prefetch, callbacks)
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

    def _step(self, prefetch: Prefetch, callbacks: Sequence[Callback]) -> None:
        start, waited = time.perf_counter(), prefetch.wait_seconds
        (record,) = take_steps(self.model, prefetch, self.train_config, [self.state.step])
        if not np.isfinite(record.loss):
            raise TrainingDiverged(
                f"the loss must be finite. Received: {record.loss} at step {record.step}, rate "
                f"{record.rate:g}. A lower rate, a warm-up or clip_norm may help; "
                f"{self.folder / LAST} is the last checkpoint"
            )
        self.state.step += 1
        self.state.epoch_loss += record.loss
        self.state.epoch_seconds += time.perf_counter() - start
        self.state.epoch_wait_seconds += prefetch.wait_seconds - waited
        for callback in callbacks:
            callback(record)

    def _close_epoch(self, loggers: Sequence[Logger], is_stopping: Callable[[], bool]) -> None:
        """Evaluate, log and save. If this is interrupted, the epoch is not finished."""
        start = time.perf_counter()
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
            if data is not None
        }
        evaluation_seconds = time.perf_counter() - start
        steps, options = self.steps_per_epoch, self.model.compute_options
        line = {
            "epoch": len(state.log) + 1,
            "step": state.step,
            "train_loss": state.epoch_loss / steps,
            "train_accuracy": results["train"].top1 if "train" in results else None,
            "val_loss": _finite(results["val"].loss),
            "val_accuracy": results["val"].top1,
            "val_top5": results["val"].top5,
            "rate": rate_at(self.train_config, state.step - 1),
            "backend": self.model.backend.name,
            "compute_options": " ".join(f"{key}={value}" for key, value in options.items()),
            "seconds": state.epoch_seconds,
            "data_wait_seconds": state.epoch_wait_seconds,
            "evaluation_seconds": evaluation_seconds,
            "memory_bytes": resident_bytes(),
            "images_per_second": steps * self.train_config.batch_size / state.epoch_seconds,
        }
        state.log.append(line)
        state.epoch_loss = state.epoch_seconds = state.epoch_wait_seconds = 0.0
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


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
