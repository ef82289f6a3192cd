"""Time jobs side by side, in turns, so that other load of the machine affects all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymobilenet.architecture import mult_adds
from pymobilenet.bench.contenders import Contender, Job
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError

JOBS = ("train", "predict")

WARM_UP = 2
"""Runs before the first that is timed: compilation, buffers, caches."""

REST = 0.1
"""Seconds of rest before each turn and before each rested run. Before a turn, the threads of the
previous job go to sleep in it: those of OpenMP and ONNX Runtime spin for a while, on the cores that
are measured."""

LEAST_SECONDS = 0.02
"""A shorter job is repeated within one measurement until it has taken this many seconds."""

MOST_SECONDS, LEAST_REPEATS = 20.0, 3
"""A job that would take more than so many seconds in all has fewer repeats, but at least three."""


@dataclass(frozen=True)
class Case:
    """What is measured: a net with batches of one size, in training or inference.

    Attributes:
        config: The net.
        batch_size: Images in a batch, N.
        job: train or predict.

    Raises:
        ConfigError: `batch_size` is below 1, or `job` is not one of `JOBS`.
    """

    config: MobileNetConfig
    batch_size: int
    job: str

    def __post_init__(self) -> None:
        """Check the values."""
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1. Received: {self.batch_size}")
        if self.job not in JOBS:
            raise ConfigError(f"job must be one of {', '.join(JOBS)}. Received: {self.job!r}")

    def __str__(self) -> str:
        """Return the title of the case's table."""
        c = self.config
        return (
            f"{self.job}, {c.family}, alpha {c.width_mult:g}, stem {c.stem_stride}, "
            f"{c.resolution}x{c.resolution}, batch {self.batch_size}"
        )

    @property
    def operations(self) -> float:
        """Floating-point operations of one run: two for each multiply-add.

        Training has three times as many: each multiply-add is repeated for the gradient of the
        input and for that of the weight.
        """
        passes = 3 if self.job == "train" else 1
        return 2.0 * passes * self.batch_size * mult_adds(self.config)

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return random images (N, C, H, W), float32, and labels (N,), the same in every call."""
        rng = np.random.default_rng(0)
        shape = (self.batch_size, self.config.in_channels, *[self.config.resolution] * 2)
        images = rng.standard_normal(shape).astype(np.float32)
        return images, rng.integers(0, self.config.num_classes, self.batch_size)


def case_to_dict(case: Case) -> dict[str, Any]:
    """Return a case as plain values for JSON.

    Args:
        case: What was measured.
    """
    return {
        "job": case.job,
        "batch_size": case.batch_size,
        "config": case.config.to_dict(),
    }


@dataclass(frozen=True)
class Timing:
    """The seconds of one run of a job, hot and rested, for each repeat.

    Attributes:
        case: What was measured.
        contender: The name of the contender.
        seconds: Of a hot run, one that follows another at once, for each repeat.
        allocated: Bytes that one run allocates from a garbage collector; None without one.
        rested_seconds: Of the first run after a rest of `REST`, for each repeat. Empty in files
            that were written before this was measured.
    """

    case: Case
    contender: str
    seconds: tuple[float, ...]
    allocated: int | None = None
    rested_seconds: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The median of the hot runs."""
        return statistics.median(self.seconds)

    @property
    def rested_median(self) -> float | None:
        """The median of the rested runs."""
        return statistics.median(self.rested_seconds) if self.rested_seconds else None

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of the hot runs, over their median."""
        return half_interquartile(self.seconds) / self.median

    @property
    def images_per_second(self) -> float:
        """Images per second, by the median of the hot runs."""
        return self.case.batch_size / self.median

    @property
    def gflops(self) -> float:
        """Billions of floating-point operations per second, by the median of the hot runs."""
        return self.case.operations / self.median / 1e9


def half_interquartile(seconds: Sequence[float]) -> float:
    """Return half the distance between the quartiles.

    Args:
        seconds: Of the repeats.
    """
    low, high = np.quantile(seconds, [0.25, 0.75])
    return float(high - low) / 2


def measure(
    case: Case,
    contenders: Sequence[Contender],
    repeats: int = 9,
    advance: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time one case for each contender that has such a job, in turns.

    A turn is a rest, a run that is not timed, a hot run, a rest and a rested run. The rest between
    follows the contender's own runs, so that its weights are where a service that waits for
    requests has them, and not where another contender's runs have moved them.

    Args:
        case: The net, the batch size and the job.
        contenders: What to time.
        repeats: Turns of each contender.
        advance: Is called after each round of turns.

    Returns:
        The timings, one for each contender that has the job.
    """
    images, labels = case.inputs()
    jobs = {
        contender.name: make(case.config, images, labels)
        for contender in contenders
        if (make := getattr(contender, case.job)) is not None
    }
    once = {name: _warm_up(job) for name, job in jobs.items()}
    meters = {one.name: one.allocated for one in contenders}
    allocated_bytes = {name: _allocated(job, meters[name]) for name, job in jobs.items()}
    hot: dict[str, list[float]] = {name: [] for name in jobs}
    rested: dict[str, list[float]] = {name: [] for name in jobs}
    gc.collect()
    for number in range(repeats):
        for name, job in jobs.items():
            if number < max(LEAST_REPEATS, MOST_SECONDS / once[name]):
                count = max(1, round(LEAST_SECONDS / once[name]))
                time.sleep(REST)
                job()  # fills the caches and wakes the threads, as in a loop of one job
                hot[name].append(_seconds(job, count))
                time.sleep(REST)
                rested[name].append(_seconds(job, 1))
        advance()
    return [
        Timing(case, name, tuple(hot[name]), allocated_bytes[name], tuple(rested[name]))
        for name in jobs
    ]


