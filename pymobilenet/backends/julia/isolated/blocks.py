"""Arrays that two processes share: a file in memory, written by one and mapped by the other."""

from __future__ import annotations

import itertools
import math
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MEMORY_FOLDER = "/dev/shm"  # noqa: S108
"""Files here are never written to a disk. Elsewhere than on Linux the temporary folder is used."""

ALIGNMENT = 64

Description = Sequence[Any]
"""(file, [(name, dtype, shape, offset) of each array]), of JSON's types."""


def new_folder() -> Path:
    """Make a folder for the blocks of two processes, which one of them removes.

    Returns:
        A new folder, in memory where the system has such a place.
    """
    parent = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="pymobilenet-", dir=parent))


class Blocks:
    """The blocks that this process writes, one file for each set of arrays.

    Args:
        folder: Of both processes.
        prefix: Of this process's files.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix, self._numbers = folder, prefix, itertools.count()

    def write(self, arrays: Mapping[str, np.ndarray]) -> Description | None:
        """Copy arrays into a new block, in C order.

        Args:
            arrays: Name -> array.

        Returns:
            What `read` takes, or None if there are no arrays.
        """
        if not arrays:
            return None
        entries: list[tuple[str, str, tuple[int, ...], int]] = []
        size = 0
        for name, array in arrays.items():
            entries.append((name, array.dtype.str, array.shape, size))
            size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        path = self._folder / f"{self._prefix}{next(self._numbers)}"
        with path.open("wb+") as file:
            file.truncate(max(size, 1))
            memory = mmap.mmap(file.fileno(), max(size, 1))
        for entry, array in zip(entries, arrays.values(), strict=True):
            np.copyto(_view(memory, *entry[1:]), array)
        return str(path), entries


def read(description: Description | None) -> dict[str, np.ndarray]:
    """Map the arrays of a block and remove its file; they live as long as one is referenced.

    Args:
        description: What `Blocks.write` returned.

    Returns:
        Name -> array.
    """
    if description is None:
        return {}
    path, entries = description
    with open(path, "rb+") as file:
        memory = mmap.mmap(file.fileno(), 0)
    os.unlink(path)
    return {name: _view(memory, *entry) for name, *entry in entries}


def _view(memory: Any, dtype: str, shape: Sequence[int], offset: int) -> np.ndarray:
    flat = np.frombuffer(memory, np.dtype(dtype), math.prod(shape), offset)
    return flat.reshape(shape)
