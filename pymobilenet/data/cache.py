"""Where downloaded and unpacked data lives, and archives unpacked into it once."""

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
    """Return the folder for data: $PYMOBILENET_DATA, or `pymobilenet` in the user's cache.

    The user's cache is $XDG_CACHE_HOME or ~/.cache, %LOCALAPPDATA% on Windows, ~/Library/Caches
    on macOS. The folder need not exist yet.
    """
    if chosen := os.environ.get("PYMOBILENET_DATA"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pymobilenet"


def unpacked(archive: Path, names: Collection[str], check: Callable[[Path], object]) -> Path:
    """Return a folder in the cache with the members of `archive` called one of `names`.

    The folder is named after the archive's sha256, made at the first call and found by the later
    ones. It appears whole, and only after `check(folder)` has raised nothing.

    Raises:
        DataError: an archive that is refused (see `read_members`) or a cache that cannot be
            written; and whatever `check` raises.
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
        _settle(temporary, final)
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into the cache {final}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _settle(temporary: Path, final: Path) -> None:
    temporary.chmod(0o755)
    try:
        temporary.rename(final)
    except OSError:
        if not final.is_dir():  # else another process unpacked the same archive meanwhile
            raise
