"""Load CIFAR-10 and CIFAR-100 from disk, in any of their official forms."""

from __future__ import annotations

import os
from pathlib import Path

from pymobilenet.data.archive import is_archive
from pymobilenet.data.cache import unpacked
from pymobilenet.data.cifar_layouts import read_binary, read_python
from pymobilenet.data.cifar_table import CIFARS, FORMS, SPLITS, Cifar, Split
from pymobilenet.data.dataset import Dataset
from pymobilenet.errors import DataError

_SUFFIXES = (".tar.gz", ".tar.xz", ".tgz", ".tar")
_READERS = {"binary": read_binary, "Python": read_python}


def load_cifar100(path: str | Path, split: Split = "train") -> Dataset:
    """Load one split of CIFAR-100.

    Args:
        path: A folder with the files of the binary layout (`train.bin`, `test.bin`,
            `fine_label_names.txt`, `coarse_label_names.txt`) or of the Python one (`train`,
            `test`, `meta`); a folder that contains such a folder under its official name
            (`cifar-100-binary`, `cifar-100-python`), or an archive `cifar-100-binary.tar.gz`,
            `.tar.xz`, `.tgz`, `.tar` or `cifar-100-python.*`; or an archive of any name. The first
            match in this list is used. An archive is unpacked once, into `cache_dir()`.
        split: "train" or "test".

    Returns:
        Images uint8 (N, 3, 32, 32), fine and coarse labels, in the order of the file. Files
        written by `write_binary` are marked as synthetic.

    Raises:
        DataError: An unknown split; nothing of the above at `path`; a file that is missing,
            truncated or of another format; a label out of range.
    """
    return _load(CIFARS["cifar-100"], path, split)


def load_cifar10(path: str | Path, split: Split = "train") -> Dataset:
    """Load one split of CIFAR-10.

    Args:
        path: As for `load_cifar100`: the binary layout (`data_batch_1.bin` to `_5.bin`,
            `test_batch.bin`, `batches.meta.txt`) or the Python one (the same without `.bin` and
            `.txt`); the official folders are `cifar-10-batches-bin` and `cifar-10-batches-py`,
            the archives `cifar-10-binary.*` and `cifar-10-python.*`.
        split: "train" (the five batches in order) or "test".

    Returns:
        Images uint8 (N, 3, 32, 32) and labels, in the order of the files. There are no coarse
        labels.

    Raises:
        DataError: As `load_cifar100`.
    """
    return _load(CIFARS["cifar-10"], path, split)


def find_cifar(name: str, path: str | Path) -> Path | None:
    """Return the folder or archive that `load_cifar10` or `load_cifar100` would read, or None.

    An archive is recognised by its first bytes; its members are not read.

    Args:
        name: "cifar-10" or "cifar-100".
        path: As for these functions.
    """
    path, cifar = Path(os.path.expanduser(path)), CIFARS[name]
    if path.is_file():
        return path if is_archive(path) else None
    for folder in (path, *(path / folder for folder in cifar.folders.values())):
        if cifar.forms_in(folder):
            return folder
    archives = [path / (cifar.archive(form) + suffix) for form in FORMS for suffix in _SUFFIXES]
    return next((archive for archive in archives if archive.is_file()), None)


def _load(cifar: Cifar, path: str | Path, split: Split) -> Dataset:
    if split not in SPLITS:
        raise DataError(f'split must be "train" or "test". Received: {split!r}')
    location = find_cifar(cifar.name, path)
    if location is None:
        layouts = " or ".join(", ".join(cifar.files(form)) for form in FORMS)
        raise DataError(
            f"no {cifar.title} at {path}: it must be a folder or an archive of one of the "
            f"official layouts, with the files {layouts}"
        )
    origin = location.resolve().name
    if location.is_file():
        names = {name for form in FORMS for name in cifar.files(form)}
        location = unpacked(location, names, lambda folder: _check_splits(cifar, folder))
    return _READERS[cifar.forms_in(location)[0]](location, cifar, split, origin)


def _check_splits(cifar: Cifar, folder: Path) -> None:
    forms = cifar.forms_in(folder)
    if not forms:
        names = (name for form in FORMS for s in SPLITS for name in cifar.image_files(form, s))
        raise DataError(f"it must contain one of {', '.join(names)}")
    for split in SPLITS:
        names_of_split = cifar.image_files(forms[0], split)
        if any((folder / name).is_file() for name in names_of_split):
            _READERS[forms[0]](folder, cifar, split, folder.name)
