"""Messages between two processes, in turns: values of JSON's types, and arrays in shared memory.

A message is written into a block, its place into four numbers that both processes see; then a byte
over a socket wakes the other process. The byte says nothing more, so that no message is lost by an
interrupt, wherever it comes.
"""

from __future__ import annotations

import json
import math
import socket
from collections import deque
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.julia.isolated.blocks import (
    Lease,
    ReadBlocks,
    WrittenBlocks,
    map_memory,
    new_memory,
)

ALIGNMENT = 64

CONTROL = "control"
"""The file of the numbers of each process: message, block, start and end of the JSON text."""

CONTROL_BYTES = 4096

WAKE = b"\0"


def new_control(folder: Path) -> None:
    """Create what the two ends of a channel share, before either is made.

    Args:
        folder: Of both processes.
    """
    new_memory(folder / CONTROL, CONTROL_BYTES)


class Channel:
    """An end of the connection: the process that asks, or the worker that answers.

    Args:
        connection: To the other process.
        folder: Of both processes, with `new_control`.
        is_worker: Whether this process answers.
    """

    def __init__(self, connection: socket.socket, folder: Path, is_worker: bool) -> None:
        self._connection, self._is_worker = connection, is_worker
        own, other = ("worker-", "python-") if is_worker else ("python-", "worker-")
        self._written, self._read = WrittenBlocks(folder, own), ReadBlocks(folder, other)
        control = map_memory(folder / CONTROL).view(np.int64)
        asking, answering = control[:4], control[8:12]
        self._own, self._other = (answering, asking) if is_worker else (asking, answering)
        self._received = 0
        self._dropped: deque[int] = deque()

    def send(self, value: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Send a value and arrays, which are copied into shared memory.

        Args:
            value: Of JSON's types.
            arrays: Name -> array.

        Raises:
            OSError: The other process has ended, or there is no space for the arrays.
        """
        message = int(self._own[0]) + 1
        dropped = [self._dropped[k] for k in range(len(self._dropped))]
        retired = list(self._written.retired)
        entries: list[tuple[str, str, tuple[int, ...], int]] = []
        start = 0
        for name, array in arrays.items():
            entries.append((name, array.dtype.str, array.shape, start))
            start += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        text = json.dumps([value, entries, dropped, retired]).encode()
        block = self._written.take(message, start + len(text))
        for (_, dtype, shape, offset), array in zip(entries, arrays.values(), strict=True):
            np.copyto(_view(block.memory, dtype, shape, offset), array)
        block.memory[start : start + len(text)] = np.frombuffer(text, np.uint8)
        self._own[1:] = block.number, start, start + len(text)
        self._own[0] = message  # from here on it is sent
        for _ in dropped:
            self._dropped.popleft()
        del self._written.retired[: len(retired)]
        self._connection.sendall(WAKE)

    def receive(self, timeout: float | None = None) -> tuple[Any, dict[str, np.ndarray]]:
        """Wait for the next message.

        Args:
            timeout: In seconds; None: for ever.

        Returns:
            A value, and arrays in shared memory, whose block is used again when all are dropped.

        Raises:
            EOFError: The other process has ended.
            OSError: The same.
            TimeoutError: There was no message in time.
        """
        self._connection.settimeout(timeout)
        while True:
            if not self._connection.recv(CONTROL_BYTES):
                raise EOFError("the other process has ended")
            if self._other[0] != self._received:
                break
            if self._is_worker:  # the other has not noticed the last answer
                self._connection.sendall(WAKE)
        message, number, start, end = self._other.tolist()
        lease = Lease(self._read.memory(number), partial(self._dropped.append, message))
        memory = np.asarray(lease)
        value, entries, dropped, retired = json.loads(memory[start:end].tobytes())
        for each in dropped:
            self._written.release(each)
        for each in retired:
            self._read.retire(each)
        self._received = message
        return value, {name: _view(memory, *entry) for name, *entry in entries}

    def finish(self, timeout: float | None = None) -> None:
        """Wait for the answer to a message whose sender did not wait for it, and drop it.

        Args:
            timeout: In seconds; None: for ever.

        Raises:
            EOFError: As `receive`.
            OSError: As `receive`.
            TimeoutError: As `receive`.
        """
        while self._own[0] != self._received:
            self._connection.sendall(WAKE)
            self.receive(timeout)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _view(memory: np.ndarray, dtype: str, shape: tuple[int, ...], offset: int) -> np.ndarray:
    size = np.dtype(dtype).itemsize * math.prod(shape)
    return memory[offset : offset + size].view(dtype).reshape(shape)
