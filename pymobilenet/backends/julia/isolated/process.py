"""The process of an isolated Julia, as the process that started it sees it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import errors
from pymobilenet.backends.julia.isolated.blocks import new_folder
from pymobilenet.backends.julia.isolated.channel import Channel, new_control
from pymobilenet.backends.julia.project import print_status
from pymobilenet.errors import BackendCrashed

WORKER = "pymobilenet.backends.julia.isolated.worker"

START_SECONDS = 1800.0
"""How long a worker may take to start: its first start may resolve and compile packages."""

NOTICE_SECONDS = 20.0
"""How long it may take without a message."""

LAST_LINES = 15
"""Lines of a crashed Julia's output that the error quotes."""

CRASH = re.compile(r"(\[\d+\] )?signal [\d(). ]+: ")
"""The line by which Julia says what has happened; many lines of a stack may follow."""


class Process:
    """A worker process, its connection and its folder of blocks.

    Args:
        environment: Variables that it has in addition to those of this process.
        timeout: Seconds after which a request is given up and the process ended; None: never.

    Raises:
        BackendCrashed: The process ends while it starts.
        BackendUnavailable: Julia does not start there.

    Attributes:
        about (dict): What the operation ``versions`` returns.
        owner (int): The number of the process that may use this object; its forks may not.
    """

    def __init__(self, environment: Mapping[str, str], timeout: float | None) -> None:
        self.folder, self.owner, self._timeout = new_folder(), os.getpid(), timeout
        self._output = (self.folder / "output").open("wb+")
        new_control(self.folder)
        own, other = socket.socketpair()
        self._channel = Channel(own, self.folder, is_worker=False)
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(other.fileno()), str(self.folder)],
                env={**os.environ, **environment},
                pass_fds=[other.fileno()],
                process_group=0,  # Ctrl-C is for this process alone
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
            )
        self._release = weakref.finalize(self, _end, self.process, self.folder, self.owner)
        notice = threading.Timer(NOTICE_SECONDS, print_status, [self._notice()])
        notice.daemon = True
        notice.start()
        try:
            self.about, _ = self._exchange("versions", {}, {}, [], START_SECONDS)
        except BaseException:
            self.end()
            raise
        finally:
            notice.cancel()

    def request(
        self,
        operation: str,
        arrays: Mapping[str, np.ndarray],
        arguments: Mapping[str, Any],
        dropped: list[int],
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Send a request and wait for its answer.

        An interrupt ends the wait alone: the next request begins when this one has been answered.

        Args:
            operation: The name of an operation of the worker.
            arrays: Name -> array, copied into shared memory.
            arguments: Values of JSON's types.
            dropped: Numbers of models that are not used any more.

        Returns:
            A value, and arrays in shared memory.

        Raises:
            BackendCrashed: The other process has ended or does not answer in time.
        """
        return self._exchange(operation, arrays, arguments, dropped, self._timeout)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def end(self) -> None:
        """End the process and remove its folder."""
        self._release()
        self._output.close()
        self._channel.close()

    def _notice(self) -> str:
        return (
            "the isolated Julia has not started yet. It takes minutes where packages must be "
            f"compiled. Its output: {self._output.name}"
        )

    def _exchange(
        self,
        operation: str,
        arrays: Mapping[str, np.ndarray],
        arguments: Mapping[str, Any],
        dropped: list[int],
        timeout: float | None,
    ) -> tuple[Any, dict[str, np.ndarray]]:
        try:
            self._channel.finish(timeout)
            self._channel.send([operation, arguments, dropped], arrays)
            (is_done, value), results = self._channel.receive(timeout)
        except TimeoutError:
            self.process.kill()
            raise self._crash(f"did not answer within {timeout:g} s and was ended") from None
        except (EOFError, ConnectionError):
            raise self._crash("has ended") from None
        if not is_done:
            name, text = value
            error_class = getattr(errors, name, None)
            if error_class is None:
                raise errors.JuliaError(f"{name}: {text}")
            raise error_class(text)
        return value, results

    def _crash(self, what: str) -> BackendCrashed:
        """The error of a worker that has ended, with how it ended and what it wrote last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        status = self.process.poll()
        how = f", status {status}"
        if status is not None and status < 0:
            how = f", by {signal.Signals(-status).name}"
        self._output.seek(0)
        lines = last_words(self._output.read().decode(errors="replace"))
        said = ". It wrote last:\n" + "\n".join(lines) if lines else ""
        return BackendCrashed(f"the process of the isolated Julia {what}{how}{said}")


def last_words(output: str) -> list[str]:
    """Return the lines of a process's output that tell best why it has ended.

    Args:
        output: All that it has written.
    """
    lines = output.splitlines()
    crashes = [number for number, line in enumerate(lines) if CRASH.match(line)]
    start = crashes[-1] if crashes else -LAST_LINES
    return lines[start:][:LAST_LINES]


def _end(process: subprocess.Popen, folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork that ends
        return
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
