"""Keep Python's signal handlers while libraries install their own."""

from __future__ import annotations

import ctypes
import signal
import sys

_JULIA_NEEDS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS", "SIGTRAP"}
"""Faults of the code itself. Julia uses SIGSEGV for its safepoints and its stack guards."""

_JULIA_USES = {"SIGUSR2", "SIGCHLD"}
"""Julia suspends threads and waits for child processes with these; a handler that Python had
before the start replaces Julia's, and without one Julia's stays."""

_SIGACTION_BYTES = 512
"""More than a ``struct sigaction`` of any system."""


class SignalHandlers:
    """The handlers that the operating system has when this object is made.

    Python's own table of handlers does not notice when a library replaces them.
    """

    def __init__(self) -> None:
        self._handlers = {}
        if sys.platform == "win32":
            return
        self._sigaction = ctypes.CDLL(None, use_errno=True).sigaction
        for number in signal.valid_signals():
            buffer = ctypes.create_string_buffer(_SIGACTION_BYTES)
            if _restored(number) and self._sigaction(number, None, buffer) == 0:
                self._handlers[number] = (signal.getsignal(number), buffer)

    def restore(self) -> None:
        """Install them again, except where Python has set another handler meanwhile."""
        for number, (handler, buffer) in self._handlers.items():
            if signal.getsignal(number) is handler:
                self._sigaction(number, buffer, None)


def _restored(number: int) -> bool:
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        return True
    if name in _JULIA_USES:
        return signal.getsignal(number) not in (signal.SIG_DFL, None)
    return name not in _JULIA_NEEDS | {"SIGKILL", "SIGSTOP"}
