"""The lock of a run's folder: one process at a time writes it."""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from pathlib import Path

from pymobilenet.errors import RunLocked

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
"""The locked file; it holds the name of the process that locked it, and is removed at the end."""

MAX_NAME = 200
"""Bytes of the file that a message shows."""


class RunLock:
    """An exclusive lock (flock) of a run's folder.

    The system releases the lock when the process ends, however it ends. Where there is no flock
    (Windows, some network file systems), folders are not locked.

    Args:
        folder: Of a run; it must exist.

    Raises:
        RunLocked: Another process, or another run of this process, has locked it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._release: weakref.finalize | None = None
        if fcntl is None:
            return
        descriptor = _open_locked(self._path)
        if descriptor is not None:
            os.truncate(descriptor, 0)
            text = f"process {os.getpid()} on {socket.gethostname()}"
            os.write(descriptor, text.encode())
            self._release = weakref.finalize(self, _release, self._path, descriptor, os.getpid())

    def release(self) -> None:
        """Release the lock; further calls do nothing."""
        if self._release is not None:
            self._release()


def _open_locked(path: Path) -> int | None:
    """Return a descriptor of the locked file at `path`, None where locks are not supported."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, MAX_NAME, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise RunLocked(
                f"{path.parent} must be written by one process at a time; {owner} trains there "
                "now. Wait until it ends or stop it, or choose another folder"
            ) from None
        except OSError:
            os.close(descriptor)
            return None
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # the process that had locked it has removed it meanwhile


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path: Path, descriptor: int, process: int) -> None:
    if os.getpid() == process:  # a fork has the descriptor too, and must leave the file
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(descriptor)
