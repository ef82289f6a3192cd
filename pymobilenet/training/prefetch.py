"""Batches that are formed in a thread while the model takes a step."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from pymobilenet.backends.batch import Batch
from pymobilenet.training.batches import Batches


class Prefetch:
    """Forms the batch of the next step in a thread while the present step is taken.

    A batch is a function of its step, so it is the same with and without a thread, which calls
    NumPy only. The thread ends with the ``with`` block, whatever ends that.

    Args:
        batches: The batches.
        stop: The step before which the last batch is needed.

    Attributes:
        wait_seconds (float): For how long `at` was waited for, in all.

    Examples:
        >>> from pymobilenet import MobileNetConfig, TrainConfig
        >>> from pymobilenet.data import synthetic
        >>> data, train = synthetic(16, num_classes=5), TrainConfig(batch_size=8)
        >>> batches = Batches(data, train, MobileNetConfig(num_classes=5), "float32")
        >>> with Prefetch(batches, stop=2) as prefetch:
        ...     [prefetch.at(step).images.shape for step in range(2)]
        [(8, 3, 32, 32), (8, 3, 32, 32)]
    """

    def __init__(self, batches: Batches, stop: int) -> None:
        self._batches, self._stop = batches, stop
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Batch]] | None = None
        self._process = os.getpid()
        self.wait_seconds = 0.0

    def __enter__(self) -> Prefetch:
        self._pool = ThreadPoolExecutor(1, "pymobilenet-batches")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pool, self._pool, self._next = self._pool, None, None
        if pool is not None and self._process == os.getpid():  # a fork has no thread to end
            pool.shutdown(cancel_futures=True)

    def at(self, step: int) -> Batch:
        """Return the batch of a step, and begin to form that of the next one.

        Args:
            step: Number of the step, from 0.

        Returns:
            As `Batches.at`.
        """
        start = time.perf_counter()
        if self._process != os.getpid():  # a fork has no thread
            self._pool = self._next = None
        following, self._next = self._next, None
        if following is not None and following[0] == step:
            batch = following[1].result()
        else:
            batch = self._batches.at(step)
        self.wait_seconds += time.perf_counter() - start
        if self._pool is not None and step + 1 < self._stop:
            with contextlib.suppress(RuntimeError):  # no thread can be started, as at exit
                self._next = step + 1, self._pool.submit(self._batches.at, step + 1)
        return batch
