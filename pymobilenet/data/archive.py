"""Members of a tar archive, read from the stream within bounds; nothing is ever extracted."""

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
"""More than an official archive may unpack to. The 60,000 images of CIFAR-100 take 185 MB."""

_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}


def is_archive(path: Path) -> bool:
    """Say whether the first bytes of a file are those of a gzip, an xz or a tar file."""
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith(tuple(_OPENERS)) or head[257:262] == b"ustar"


def read_members(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Return the content of the regular files in an archive whose basename is one of `names`.

    Args:
        path: a .tar, .tar.gz or .tar.xz, told apart by their first bytes.
        names: basenames; the folders in which the members lie are ignored.

    Raises:
        DataError: a file that is truncated or no archive, that unpacks to more than `MAX_BYTES`,
            or that holds a name twice or none of them.
    """
    found: dict[str, bytes] = {}
    for member, content in tar_contents(path, lambda member: _base(member) in names, MAX_BYTES):
        if _base(member) in found:
            raise DataError(f"{path}: holds more than one file called {_base(member)!r}")
        found[_base(member)] = content
    if not found:
        raise DataError(f"{path}: holds none of {', '.join(sorted(names))}")
    return found


def tar_names(path: Path, limit: int) -> Iterator[str]:
    """Yield the names of the files in an archive, in its order; folders are left out.

    The name of a link or a device ends with a "/".

    Raises:
        DataError: a file that is truncated or no archive, or unpacks to more than `limit` bytes.
    """
    with _opened(path, limit) as tar:
        for member in tar:
            if not member.isdir():
                yield member.name if member.isreg() else f"{member.name}/"


def tar_contents(
    path: Path, wanted: Callable[[str], bool], limit: int
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the regular files whose name is `wanted`, in the archive's order.

    Raises:
        DataError: as `tar_names`.
    """
    with _opened(path, limit) as tar:
        for member in tar:
            if not member.isreg() or not wanted(member.name):
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
            while stream.read(2**20):  # to the end, so that the compressor's checksum is verified
                pass
            if any(stream.last):
                raise EOFError("it lacks the zeros that end a tar")
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} ({path.stat().st_size} bytes) is truncated or no tar archive: {error}"
        ) from error


def _open_stream(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            return opener(path)
    return path.open("rb")


class _Bounded:
    """A stream that refuses to give more than `limit`: what a small bomb would unpack to.

    `last` is the 512 bytes it gave last.
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
    return f"{path}: unpacks to more than {limit} bytes, which no archive of its kind does"
