"""The cache of decoded image folders, so that a folder is decoded once and not in every process.

An entry is the file ``decoded/KEY.npz`` in `cache_dir`, the pixels of one split at one size. Its
key is a SHA-256 of what the pixels depend on; see `_key`. A file that is changed, replaced or added
changes the key, so an entry is never out of date: it is no longer asked for, and in time removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.cache import cache_dir
from pymobilenet.data.notices import Notify
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.files import atomic_write

BYTES_VARIABLE = "PYMOBILENET_CACHE_BYTES"
"""Environment variable: the largest size of all entries together in bytes; 0 for no cache."""

DEFAULT_BYTES = 8 * 10**9

FREE_BYTES = 2 * 10**9
"""What an entry leaves free on the disk."""

MIN_SECONDS = 1.0
"""Images that are decoded in less time are not kept: reading them would save less than that."""

_VERSION = 1
"""Of the format and of `decoding.decode`: to be raised when either gives other bytes."""

_HEADER_BYTES = 1024
"""What an entry takes at most beside the pixels."""

_PATTERNS = ("*.npz", ".*.npz.*.tmp")
"""Entries, and temporary files of processes that write one or were killed while they did."""


class DecodedImages:
    """The entry of some images in the cache, which need not exist.

    Nothing that is wrong with the cache is an error: then images are decoded again.

    Args:
        source: A folder or an archive of images.
        names: Names of the images in it.
        resolution: Side in pixels to which they are resized, or None.
        report: Called with a message when the entry is used or written, or cannot be.

    Raises:
        ConfigError: `BYTES_VARIABLE` is not a whole number of bytes.
    """

    def __init__(
        self, source: Path, names: Sequence[str], resolution: int | None, report: Notify
    ) -> None:
        self._source, self._names, self._resolution = source, names, resolution
        self._report, self._max_bytes = report, max_bytes()
        self._key = self._present_key()

    def read(self) -> NDArray[np.uint8] | None:
        """Return the images, (N, 3, H, W) in the order of the names; None if there is no entry."""
        path = self._path()
        if path is None:
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                images: NDArray[np.uint8] = arrays["images"]  # of a zip, which has checksums
            self._check(images)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # a damaged file can raise nearly anything
            reason = f"{type(error).__name__}: {error}"
            self._report(f"{self._source}: decoded again, {path} cannot be read ({reason})")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # entries that have not been used for longest are removed first
        self._report(f"{self._source}: {_size(images)} read from the cache, {path}")
        return images

    def write(self, images: NDArray[np.uint8]) -> None:
        """Keep images, and remove those that have not been used for longest if they are too many.

        Args:
            images: uint8 (N, 3, H, W), in the order of the names.
        """
        path = self._path()
        if path is None:
            return
        try:
            if self._present_key() != self._key:
                raise OSError("files changed while they were decoded")
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_space(path.parent, images.nbytes + _HEADER_BYTES, self._max_bytes)
            with atomic_write(path) as file:
                np.savez(file, images=images)
        except OSError as error:
            self._report(f"{self._source}: {_size(images)} not kept in the cache: {error}")
            return
        self._report(
            f"{self._source}: {_size(images)} kept in the cache for the next run, {path}; "
            f"{BYTES_VARIABLE}=0 keeps none"
        )

    def _path(self) -> Path | None:
        if self._key is None:
            return None
        try:
            return cache_dir() / "decoded" / f"{self._key}.npz"
        except DataError:  # an account without a home folder
            return None

    def _present_key(self) -> str | None:
        if not self._max_bytes:
            return None
        try:
            return _key(self._source, self._names, self._resolution)
        except OSError:  # a file that is gone: reading it says so
            return None

    def _check(self, images: np.ndarray) -> None:
        side = self._resolution
        is_sized = side is None or images.shape[2:] == (side, side)
        if images.dtype != np.uint8 or images.ndim != 4 or not is_sized:
            raise ValueError(f"{images.dtype} {images.shape}")
        if images.shape[:2] != (len(self._names), 3):
            raise ValueError(f"{images.shape} for {len(self._names)} names")


def max_bytes() -> int:
    """Return the largest size of all entries together, from `BYTES_VARIABLE`.

    Raises:
        ConfigError: It is not a whole number of at least 0.
    """
    text = os.environ.get(BYTES_VARIABLE) or str(DEFAULT_BYTES)
    if re.fullmatch("[0-9]{1,18}", text) is None:
        raise ConfigError(f"{BYTES_VARIABLE} must be a whole number of bytes. Received: {text!r}")
    return int(text)


def _key(source: Path, names: Sequence[str], resolution: int | None) -> str:
    """Return the SHA-256 of everything that decoded images depend on.

    That is: names and stamps of the files (of an archive, its own stamp), the resolution, and the
    versions of this module, of Pillow and of its decoders.

    Raises:
        OSError: A file cannot be found.
    """
    is_folder = source.is_dir()
    stamps = [_stamp(os.path.join(source, name)) for name in names] if is_folder else []
    content = [_VERSION, _decoders(), resolution, _stamp(source), list(names), stamps]
    if is_folder:
        content[3] = None  # the folder's own times do not matter
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stamp(path: str | Path) -> tuple[int, int, int]:
    """Return size and times of a file.

    The content may have been changed and the time of modification restored, as ``rsync`` and
    ``tar`` do; the time of the last change to the inode cannot be set.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _decoders() -> list[str | None]:
    import PIL
    from PIL import features

    modules = ("jpg", "zlib", "libtiff")
    return [PIL.__version__, *map(features.version, (*modules, "webp", "libjpeg_turbo"))]


def _make_space(folder: Path, size: int, limit: int) -> None:
    """Remove entries until another of `size` bytes fits the limit.

    Raises:
        OSError: It would not fit, or would fill the disk; then none is removed.
    """
    if size > limit:
        raise OSError(f"{BYTES_VARIABLE} is {limit} bytes")
    removed, freed = [], 0
    excess = sum(entry_size for _, entry_size, _ in entries(folder)) + size - limit
    for _, entry_size, path in entries(folder):
        if freed >= excess:
            break
        removed.append(path)
        freed += entry_size
    if (free := shutil.disk_usage(folder).free + freed) < size + FREE_BYTES:
        raise OSError(f"only {free / 1e9:.1f} GB are free on the disk of {folder}")
    for path in removed:
        path.unlink(missing_ok=True)


def entries(folder: Path) -> list[tuple[int, int, Path]]:
    """Return time of the last use in ns, size in bytes and path of each entry, oldest first.

    Args:
        folder: The folder of the entries.
    """
    found = []
    for path in (path for pattern in _PATTERNS for path in folder.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    return sorted(found)


def _size(images: np.ndarray) -> str:
    return f"{len(images):,} images ({images.nbytes / 1e6:,.1f} MB)"
