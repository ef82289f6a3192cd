"""The process of an isolated Julia, as the process that started it sees it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from pymobilenet import errors
from pymobilenet.backends.julia.isolated import blocks
from pymobilenet.backends.julia.isolated.worker import KEY_VARIABLE, receive, send
from pymobilenet.errors import BackendCrashed

WORKER = "pymobilenet.backends.julia.isolated.worker"

START_SECONDS = 1800.0
"""How long a worker may take to start: its first start may resolve and compile packages."""

LAST_LINES = 15
"""Lines of a crashed Julia's output that the error quotes."""


_Answer = tuple[Any, dict[str, np.ndarray]]


class _Exchange:
    """A request, sent and answered by `run`."""

    def __init__(self, run: Callable[[], _Answer]) -> None:
        self.run, self.answer = run, Future[_Answer]()


def _exchange_in_order(exchanges: SimpleQueue[_Exchange | None]) -> None:
    """Run exchanges until there is a None."""
    while (exchange := exchanges.get()) is not None:
        try:
            exchange.answer.set_result(exchange.run())
        except BaseException as error:
            exchange.answer.set_exception(error)
        del exchange  # and its arrays


class Process:
    """A worker process, its connection and its folder of blocks."""

    def __init__(self, environment: Mapping[str, str], timeout: float | None) -> None:
        self.folder, self._timeout = blocks.new_folder(), timeout
        self._exchanges: SimpleQueue[_Exchange | None] = SimpleQueue()
        threading.Thread(target=_exchange_in_order, args=(self._exchanges,), daemon=True).start()
        self._blocks = blocks.Blocks(self.folder, "python-")
        self._output = (self.folder / "output").open("wb+")
        key = secrets.token_bytes(32)
        address = str(self.folder / "socket")
        with Listener(address, "AF_UNIX", authkey=key) as listener:
            self.process = subprocess.Popen(
                [sys.executable, "-m", WORKER, address, str(self.folder)],
                env={**os.environ, **environment, KEY_VARIABLE: key.hex()},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
            )
            ending = (self.process, self.folder, self._exchanges)
            self._release = weakref.finalize(self, _end, *ending)
            self.connection = self._accept(listener)
        self._answer(START_SECONDS)

    def request(
        self, operation: str, arrays: Mapping[str, np.ndarray], arguments: Mapping[str, Any]
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Send a request and wait for its answer.

        This is done in a thread of its own, so that an interrupt ends the wait alone: the next
        request begins when this one has been answered.

        Args:
            operation: The name of an operation of the worker.
            arrays: Name -> array, copied into shared memory.
            arguments: Values of JSON's types.

        Returns:
            A value, and arrays in shared memory.

        Raises:
            BackendCrashed: The other process has ended or does not answer in time.
        """
        exchange = _Exchange(lambda: self._exchange(operation, arrays, arguments))
        self._exchanges.put(exchange)
        return exchange.answer.result()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def end(self) -> None:
        """End the process and remove its folder."""
        self._release()
        self._output.close()

    def _exchange(
        self, operation: str, arrays: Mapping[str, np.ndarray], arguments: Mapping[str, Any]
    ) -> _Answer:
        try:
            request = (operation, dict(arguments), self._blocks.write(arrays))
            send(self.connection, request)
        except (OSError, ValueError):
            raise self._crash("has ended") from None
        return self._answer(self._timeout)

    def _accept(self, listener: Listener) -> Connection:
        """Wait for the worker to connect; it might end before it does."""
        accepted: list[Connection] = []
        thread = threading.Thread(target=_accept_one, args=(listener, accepted), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if not self.is_alive and thread.is_alive():
                raise self._crash("has ended")
        return accepted[0]

    def _answer(self, timeout: float | None) -> _Answer:
        try:
            if not self.connection.poll(timeout):
                self.process.kill()
                raise self._crash(f"did not answer within {timeout:g} s and was ended")
            is_done, value, description = receive(self.connection)
        except (EOFError, OSError):
            raise self._crash("has ended") from None
        if not is_done:
            name, text = value
            error_class = getattr(errors, name, None)
            if error_class is None:
                raise errors.JuliaError(f"{name}: {text}")
            raise error_class(text)
        return value, blocks.read(description)

    def _crash(self, what: str) -> BackendCrashed:
        """The error of a worker that has ended, with how it ended and what it wrote last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        status = self.process.poll()
        how = f", status {status}"
        if status is not None and status < 0:
            how = f", by {signal.Signals(-status).name}"
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        said = ". It wrote last:\n" + "\n".join(lines) if lines else ""
        return BackendCrashed(f"the process of the isolated Julia {what}{how}{said}")


def _accept_one(listener: Listener, accepted: list[Connection]) -> None:
    with contextlib.suppress(OSError):
        accepted.append(listener.accept())


def _end(process: subprocess.Popen, folder: Path, exchanges: SimpleQueue[_Exchange | None]) -> None:
    exchanges.put(None)
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
