"""Members of a tar archive, read from the stream within bounds; nothing is ever extracted."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

from pymobilenet.errors import DataError

MAX_BYTES = 512 * 2**20
"""More than an archive may unpack to. The 60,000 images of CIFAR-100 take 185 MB."""

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
    try:
        with _open_stream(path) as raw:
            stream = _Bounded(raw, path)
            with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
                for member in tar:
                    name = member.name.rsplit("/", 1)[-1]
                    if name not in names or not member.isreg():
                        continue
                    if name in found:
                        raise DataError(f"{path}: holds more than one file called {name!r}")
                    if member.size > MAX_BYTES:
                        raise DataError(_too_large(path))
                    extracted = tar.extractfile(member)
                    content = extracted.read() if extracted else b""
                    if len(content) != member.size:
                        raise DataError(
                            f"{path}: member {member.name!r} is truncated: "
                            f"{len(content)} of {member.size} bytes"
                        )
                    found[name] = content
            while stream.read(2**20):  # to the end, so that the compressor's checksum is verified
                pass
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} ({path.stat().st_size} bytes) is truncated or no tar archive: {error}"
        ) from error
    if not found:
        raise DataError(f"{path}: holds none of {', '.join(sorted(names))}")
    return found


def _open_stream(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            return opener(path)
    return path.open("rb")


class _Bounded:
    """A stream that refuses to give more than `MAX_BYTES`: what a small bomb would unpack to."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._left = MAX_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(_too_large(self._path))
        return content


def _too_large(path: Path) -> str:
    return f"{path}: unpacks to more than {MAX_BYTES} bytes, which no CIFAR-100 archive does"