def _warm_up(job: Job) -> float:
    """Run the job a few times, and return the seconds of a run after that."""
    for _ in range(WARM_UP):
        job()
    return _seconds(job, 1)


def _allocated(job: Job, meter: Callable[[], int] | None) -> int | None:
    if meter is None:
        return None
    before = meter()
    job()
    return meter() - before


def _seconds(job: Job, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        job()
    return (time.perf_counter() - start) / count


AXES: dict[str, Callable[[Case], float]] = {
    "batch size": lambda case: case.batch_size,
    "alpha": lambda case: case.config.width_mult,
    "resolution": lambda case: case.config.resolution,
    "stem stride": lambda case: case.config.stem_stride,
}


def axis_values(cases: Iterable[Case]) -> dict[str, list[float]]:
    """Return the values on each of `AXES`, in ascending order."""
    cases = list(cases)
    return {axis: sorted({value(case) for case in cases}) for axis, value in AXES.items()}


def one_at_a_time(cases: Iterable[Case]) -> list[Case]:
    """Return the cases of one family and job with at most one axis off its middle value."""
    cases = list(cases)
    middle = {axis: statistics.median_low(values) for axis, values in axis_values(cases).items()}
    return [case for case in cases if sum(AXES[axis](case) != middle[axis] for axis in AXES) <= 1]


def cases(
    families: Sequence[str],
    widths: Sequence[float],
    resolutions: Sequence[int],
    batch_sizes: Sequence[int],
    stem_strides: Sequence[int],
    jobs: Sequence[str],
    sweep: bool = False,
) -> list[Case]:
    """Return every combination of values or, in a sweep, one axis varied at a time.

    Training with one image is left out: batch statistics require more than one value.

    Args:
        families: Of the nets.
        widths: Width multipliers.
        resolutions: Rows and columns of an image, in pixels.
        batch_sizes: Images in a batch.
        stem_strides: 1, 2 or both.
        jobs: train, predict or both.
        sweep: Vary one axis at a time, the others at their middle values.

    Raises:
        ConfigError: A value is not supported.
    """

    def combined(family: str, job: str) -> list[Case]:
        product = [
            Case(MobileNetConfig(family, width, resolution, 100, stem_stride=stem), batch, job)
            for width in widths
            for stem in stem_strides
            for resolution in resolutions
            for batch in batch_sizes
        ]
        return [case for case in product if job != "train" or case.batch_size > 1]

    combinations = [combined(family, job) for family in families for job in jobs]
    select = one_at_a_time if sweep else list
    return [case for group in combinations if group for case in select(group)]
