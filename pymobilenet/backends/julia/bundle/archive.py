"""The file of a bundle: a tar archive that is sealed by digests.

It holds, in this order, ``manifest.sha256`` (a line of ``sha256sum``), ``manifest.json``, and the
files that the manifest lists, in its order. There are no folders, links or devices: folders are
made where a file needs them, and links are in the manifest.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pymobilenet.backends.julia.bundle.manifest import Manifest, digest_line
from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.files import atomic_write

MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"

SUFFIXES = (".tar", ".tar.gz", ".tgz")

MTIME = 1
"""The time of all files. Julia takes sources of this time as unchanged (``stale_cachefile``)."""

MAX_MANIFEST_BYTES = 256 << 20
MAX_HEADER_BYTES = 1 << 20
"""Limit for what the archive may hold between two files: headers with names, and zeros."""

CHUNK = 1 << 20
COMPRESSION_LEVEL = 6


def is_archive_name(path: Path) -> bool:
    """Return whether a bundle can have this name.

    Args:
        path: The file.
    """
    return path.name.endswith(SUFFIXES)


def write_archive(path: Path, folder: Path, manifest: Manifest) -> str:
    """Write a bundle atomically.

    Args:
        path: The file; compressed if its name says so.
        folder: The files.
        manifest: Lists them.

    Returns:
        The SHA-256 of the manifest.

    Raises:
        OSError: A file cannot be read or written.
    """
    content = manifest.to_json()
    line = digest_line(content, MANIFEST)
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(atomic_write(path))
        if not path.name.endswith(".tar"):
            options: dict[str, Any] = {"compresslevel": COMPRESSION_LEVEL, "mtime": 0}
            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, **options))
        tar = stack.enter_context(tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT))
        for name, text in ((DIGEST, line), (MANIFEST, content)):
            tar.addfile(_member(name, len(text), False), io.BytesIO(text))
        for entry in manifest.files:
            with (folder / entry.path).open("rb") as source:
                tar.addfile(_member(entry.path, entry.size, entry.executable), source)
    return line.decode().split()[0]


def _member(name: str, size: int, is_executable: bool) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, _mode(is_executable), MTIME
    return member


def _mode(is_executable: bool) -> int:
    return 0o755 if is_executable else 0o644


class Archive:
    """A bundle that is read from the beginning to the end.

    Attributes:
        manifest: The list of its files; what it says of them is checked when they are unpacked.
        digest: The SHA-256 of the manifest.
    """

    def __init__(self, path: Path, stream: _Allowance, tar: tarfile.TarFile) -> None:
        self._path, self._stream, self._tar = path, stream, tar
        line = self._read(DIGEST, 1024)
        content = self._read(MANIFEST, MAX_MANIFEST_BYTES)
        self.digest = hashlib.sha256(content).hexdigest()
        if line != digest_line(content, MANIFEST):
            raise _Damaged(f"{MANIFEST} was changed: its SHA-256 is not that of {DIGEST}")
        try:
            self.manifest = Manifest.from_json(content)
        except ValueError as error:
            raise _Damaged(f"{MANIFEST}: {error}") from None

    def unpack(self, folder: Path, advance: Callable[[], object]) -> None:
        """Unpack all files and make the links.

        Args:
            folder: An empty folder that nobody else can write to.
            advance: Called after each file.

        Raises:
            BackendUnavailable: A file is missing or was changed.
            OSError: A file cannot be written, or the disk is too small.
        """
        with _translated(self._path):
            _check_space(folder, self.manifest.size)
            made = {folder}
            for entry in self.manifest.files:
                target = folder / entry.path
                _make_folder(target.parent, made)
                member = self._next(entry.path)
                if member.size != entry.size:
                    raise _Damaged(f"{entry.path} has {member.size} bytes, not {entry.size}")
                digest = hashlib.sha256()
                with open(target, "xb", opener=_opener(entry.executable)) as file:
                    for chunk in self._chunks(member):
                        digest.update(chunk)
                        file.write(chunk)
                if digest.hexdigest() != entry.sha256:
                    raise _Damaged(f"{entry.path} was changed: its SHA-256 is not that of the list")
                os.utime(target, (MTIME, MTIME))
                advance()
            self._end()
            for link in self.manifest.links:
                _make_folder((folder / link.path).parent, made)
                (folder / link.path).symlink_to(link.target)

    def _read(self, name: str, limit: int) -> bytes:
        member = self._next(name)
        if member.size > limit:
            raise _Damaged(f"{name} must have at most {limit} bytes. Received: {member.size}")
        return b"".join(self._chunks(member))

    def _next(self, name: str) -> tarfile.TarInfo:
        self._stream.allow(MAX_HEADER_BYTES)
        member = self._tar.next()
        if member is None:
            raise _Damaged(f"{name} is missing")
        self._tar.members = []  # type: ignore[attr-defined] # tarfile keeps each
        is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
        if member.name != name or not is_plain:
            raise _Damaged(
                f"{name} must be a regular file at this place. Received: {member.name[:200]!r}, "
                f"{'a regular file' if is_plain else 'of another type'}"
            )
        return member

    def _chunks(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        self._stream.allow(member.size + MAX_HEADER_BYTES)
        file = self._tar.extractfile(member)
        assert file is not None
        left = member.size
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise _Damaged(f"{member.name} is truncated")
            left -= len(chunk)
            yield chunk

    def _end(self) -> None:
        """Read to the end, which verifies the checksum of gzip."""
        self._stream.allow(MAX_HEADER_BYTES)
        member = self._tar.next()
        if member is not None:
            raise _Damaged(f"it holds {member.name[:200]!r}, which is not in the list")
        while self._stream.read(CHUNK):
            pass


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a bundle and read its manifest.

    Args:
        path: A file that `write_archive` has written.

    Yields:
        The archive.

    Raises:
        ConfigError: `path` is not a regular file.
        BackendUnavailable: It is not a bundle, or was changed.
    """
    if not path.is_file():
        raise ConfigError(f"a bundle must be a file. Received: {path}")
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        is_compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if is_compressed:
            file = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))
        stream = _Allowance(file)
        with _translated(path):
            stream.allow(MAX_HEADER_BYTES)
            readable: Any = stream  # typeshed asks for more than tarfile calls
            tar = stack.enter_context(tarfile.open(fileobj=readable, mode="r|"))
            archive = Archive(path, stream, tar)
        yield archive


class _Damaged(Exception):
    """What is wrong with an archive."""


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    damage = (_Damaged, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
    try:
        yield
    except damage as error:
        raise BackendUnavailable(
            f"{path} is not a bundle of pymobilenet, or was changed or truncated: {error}. "
            "Nothing was unpacked. Copy it again from where it was made"
        ) from None


class _Allowance:
    """A stream from which only as much can be read as was allowed.

    tarfile reads a header of any size into memory, and gzip expands a thousandfold.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._left = stream, 0

    def allow(self, size: int) -> None:
        """Allow this many bytes from here on."""
        self._left = size

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _Damaged(f"more than {MAX_HEADER_BYTES} bytes are between two files")
        return content


def _opener(is_executable: bool) -> Callable[[str, int], int]:
    return lambda path, flags: os.open(path, flags, _mode(is_executable))


def _make_folder(folder: Path, made: set[Path]) -> None:
    if folder not in made:
        _make_folder(folder.parent, made)
        folder.mkdir()
        made.add(folder)


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise BackendUnavailable(
            f"the bundle unpacks to {size >> 20} MB, and {folder.parent} has {free >> 20} MB left"
        )
