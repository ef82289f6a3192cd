"""What `train` prints of a run: its state at the start, during and after each epoch, at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from pymobilenet.cli.common import console, errors
from pymobilenet.machine import resident_bytes

if TYPE_CHECKING:
    from pymobilenet.training import StepRecord, TrainingRun
    from pymobilenet.training.log import Line
    from pymobilenet.training.time_left import TimeLeft

MEMORY_SECONDS = 1.0
"""The memory is read at most this often during an epoch."""

NOTABLE_WAIT = 0.01
"""A larger share of the steps' time that they wait for their batches is printed."""

LINE_SECONDS = 60.0
"""Where there is no terminal, a line is printed this often during an epoch."""


def print_start(run: TrainingRun) -> None:
    """Print the position of a run, its compute options and its images."""
    images = run.images
    position = f"step {run.state.step} of {run.train_config.steps}"
    start = run.run.start or f"init={run.run.init}, seed {run.train_config.seed}"
    with run.model.fitting():
        compute_options = ", ".join(
            f"{key} {value}" for key, value in run.model.compute_options.items()
        )
    train_eval = f"{len(images.train_eval):,}" if images.train_eval else "none"
    console.print(
        f"{run.folder}: {position}, in {run.model.backend.name} ({compute_options}), "
        f"{run.model.dtype}; initial weights: {start}; "
        f"{len(images.train):,} images of {images.train.source}, {train_eval} of them evaluated "
        f"after each epoch, {len(images.validation):,} for validation",
        soft_wrap=True,
        markup=False,
    )


@contextmanager
def show_run_progress(
    run: TrainingRun, clock: Callable[[], float] = time.perf_counter
) -> Iterator[tuple[Callable[[StepRecord], None], Callable[[Line], None]]]:
    """Show the present epoch on the standard error, and print a line for each finished one.

    On a terminal the present epoch has a bar, elsewhere a line every `LINE_SECONDS`.

    Args:
        run: The run, before it is trained.
        clock: Returns seconds.

    Yields:
        A callback for steps and a logger, for `TrainingRun.train`.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}", table_column=Column(overflow="fold")),
    )
    with Progress(
        *columns, console=errors, transient=True, disable=not errors.is_terminal
    ) as progress:
        total = run.steps_per_epoch
        bar = progress.add_task("", total=total, status="")
        status = _Status(run, clock)

        def on_step(record: StepRecord) -> None:
            text = status.after_step(record)
            progress.update(
                bar, description=status.epoch, completed=status.steps_in_epoch, status=text
            )
            if not errors.is_terminal and status.is_line_due():
                errors.print(
                    f"{status.epoch}, step {status.steps_in_epoch}/{total}  {text}",
                    soft_wrap=True,
                    markup=False,
                )

        def on_line(line: Line) -> None:
            console.print(status.after_epoch(line), soft_wrap=True, markup=False)

        yield on_step, on_line


class _Status:
    """The texts about a run in training."""

    def __init__(self, run: TrainingRun, clock: Callable[[], float]) -> None:
        self._run, self._clock = run, clock
        self._time_left = _time_left(run, clock)
        self._memory, self._memory_at, self._line_at = resident_bytes(), clock(), clock()

    @property
    def epoch(self) -> str:
        return f"epoch {len(self._run.state.log) + 1}/{self._run.run.epochs}"

    @property
    def steps_in_epoch(self) -> int:
        return self._run.state.step - len(self._run.state.log) * self._run.steps_per_epoch

    def is_line_due(self) -> bool:
        """Return whether `LINE_SECONDS` have passed since this was last true, or since an epoch."""
        is_due = self._clock() - self._line_at >= LINE_SECONDS
        if is_due:
            self._line_at = self._clock()
        return is_due

    def after_step(self, record: StepRecord) -> str:
        self._time_left.end_step()
        if self._clock() - self._memory_at >= MEMORY_SECONDS:
            self._memory, self._memory_at = resident_bytes(), self._clock()
        state = self._run.state
        speed = self.steps_in_epoch * self._run.train_config.batch_size / state.epoch_seconds
        best = [f"best {state.best['val_accuracy']:.2%}"] if state.best else []
        return "  ".join(
            [
                f"rate {record.rate:.3g}",
                f"loss {state.epoch_loss / self.steps_in_epoch:.4f}",
                *best,
                f"{speed:,.0f} images/s",
                f"{state.epoch_seconds:.1f} s",
                *self._rest(self._memory),
            ]
        )

    def after_epoch(self, line: Line) -> str:
        self._time_left.end_epoch()
        self._line_at = self._clock()
        accuracy = line["train_accuracy"]
        seconds = line["seconds"] + line["evaluation_seconds"]
        waiting = line["data_wait_seconds"] / line["seconds"]
        return "  ".join(
            [
                f"epoch {line['epoch']}/{self._run.run.epochs}",
                f"loss {line['train_loss']:.4f}",
                *([] if accuracy is None else [f"accuracy {accuracy:.2%}"]),
                f"validation {line['val_accuracy']:.2%}",
                f"rate {line['rate']:.3g}",
                f"{line['images_per_second']:,.0f} images/s",
                f"{seconds:.1f} s, evaluation {line['evaluation_seconds']:.1f} s",
                *([f"waited for batches {waiting:.1%}"] if waiting > NOTABLE_WAIT else []),
                *self._rest(line["memory_bytes"]),
                *(["best so far"] if line is self._run.state.best else []),
            ]
        )

    def _rest(self, memory: int | None) -> list[str]:
        """Return the texts of the time left and of the memory, as far as they are known."""
        run = self._run
        seconds = self._time_left.seconds(
            run.train_config.steps - run.state.step, run.run.epochs - len(run.state.log)
        )
        texts = []
        if seconds is not None and run.ending is None:
            bound = "at most " if run.run.patience else ""
            texts.append(f"{bound}{timedelta(seconds=round(seconds))} left")
        if memory is not None:
            texts.append(f"memory {memory / 1e9:.2f} GB")
        return texts


def _time_left(run: TrainingRun, clock: Callable[[], float]) -> TimeLeft:
    """Return the estimate for a run; an evaluation takes a forward pass for each image."""
    from pymobilenet.training.setup import PASSES_PER_STEP
    from pymobilenet.training.time_left import TimeLeft

    train_eval = run.images.train_eval
    evaluated = len(run.images.validation) + (len(train_eval) if train_eval else 0)
    return TimeLeft(evaluated / (PASSES_PER_STEP * run.train_config.batch_size), clock)


def evaluation_share(log: Sequence[Line]) -> float | None:
    """Return the share of evaluation in the time of a run's epochs.

    Args:
        log: The entries of the epochs. Those of earlier versions do not say it and are skipped.

    Returns:
        The share, in [0, 1]; None without an entry that says it.
    """
    lines = [line for line in log if "evaluation_seconds" in line]
    if not lines:
        return None
    evaluation = sum(line["evaluation_seconds"] for line in lines)
    return evaluation / (evaluation + sum(line["seconds"] for line in lines))
