"""Keep Python's signal handlers while libraries install their own."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
from collections.abc import Iterator

_JULIA_NEEDS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS", "SIGTRAP"}
"""Faults of the code itself. Julia uses SIGSEGV for its safepoints and its stack guards."""

_JULIA_USES = {"SIGUSR2", "SIGCHLD"}
"""Julia suspends threads and waits for child processes with these; a handler that Python had
before the start replaces Julia's, and without one Julia's stays."""

_SIGACTION_BYTES = 512
"""More than a ``struct sigaction`` of any system."""


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Put back, at the end, the handlers that the operating system had at the beginning.

    Python's own table of handlers does not notice when a library replaces them.
    """
    if sys.platform == "win32":
        yield
        return
    sigaction = ctypes.CDLL(None, use_errno=True).sigaction
    handlers = {}
    for number in signal.valid_signals():
        buffer = ctypes.create_string_buffer(_SIGACTION_BYTES)
        if _restored(number) and sigaction(number, None, buffer) == 0:
            handlers[number] = buffer
    try:
        yield
    finally:
        for number, buffer in handlers.items():
            sigaction(number, buffer, None)


def _restored(number: int) -> bool:
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        return True
    if name in _JULIA_USES:
        return signal.getsignal(number) not in (signal.SIG_DFL, None)
    return name not in _JULIA_NEEDS | {"SIGKILL", "SIGSTOP"}
