"""CIFAR-100 from disk, in whatever official form it lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pymobilenet.data.archive import is_archive
from pymobilenet.data.cache import unpacked
from pymobilenet.data.cifar_layouts import (
    BINARY_FILES,
    PYTHON_FILES,
    Split,
    read_binary,
    read_python,
)
from pymobilenet.data.dataset import Dataset
from pymobilenet.errors import DataError

CIFAR100_MEAN = (0.5071, 0.4865, 0.4409)
"""Mean of the 50,000 training images, red, green, blue in [0, 1] units; as published in
weiaicunzai/pytorch-cifar100 (conf/global_settings.py), and what `Dataset.mean` gives."""

CIFAR100_STD = (0.2673, 0.2564, 0.2762)
"""Standard deviation of the 50,000 training images; source as for `CIFAR100_MEAN`."""

SPLITS: tuple[Split, Split] = ("train", "test")

_ARCHIVE_NAMES = tuple(
    f"cifar-100-{layout}{suffix}"
    for layout in ("binary", "python")
    for suffix in (".tar.gz", ".tar.xz", ".tgz", ".tar")
)
_Reader = Callable[[Path, Split, str], Dataset]
_LAYOUTS: tuple[tuple[str, tuple[str, ...], _Reader], ...] = (
    ("cifar-100-binary", BINARY_FILES, read_binary),
    ("cifar-100-python", PYTHON_FILES, read_python),
)


def load_cifar100(path: str | Path, split: Split = "train") -> Dataset:
    """Return one split of CIFAR-100.

    Args:
        path: a folder with the files of the binary layout (`train.bin`, `test.bin`,
            `fine_label_names.txt`, `coarse_label_names.txt`) or of the Python one (`train`,
            `test`, `meta`); a folder that holds such a folder under its official name
            (`cifar-100-binary`, `cifar-100-python`), or an archive `cifar-100-binary.tar.gz`,
            `.tar.xz`, `.tgz`, `.tar` or `cifar-100-python.*`; or an archive of any name. What
            comes first in this list is taken. An archive is unpacked once, into `cache_dir()`.
        split: "train" or "test".

    Returns:
        images uint8 (N, 3, 32, 32), fine and coarse labels, in the order of the file. Files
        written by `write_binary` come back as the stand-in they are.

    Raises:
        DataError: another split; nothing of the above at `path`; a file of it missing, truncated
            or foreign; a label out of range. The message names the file, the place and the rule.
    """
    if split not in SPLITS:
        raise DataError(f'split must be "train" or "test". Received: {split!r}')
    place = find_cifar100(path)
    if place is None:
        raise DataError(
            f"no CIFAR-100 at {path}: it must be a folder or an archive of one of the official "
            f"layouts, holding {', '.join(BINARY_FILES)} or {', '.join(PYTHON_FILES)}"
        )
    origin = place.resolve().name
    if place.is_file():
        place = unpacked(place, {*BINARY_FILES, *PYTHON_FILES}, _check_splits)
    return _reader(place)(place, split, origin)


def find_cifar100(path: str | Path) -> Path | None:
    """Return the folder or archive that `load_cifar100` would read, or None where there is none.

    Of an archive only the first bytes are looked at.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path if is_archive(path) else None
    folders = [path, *(path / name for name, _, _ in _LAYOUTS)]
    archives = [path / name for name in _ARCHIVE_NAMES]
    for folder in folders:
        if _layouts_of(folder):
            return folder
    return next((archive for archive in archives if archive.is_file()), None)


def _layouts_of(folder: Path) -> list[_Reader]:
    # Either file of images will do: the first two names of each layout.
    return [
        reader
        for _, names, reader in _LAYOUTS
        if any((folder / name).is_file() for name in names[:2])
    ]


def _reader(folder: Path) -> _Reader:
    if readers := _layouts_of(folder):
        return readers[0]
    raise DataError(f"neither {' nor '.join(BINARY_FILES[:2] + PYTHON_FILES[:2])} is there")


def _check_splits(folder: Path) -> None:
    reader = _reader(folder)
    names = BINARY_FILES if reader is read_binary else PYTHON_FILES
    for split, name in zip(SPLITS, names, strict=False):
        if (folder / name).is_file():
            reader(folder, split, folder.name)
