"""Read members of a tar archive as a stream, with a size limit. Nothing is extracted to disk."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pymobilenet.errors import DataError

MAX_BYTES = 512 * 2**20
"""Limit for the unpacked size. The 60,000 images of CIFAR-100 take 185 MB."""

_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}


def is_archive(path: Path) -> bool:
    """Return whether the first bytes of a file are those of a gzip, xz or tar file.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith(tuple(_OPENERS)) or head[257:262] == b"ustar"


def read_members(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Return the content of the regular files in an archive whose basename is one of `names`.

    Args:
        path: A tar archive: plain, gzip or xz, recognised by its first bytes.
        names: Base names; the folders of the members are ignored.

    Returns:
        Base name -> content.

    Raises:
        DataError: The file is truncated or not an archive, unpacks to more than `MAX_BYTES`, or
            contains a name twice or none of the names.
    """
    contents: dict[str, bytes] = {}
    for member, content in tar_contents(path, lambda member: _base(member) in names, MAX_BYTES):
        if _base(member) in contents:
            raise DataError(f"{path}: contains more than one file called {_base(member)!r}")
        contents[_base(member)] = content
    if not contents:
        raise DataError(f"{path}: contains none of {', '.join(sorted(names))}")
    return contents


def tar_names(path: Path, limit: int) -> Iterator[str]:
    """Yield the names of the files in an archive, in its order, without folders.

    Args:
        path: A tar archive.
        limit: Limit for the unpacked size, in bytes.

    Yields:
        The names; those of links and devices end with "/".

    Raises:
        DataError: The file is truncated or not an archive, or unpacks to more than `limit` bytes.
    """
    with _opened(path, limit) as tar:
        for member in tar:
            if not member.isdir():
                yield member.name if member.isreg() else f"{member.name}/"


def tar_contents(
    path: Path, is_selected: Callable[[str], bool], limit: int
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of selected regular files, in the archive's order.

    Args:
        path: A tar archive.
        is_selected: Returns whether the file of this name is read.
        limit: Limit for the unpacked size, in bytes.

    Yields:
        Name and content.

    Raises:
        DataError: The archive is invalid, see `tar_names`, or a member is truncated.
    """
    with _opened(path, limit) as tar:
        for member in tar:
            if not member.isreg() or not is_selected(member.name):
                continue
            if member.size > limit:
                raise DataError(_too_large(path, limit))
            extracted = tar.extractfile(member)
            content = extracted.read() if extracted else b""
            if len(content) != member.size:
                raise DataError(
                    f"{path}: member {member.name!r} is truncated: "
                    f"{len(content)} of {member.size} bytes"
                )
            yield member.name, content


@contextlib.contextmanager
def _opened(path: Path, limit: int) -> Iterator[tarfile.TarFile]:
    try:
        with _open_stream(path) as raw:
            stream = _Bounded(raw, path, limit)
            with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
                yield tar
            while stream.read(2**20):  # read to the end, which verifies the checksum
                pass
            if any(stream.last):
                raise EOFError("the zeros at the end of a tar are missing")
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} ({path.stat().st_size} bytes) is truncated or not a tar archive: {error}"
        ) from error


def _open_stream(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            return opener(path)
    return path.open("rb")


class _Bounded:
    """A stream that raises an error after `limit` bytes, as a protection from archive bombs.

    Attributes:
        last: The last 512 bytes read.
    """

    def __init__(self, stream: BinaryIO, path: Path, limit: int) -> None:
        self._stream, self._path, self._limit = stream, path, limit
        self._left = limit
        self.last = b""

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(_too_large(self._path, self._limit))
        self.last = (self.last + content[-512:])[-512:]
        return content


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _too_large(path: Path, limit: int) -> str:
    return f"{path}: must unpack to at most {limit} bytes"
