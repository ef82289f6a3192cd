"""Timing jobs side by side: in turns, so that what else the machine does meets all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.architecture import mult_adds
from pymobilenet.bench.contenders import Contender, Job
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError

JOBS = ("train", "predict")

WARM_UP = 2
"""Runs before the first that counts: compilation, buffers, caches."""

PAUSE = 0.1
"""Seconds before each turn, in which the threads of the one before fall asleep: OpenMP's and ONNX
Runtime's go on spinning for a while, on the cores that are to be measured."""

LEAST_SECONDS = 0.02
"""A measurement repeats a shorter job until it has taken so long."""

MOST_SECONDS, LEAST_REPEATS = 20.0, 3
"""What would take longer than this in all is measured less often, but so often at least."""


@dataclass(frozen=True)
class Case:
    """What is measured: a net on batches of one size, in training or inference.

    Raises:
        ConfigError: A batch of no image, or a job that is not one of `JOBS`.
    """

    config: MobileNetConfig
    batch_size: int
    job: str

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1. Received: {self.batch_size}")
        if self.job not in JOBS:
            raise ConfigError(f"job must be one of {', '.join(JOBS)}. Received: {self.job!r}")

    def __str__(self) -> str:
        c = self.config
        return (
            f"{self.job}, {c.family}, alpha {c.width_mult:g}, stem {c.stem_stride}, "
            f"{c.resolution}x{c.resolution}, batch {self.batch_size}"
        )

    @property
    def operations(self) -> float:
        """Floating-point operations of one run: two for each multiply-add, three times as many in
        training, where each is met again for the input's gradient and for the weight's."""
        passes = 3 if self.job == "train" else 1
        return 2.0 * passes * self.batch_size * mult_adds(self.config)


@dataclass(frozen=True)
class Timing:
    """Seconds of one run of a job, one for each repeat.

    `allocated` are the bytes that one run makes a garbage collector take up, where there is one.
    """

    case: Case
    contender: str
    seconds: tuple[float, ...]
    allocated: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, over the median."""
        low, high = np.quantile(self.seconds, [0.25, 0.75])
        return float(high - low) / 2 / self.median

    @property
    def images_per_second(self) -> float:
        return self.case.batch_size / self.median

    @property
    def gflops(self) -> float:
        return self.case.operations / self.median / 1e9


def measure(
    case: Case,
    contenders: Sequence[Contender],
    repeats: int = 9,
    advance: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time one case for each contender that does such jobs, all in turns, `repeats` times.

    A turn is a pause, a run that does not count, and one that does.
    """
    rng = np.random.default_rng(0)
    shape = (case.batch_size, case.config.in_channels, *[case.config.resolution] * 2)
    images = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, case.config.num_classes, case.batch_size)
    jobs = {
        contender.name: make(case.config, images, labels)
        for contender in contenders
        if (make := getattr(contender, case.job)) is not None
    }
    once = {name: _warm_up(job) for name, job in jobs.items()}
    meters = {one.name: one.allocated for one in contenders}
    allocated_bytes = {name: _allocated(job, meters[name]) for name, job in jobs.items()}
    found: dict[str, list[float]] = {name: [] for name in jobs}
    gc.collect()
    for number in range(repeats):
        for name, job in jobs.items():
            if number < max(LEAST_REPEATS, MOST_SECONDS / once[name]):
                count = max(1, round(LEAST_SECONDS / once[name]))
                time.sleep(PAUSE)
                job()  # as in a loop of its own: with its data in the caches, its threads awake
                found[name].append(_seconds(job, count))
        advance()
    return [Timing(case, name, tuple(found[name]), allocated_bytes[name]) for name in jobs]


def _warm_up(job: Job) -> float:
    """Seconds of one run, of a job that has its buffers and caches."""
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
    """The values on each of `AXES`, in order."""
    known = list(cases)
    return {axis: sorted({value(case) for case in known}) for axis, value in AXES.items()}


def one_at_a_time(cases: Iterable[Case]) -> list[Case]:
    """Those cases of one family and job that are off the middle value of one axis at most."""
    known = list(cases)
    middle = {axis: statistics.median_low(found) for axis, found in axis_values(known).items()}
    return [case for case in known if sum(AXES[axis](case) != middle[axis] for axis in AXES) <= 1]


def cases(
    families: Sequence[str],
    widths: Sequence[float],
    resolutions: Sequence[int],
    batch_sizes: Sequence[int],
    stem_strides: Sequence[int],
    jobs: Sequence[str],
    sweep: bool = False,
) -> list[Case]:
    """Every combination or, in a `sweep`, one axis varied at a time.

    Training needs more than one image where the last map has one pixel.

    Raises:
        ConfigError: A value that no case can have.
    """

    def combined(family: str, job: str) -> list[Case]:
        every = [
            Case(MobileNetConfig(family, width, resolution, 100, stem_stride=stem), batch, job)
            for width in widths
            for stem in stem_strides
            for resolution in resolutions
            for batch in batch_sizes
        ]
        return [case for case in every if job != "train" or case.batch_size > 1]

    combinations = [combined(family, job) for family in families for job in jobs]
    chosen = one_at_a_time if sweep else list
    return [case for found in combinations if found for case in chosen(found)]
