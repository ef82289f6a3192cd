"""List and read the image files of a folder, a tar or a zip archive.

Links are not followed, nothing is unpacked to disk, and names that lead out of the folder are
refused.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pymobilenet.data.archive import is_archive, tar_contents, tar_names
from pymobilenet.errors import DataError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    *(".gif", ".tif", ".tiff", ".ppm", ".pgm"),
)
"""In lower case; torchvision's ``IMG_EXTENSIONS`` and ``.gif``."""

MAX_FILE_BYTES = 64 * 2**20
"""Limit for the size of an image file."""

_SLACK = 64 * 2**20


class Listing(NamedTuple):
    """Names of files, with "/" between folders.

    Hidden files and folders (whose name begins with a dot), and `__MACOSX` of some zip files, are
    in neither list.

    Attributes:
        images: Names of image files.
        others: Names of other files and of links.
    """

    images: list[str]
    others: list[str]


def list_images(path: Path) -> Listing:
    """Return the sorted names of the images in a folder, a tar (plain, gzip, xz) or a zip.

    Args:
        path: The folder or archive.

    Raises:
        DataError: None of these at `path`; or an archive that is damaged, unpacks to too much, or
            contains a name twice or one that leads out of it.
    """
    if path.is_dir():
        names = sorted(_walk(path))
    elif path.is_file() and is_archive(path):
        names = _checked(path, list(tar_names(path, _limit(path))))
    elif path.is_file() and zipfile.is_zipfile(path):
        names = _checked(path, _zip_names(path))
    else:
        raise DataError(f"{path}: neither a folder nor a tar or zip archive of images")
    visible = [name for name in names if not any(map(_is_hidden, name.split("/")))]
    images = [name for name in visible if name.lower().endswith(SUFFIXES)]
    return Listing(images, sorted(set(visible) - set(images)))


def read_images(path: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of images, in the order of the folder or archive.

    Args:
        path: The folder or archive.
        names: Names of images, from `list_images`.

    Yields:
        Name and content.

    Raises:
        DataError: A file larger than `MAX_FILE_BYTES`, one that cannot be read, or a damaged
            archive.
    """
    if path.is_dir():
        for name in names:
            yield name, _read_file(path / name)
    elif is_archive(path):
        for name, content in tar_contents(path, lambda name: _plain(name) in names, _limit(path)):
            yield _plain(name), _small(f"{path}: {name}", content)
    else:
        yield from _read_zip(path, names)


def _walk(folder: Path) -> Iterator[str]:
    """Yield the names of files below a folder; links and special files end with "/"."""
    for root, folders, files in os.walk(folder, onerror=_refuse):
        inner = Path(root).relative_to(folder).as_posix()
        prefix = "" if inner == "." else f"{inner}/"
        for name in files:
            is_regular = stat.S_ISREG(os.lstat(os.path.join(root, name)).st_mode)
            yield f"{prefix}{name}" if is_regular else f"{prefix}{name}/"
        for name in folders:
            if os.path.islink(os.path.join(root, name)):
                yield f"{prefix}{name}/"


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _small(str(path), file.read(MAX_FILE_BYTES + 1))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DataError(f"{path}: truncated or not a zip archive: {error}") from error
    if sum(member.file_size for member in members) > _limit(path):
        raise DataError(
            f"{path}: must unpack to at most {_limit(path)} bytes, in proportion to its size"
        )
    return [
        f"{member.filename}/" if stat.S_ISLNK(member.external_attr >> 16) else member.filename
        for member in members
        if not member.filename.endswith("/")  # is_dir fails on a name that is empty
    ]


def _read_zip(path: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as file:
        for member in file.infolist():
            name = _plain(member.filename)
            if name not in names:
                continue
            try:
                with file.open(member) as stream:
                    content = stream.read(MAX_FILE_BYTES + 1)
            except Exception as error:  # as above; encrypted, or packed by an unknown method
                raise DataError(f"{path}: {name} cannot be read: {error}") from error
            yield name, _small(f"{path}: {name}", content)


def _checked(path: Path, names: list[str]) -> list[str]:
    """Return the sorted names of an archive's members, and check them."""
    plain = [_plain(name) for name in names]
    for name in plain:
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name:
            raise DataError(f"{path}: the name {name!r} leads out of the archive")
    if len(set(plain)) < len(plain):
        twice = next(name for name, count in Counter(plain).items() if count > 1)
        raise DataError(f"{path}: contains more than one file called {twice!r}")
    return sorted(plain)


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _is_hidden(component: str) -> bool:
    return component.startswith(".") or component == "__MACOSX"


def _small(name: str, content: bytes) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{name}: an image file must have at most {MAX_FILE_BYTES} bytes")
    return content


def _limit(path: Path) -> int:
    """Return the limit for the unpacked size: images are hardly compressible."""
    return 16 * path.stat().st_size + _SLACK
