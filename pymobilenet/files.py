"""Atomic file writing."""

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

DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Errors of a full disk, a size limit or a quota, for which the system names no file."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Write a binary file atomically: it appears at `path` completely, or not at all.

    Bytes are written to a temporary file in the same folder, flushed to the disk and renamed. On an
    error the temporary file is removed and an existing file at `path` is unchanged.

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
        culprit = path if target.parent.is_dir() else target.parent
        raise OSError(error.errno, error.strerror, str(culprit)) from None
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
        if isinstance(error, OSError) and _concerns(error, temporary):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _replaceable(path: Path) -> os.stat_result | None:
    """Return the status of the regular file at `path`, following links; None if there is none."""
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
    """Remove temporary files of processes that were killed while they wrote `path`.

    No process may be writing the file during the call.

    Args:
        path: The file that was to be written.
    """
    path = Path(path)
    for temporary in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def make_folder(path: str | Path) -> None:
    """Create a folder and its parents if they do not exist.

    Args:
        path: The folder.

    Raises:
        ConfigError: `path` is a file or below a file, or the folder is not writable.
        OSError: The folder cannot be created.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"the output folder must be a folder or a new path. Received: {path}, which is a file "
            "or below a file. Choose another path"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"the output folder must be writable. Received: {path}")


def _concerns(error: OSError, temporary: str) -> bool:
    """Whether an error concerns the temporary file, and not another file used in the block."""
    return error.filename == temporary or (error.filename is None and error.errno in DISK_FULL)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


MAX_TEXT_BYTES = 16 << 20
"""Largest text file that is read: a thousand times the longest list of class names."""


def check_regular(path: str | Path) -> os.stat_result:
    """Check that a path is that of a regular file: a pipe or a device might never end.

    Args:
        path: Of the file; links are followed.

    Returns:
        Its status.

    Raises:
        ConfigError: A folder, pipe, device or socket.
        OSError: There is no such file.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} must be a regular file. Received: {_file_kind(status.st_mode)}")
    return status


def read_text_file(path: str | Path) -> str:
    """Read a UTF-8 text file that a user names.

    Args:
        path: A regular file of at most `MAX_TEXT_BYTES`; links are followed.

    Returns:
        The text.

    Raises:
        ConfigError: A folder, pipe, device or socket, or a larger file.
        OSError: The file cannot be read.
        UnicodeDecodeError: The file is not UTF-8.
    """
    path = Path(path)
    status = check_regular(path)
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise ConfigError(
            f"{path} must be a text of at most {MAX_TEXT_BYTES} bytes. "
            f"Received: {max(status.st_size, len(content))} bytes"
        )
    return content.decode("utf-8")


def _file_kind(mode: int) -> str:
    kinds = {"a folder": stat.S_ISDIR, "a named pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((kind for kind, is_kind in kinds.items() if is_kind(mode)), "a device")
