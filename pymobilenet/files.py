"""Writing files so that nothing half-written is ever seen under the final name."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from pymobilenet.errors import ConfigError

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""A disk, a largest size or a quota that is reached: the system then names no file."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` whole, or not at all.

    Bytes are written to a temporary file in the same folder, flushed to the disk and renamed. On an
    error the temporary file is removed and whatever was at `path` before stays as it was.

    A symbolic link stays a link: the file it points to is replaced, or created. A file that is
    replaced keeps its permission bits, and its owner where the process may set one; it becomes a
    new file, so other hard links to the old one keep the old content.

    Args:
        path: The file to write.

    Yields:
        The open temporary file.

    Raises:
        OSError: `path` cannot be written; the error names `path`, or the folder that is missing.
            Also if `path` is a folder, or a named pipe, device or socket, which are not replaced.
    """
    path = Path(path)
    replaced = _replaceable(path)
    target = Path(os.path.realpath(path))
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
        )
    except OSError as error:
        at = path if target.parent.is_dir() else target.parent
        raise OSError(error.errno, error.strerror, str(at)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask() if replaced is None else replaced.st_mode & 0o7777)
        if replaced is not None:
            _keep_owner(temporary, replaced)
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_ours(error, temporary):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _replaceable(path: Path) -> os.stat_result | None:
    """The status of the regular file at `path`, links followed; None if there is none.

    Raises:
        OSError: Something that is not a regular file is there.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise OSError(
            errno.EEXIST,
            f"an output must be a regular file or a new one. Received: {kind}",
            str(path),
        )
    return status


def _keep_owner(temporary: str, replaced: os.stat_result) -> None:
    if hasattr(os, "chown") and (replaced.st_uid, replaced.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(PermissionError):
            os.chown(temporary, replaced.st_uid, replaced.st_gid)


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
