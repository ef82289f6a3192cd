"""The threads that call Julia, and when they may.

A thread that Julia does not know is adopted by its first call.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from pymobilenet.errors import BackendUnavailable

T = TypeVar("T")

MAX_ADOPTED_THREADS = 64
"""Threads that call Julia directly. Julia keeps 0.7 MB of an adopted thread even after its end, so
later threads hand their calls over to `WORKERS` threads."""

WORKERS = 8

EXIT_SECONDS = 10.0
"""How long the end of the process waits for calls that are running."""

ENDING = "Julia is not available while the process ends"


class CallingThreads:
    """The threads of this process that run Julia code, and whether they may.

    A fork has none of Julia's threads, so every call in it is refused.

    Attributes:
        is_started (bool): Whether Julia runs in this process, or is being started.
        immortal_in_forks (list): Objects of juliacall. Julia code would run when a fork that ends
            deallocates them.
    """

    def __init__(self) -> None:
        self.is_started = False
        self._process = os.getpid()
        self._local = threading.local()
        self._adopted = 0
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._closed = ""
        self._workers: ThreadPoolExecutor | None = None
        self.immortal_in_forks: list[Any] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close_fork)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a C function of Julia's in this thread or, where it is one too many, in a worker.

        Args:
            function: The C function.
            arguments: Its arguments.

        Returns:
            What it returns.

        Raises:
            BackendUnavailable: This process is a fork, or it ends.
        """
        if self._closed:
            self.check()
        if not getattr(self._local, "is_adopted", False) and not self._adopt():
            return self._hand_over(function, arguments)
        thread = threading.get_ident()
        self._running.add(thread)
        try:
            return function(*arguments)
        finally:
            self._running.discard(thread)

    def check(self) -> None:
        """Raise `BackendUnavailable` in a fork, and while the process ends.

        While it ends, other threads than the main one wait for the end, as Python's daemon threads
        do.

        Raises:
            BackendUnavailable: This process is a fork, or it ends.
        """
        if not self._closed:
            return
        is_main = threading.current_thread() is threading.main_thread()
        if self._process == os.getpid() and not is_main:
            threading.Event().wait()
        raise BackendUnavailable(self._closed)

    def close(self) -> bool:
        """Refuse further calls and wait for those that are running.

        Returns:
            Whether none is left.
        """
        self._closed = self._closed or ENDING
        if self._process != os.getpid():
            return False
        waited = threading.Event()
        for _ in range(int(EXIT_SECONDS / 0.02)):
            if not self._running:
                return True
            waited.wait(0.02)
        return not self._running

    def _adopt(self) -> bool:
        with self._lock:
            if self._adopted >= MAX_ADOPTED_THREADS:
                return False
            self._adopted += 1
        self._local.is_adopted = True
        return True

    def _hand_over(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(WORKERS, "julia", self._adopt_worker)
        try:
            future = self._workers.submit(self.run, function, *arguments)
        except RuntimeError:  # of a pool whose process ends
            self._closed = self._closed or ENDING
            self.check()
            raise
        interrupts: list[BaseException] = []
        while not future.done():  # the call uses this caller's memory: it has to end first
            try:
                wait([future])
            except BaseException as interrupt:
                interrupts.append(interrupt)
        if interrupts:
            raise interrupts[0]
        return future.result()

    def _adopt_worker(self) -> None:
        self._local.is_adopted = True

    def _close_fork(self) -> None:
        if not self.is_started:
            self._process = os.getpid()
            return
        for julia_object in self.immortal_in_forks:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(julia_object))
        self._closed = (
            "Julia was started before this process was forked, and its threads are not in the "
            'fork. Start processes with multiprocessing.get_context("spawn") or "forkserver", or '
            "use the Julia backend in the first process only"
        )


THREADS = CallingThreads()
