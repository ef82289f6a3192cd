"""Memory that two processes share: blocks that one writes and the other reads.

A block is used again when the reader has dropped its arrays: a new one costs both processes a page
fault for every 4096 bytes.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

MEMORY_FOLDER = "/dev/shm"  # noqa: S108
"""Files here are never written to a disk. Elsewhere than on Linux the temporary folder is used."""

MAX_FREE = 8
"""Blocks that are kept for later messages."""


def new_folder() -> Path:
    """Make a folder for the blocks of two processes, which one of them removes.

    Returns:
        A new folder, in memory where the system has such a place.
    """
    parent = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="pymobilenet-", dir=parent))


def new_memory(path: Path, size: int) -> np.ndarray:
    """Create a file and map it.

    Where the memory folder is full (Docker gives it 64 MB), the path becomes a link to a file in
    the temporary folder.

    Args:
        path: The file.
        size: In bytes, at least 1.

    Returns:
        uint8 (size,), zeros.

    Raises:
        OSError: There is no space in the temporary folder, either.
    """
    try:
        return _created(path, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    path.unlink()
    descriptor, name = tempfile.mkstemp(prefix="pymobilenet-")
    os.close(descriptor)
    elsewhere = Path(name)
    try:
        memory = _created(elsewhere, size)
    except OSError as error:
        elsewhere.unlink()
        raise OSError(error.errno, f"no space for {size} bytes", str(elsewhere.parent)) from None
    path.symlink_to(elsewhere)
    return memory


def map_memory(path: Path) -> np.ndarray:
    """Map a file that the other process has created.

    Args:
        path: The file, or a link to it.

    Returns:
        uint8, as many as the file has bytes.
    """
    with path.open("rb+") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)


def _created(path: Path, size: int) -> np.ndarray:
    with path.open("wb+") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # or a write would end the process
        else:
            file.truncate(size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)


class Block(NamedTuple):
    """A block that this process writes.

    Attributes:
        number: Which says its name.
        memory: uint8.
    """

    number: int
    memory: np.ndarray


class WrittenBlocks:
    """The blocks that this process writes.

    Args:
        folder: Of both processes.
        prefix: Of this process's files.

    Attributes:
        retired (list): The numbers of blocks that are never written again.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix, self._numbers = folder, prefix, itertools.count()
        self._free: list[Block] = []
        self._used: dict[int, Block] = {}
        self.retired: list[int] = []

    def take(self, message: int, size: int) -> Block:
        """Return a block for a message.

        Args:
            message: The number of the message, for `release`.
            size: The least number of bytes.
        """
        self.release(message)  # which an interrupt may have left unfinished
        fitting = [block for block in self._free if len(block.memory) >= size]
        if fitting:
            block = min(fitting, key=lambda each: len(each.memory))
            self._free.remove(block)
        else:
            number = next(self._numbers)
            size = -(-(size + size // 8) // mmap.PAGESIZE) * mmap.PAGESIZE  # for a larger message
            block = Block(number, new_memory(self._folder / f"{self._prefix}{number}", size))
        self._used[message] = block
        return block

    def release(self, message: int) -> None:
        """Let the block of a message be written again; nothing happens if it was before.

        Args:
            message: The number of the message.
        """
        block = self._used.pop(message, None)
        if block is None:
            return
        self._free.append(block)
        if len(self._free) > MAX_FREE:
            self.retired.append(self._free.pop(0).number)


class ReadBlocks:
    """The blocks that the other process writes.

    Args:
        folder: Of both processes.
        prefix: Of the other process's files.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._memory: dict[int, np.ndarray] = {}

    def memory(self, number: int) -> np.ndarray:
        """Return a block, uint8; its file is removed as soon as it is mapped.

        Args:
            number: Of the block.
        """
        if number not in self._memory:
            path = self._folder / f"{self._prefix}{number}"
            self._memory[number] = map_memory(path)
            path.resolve().unlink()
            path.unlink(missing_ok=True)
        return self._memory[number]

    def retire(self, number: int) -> None:
        """Give a block up; its memory is unmapped when no array refers to it.

        Args:
            number: Of the block.
        """
        self._memory.pop(number, None)


class Lease:
    """The memory of a block, as NumPy's array interface; tells when no array refers to it.

    Args:
        memory: uint8.
        release: Is called then, by any thread.
    """

    def __init__(self, memory: np.ndarray, release: Callable[[], None]) -> None:
        self._memory, self._release = memory, release
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        if hasattr(self, "_release"):  # or it was interrupted while it was made
            self._release()
