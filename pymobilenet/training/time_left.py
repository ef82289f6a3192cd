"""The time that a run still takes, estimated from what this process has measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

RECENT = 3
"""Number of epochs that the estimate is computed from, the present one included."""


class TimeLeft:
    """Estimates the time that a run still takes.

    A step and an evaluation are expected to take as long as in the last `RECENT` epochs. Times are
    the differences of a clock between two calls, so that loading batches and writing checkpoints
    are included. Only this process is measured: in a resumed run, other processes may have run on
    another machine. Its first step is not counted once there are others, because it may include a
    compilation.

    Args:
        steps_per_evaluation: Expected duration of an evaluation in steps, used until one has been
            measured.
        clock: Returns seconds.
    """

    def __init__(
        self, steps_per_evaluation: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._steps_per_evaluation, self._clock = steps_per_evaluation, clock
        self._last = clock()
        self._first_step: float | None = None
        self._steps: deque[tuple[int, float]] = deque([(0, 0.0)], RECENT)
        self._evaluations: deque[float] = deque(maxlen=RECENT)

    def end_step(self) -> None:
        """Measure a step that ends now."""
        seconds = self._lap()
        if self._first_step is None:
            self._first_step = seconds
        else:
            count, total = self._steps[-1]
            self._steps[-1] = (count + 1, total + seconds)

    def end_epoch(self) -> None:
        """Measure the evaluation, with everything else that ends an epoch, which ends now."""
        self._evaluations.append(self._lap())
        self._steps.append((0, 0.0))

    def seconds(self, steps: int, evaluations: int) -> float | None:
        """Return the expected time in seconds.

        Args:
            steps: Number of steps that are left.
            evaluations: Number of evaluations that are left.

        Returns:
            The time; None before the first step.
        """
        count = sum(count for count, _ in self._steps)
        total = sum(total for _, total in self._steps)
        step = total / count if count else self._first_step
        if step is None:
            return None
        if self._evaluations:
            evaluation = sum(self._evaluations) / len(self._evaluations)
        else:
            evaluation = step * self._steps_per_evaluation
        return steps * step + evaluations * evaluation

    def _lap(self) -> float:
        last, self._last = self._last, self._clock()
        return self._last - last
