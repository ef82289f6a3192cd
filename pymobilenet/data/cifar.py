"""CIFAR-10 and CIFAR-100 from disk, in whatever official form they lie there."""

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
        written by `write_binary` come back as the synthetic they are.

    Raises:
        DataError: another split; nothing of the above at `path`; a file of it missing, truncated
            or foreign; a label out of range. The message names the file, the place and the rule.
    """
    return _load(CIFARS["cifar-100"], path, split)


def load_cifar10(path: str | Path, split: Split = "train") -> Dataset:
    """Return one split of CIFAR-10; it has no coarse labels.

    Args:
        path: as for `load_cifar100`: the binary layout (`data_batch_1.bin` to `_5.bin`,
            `test_batch.bin`, `batches.meta.txt`) or the Python one (the same without `.bin` and
            `.txt`); the official folders are `cifar-10-batches-bin` and `cifar-10-batches-py`,
            the archives `cifar-10-binary.*` and `cifar-10-python.*`.
        split: "train", the five batches in their order, or "test".

    Raises:
        DataError: as `load_cifar100`.
    """
    return _load(CIFARS["cifar-10"], path, split)


def find_cifar(name: str, path: str | Path) -> Path | None:
    """Return the folder or archive that `load_cifar10` or `load_cifar100` would read, or None.

    Of an archive only the first bytes are looked at.

    Args:
        name: "cifar-10" or "cifar-100".
        path: as for these two.
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
    place = find_cifar(cifar.name, path)
    if place is None:
        layouts = " or ".join(", ".join(cifar.files(form)) for form in FORMS)
        raise DataError(
            f"no {cifar.title} at {path}: it must be a folder or an archive of one of the "
            f"official layouts, holding {layouts}"
        )
    origin = place.resolve().name
    if place.is_file():
        names = {name for form in FORMS for name in cifar.files(form)}
        place = unpacked(place, names, lambda folder: _check_splits(cifar, folder))
    return _READERS[cifar.forms_in(place)[0]](place, cifar, split, origin)


def _check_splits(cifar: Cifar, folder: Path) -> None:
    forms = cifar.forms_in(folder)
    if not forms:
        names = (name for form in FORMS for s in SPLITS for name in cifar.image_files(form, s))
        raise DataError(f"neither {' nor '.join(names)} is there")
    for split in SPLITS:
        names_of_split = cifar.image_files(forms[0], split)
        if any((folder / name).is_file() for name in names_of_split):
            _READERS[forms[0]](folder, cifar, split, folder.name)
