"""The cache folder of downloaded and unpacked data."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from pymobilenet.data.archive import read_members
from pymobilenet.errors import DataError
from pymobilenet.files import atomic_write


def cache_dir() -> Path:
    """Return the cache folder: $PYMOBILENET_DATA, or ``pymobilenet`` in the user's cache folder.

    The user's cache folder is $XDG_CACHE_HOME or ~/.cache, %LOCALAPPDATA% on Windows,
    ~/Library/Caches on macOS. The returned folder need not exist.

    Raises:
        DataError: The account has no home folder.
    """
    if folder := os.environ.get("PYMOBILENET_DATA"):
        return Path(folder).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "pymobilenet"
    except RuntimeError:
        raise DataError(
            "this account has no home folder to keep data in: set PYMOBILENET_DATA to a folder"
        ) from None


def unpacked(archive: Path, names: Collection[str], check: Callable[[Path], object]) -> Path:
    """Unpack members of an archive into the cache, once.

    The folder is named after the archive's SHA-256. It is created atomically, after `check` has
    succeeded; later calls return it.

    Args:
        archive: A tar archive.
        names: Base names of the members.
        check: Called with the unpacked folder; raises if its content is invalid.

    Returns:
        The folder in the cache.

    Raises:
        DataError: The archive is invalid (see `read_members`), the cache is not writable, or
            `check` fails.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    final = cache_dir() / digest[:16]
    if final.is_dir():
        return final
    members = read_members(archive, names)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise DataError(
            f"cannot unpack {archive} into the cache {final.parent} ({error}); "
            "set PYMOBILENET_DATA to a folder that can be written"
        ) from error
    try:
        for name, content in members.items():
            with atomic_write(temporary / name) as file:
                file.write(content)
        try:
            check(temporary)
        except DataError as error:
            raise DataError(f"{archive}: {error}") from error
        _rename(temporary, final)
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into the cache {final}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _rename(temporary: Path, final: Path) -> None:
    temporary.chmod(0o755)
    try:
        temporary.rename(final)
    except OSError:
        if not final.is_dir():  # else another process unpacked the same archive meanwhile
            raise
