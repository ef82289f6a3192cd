"""Writing files so that nothing half-written is ever seen under the final name."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

from pymobilenet.errors import ConfigError

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""A disk, a largest size or a quota that is reached: the system then names no file."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` whole, or not at all.

    Bytes go to a temporary name in the same folder, are flushed to the disk and renamed; on an
    error the temporary file is removed and whatever stood at `path` before stays as it was.

    Raises:
        OSError: It cannot be written; the error names `path`, or the folder that is not there.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
        )
    except OSError as error:
        at = path if path.parent.is_dir() else path.parent
        raise OSError(error.errno, error.strerror, str(at)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_ours(error, temporary):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes that were killed while they wrote `path` left beside it.

    Nobody may be writing it now.
    """
    path = Path(path)
    for temporary in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def make_folder(path: str | Path) -> None:
    """Make a folder to write into, and those above it, where they are not there.

    Raises:
        ConfigError: Something else is there, or nothing can be written into it.
        OSError: It cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"a folder to write into must be a folder, or not be there yet. Received: {path}, "
            "which is a file or below one; choose another"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"a folder to write into must be writable. Received: {path}")


def _is_ours(error: OSError, temporary: str) -> bool:
    """Whether an error is of the file that is being written, and not of one that is read for it."""
    return error.filename == temporary or (error.filename is None and error.errno in NO_ROOM)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
