"""Load a data set by its name or path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from numpy.typing import ArrayLike

from pymobilenet.data.archive import MAX_BYTES, is_archive, tar_names
from pymobilenet.data.cache import cache_dir
from pymobilenet.data.cifar import find_cifar, load_cifar10, load_cifar100
from pymobilenet.data.cifar_table import CIFARS, FORMS, Split
from pymobilenet.data.conversion import is_hugging_face_folder, load_from_disk
from pymobilenet.data.dataset import Dataset, Known
from pymobilenet.data.decoding import resized
from pymobilenet.data.download import ARCHIVES, download_cifar
from pymobilenet.data.image_files import SUFFIXES
from pymobilenet.data.image_folder import load_image_folder
from pymobilenet.data.notices import Notify, print_to_stderr
from pymobilenet.data.synthetic import synthetic
from pymobilenet.errors import DataError

Select = Callable[[int], ArrayLike]
"""A function from the number of images to the positions of some of them."""

SYNTHETIC = "synthetic"
_LOADERS = {"cifar-100": load_cifar100, "cifar-10": load_cifar10}


def open_data(
    source: str | Path,
    split: Split = "train",
    resolution: int | None = None,
    download: bool = True,
    on_corrupt: Literal["refuse", "skip"] = "refuse",
    test_fraction: float = 0.2,
    seed: int = 0,
    statistics: Known | None = None,
    report: Notify = print_to_stderr,
    select: Select | None = None,
) -> Dataset:
    """Load one split of a data set by its name or path.

    Args:
        source: "cifar-100" or "cifar-10", from `cache_dir()`, into which it is downloaded if
            necessary; "synthetic"; or a path (a `Path` is never a name) to what `load_cifar100`,
            `load_cifar10` or `load_image_folder` take, or to a folder that `datasets` wrote
            (`save_to_disk`), recognised by the names of its files.
        split: "train" or "test".
        resolution: Side in pixels, see `decoding.resize`; None keeps the sizes.
        download: Whether the network may be used.
        on_corrupt: For image folders, see `load_image_folder`.
        test_fraction: For image folders, see `load_image_folder`.
        seed: For image folders, see `load_image_folder`.
        statistics: For image folders, see `load_image_folder`.
        report: Called with messages about the images.
        select: Called with the number of images; returns the positions of those to keep, see
            `Dataset.subset`. Others are not resized, except those of files, which are resized as
            they are read. None keeps all.

    Returns:
        The split.

    Raises:
        DataError: No data set at `source`, an invalid one, or two at once; or the download failed.
            Missing images are never replaced by synthetic ones.
        ConfigError: An argument is outside its range.

    Examples:
        >>> open_data("synthetic", "test").synthetic
        True
    """
    if source == SYNTHETIC:
        return resized(_selected(synthetic(split=split), select), resolution)
    name = source if isinstance(source, str) and source in _LOADERS else None
    if name is not None:
        if find_cifar(name, cache_dir()) is None and (no := _reason_not_loaded(name, download)):
            raise DataError(no)
        path = cache_dir()
    else:
        path = Path(os.path.expanduser(source))
        if is_hugging_face_folder(path):
            return _selected(load_from_disk(path, split, resolution, report), select)
        name = _cifar_at(path)
    if name is None:
        images = load_image_folder(
            path, split, resolution, on_corrupt, test_fraction, seed, statistics, report
        )
        return _selected(images, select)
    dataset = _LOADERS[name](path, split)
    if dataset.synthetic:
        report(f"SYNTHETIC: these are generated images, not {name.upper()}: {dataset.source}")
    return resized(_selected(dataset, select), resolution)


def open_or_cifar100(
    source: str | Path | None, split: Split = "train", resolution: int | None = None
) -> Dataset:
    """Return `open_data`, or `open_cifar100` if no data set is named, resized to one size.

    Args:
        source: A name or path, or None.
        split: "train" or "test".
        resolution: Side in pixels; None keeps the sizes.

    Raises:
        DataError: As these functions.
        ConfigError: As these functions.
    """
    if source is None:
        return resized(open_cifar100(None, split), resolution)
    return open_data(source, split, resolution)


def open_cifar100(
    path: str | Path | None = None,
    split: Split = "train",
    allow_synthetic: bool = True,
    download: bool = True,
    report: Notify = print_to_stderr,
) -> Dataset:
    """Load one split of CIFAR-100, or synthetic data if it is not available.

    Args:
        path: As for `load_cifar100`; nothing else is tried then. None: `cache_dir()`
            ($PYMOBILENET_DATA if set), then a download into it, then synthetic data.
        split: "train" or "test".
        allow_synthetic: Whether synthetic data may be returned.
        download: Whether the network may be used.
        report: Called with a message if the images are synthetic.

    Returns:
        The split; see `Dataset.synthetic`.

    Raises:
        DataError: Missing or invalid files at `path` or in the cache; or no images are available
            and `allow_synthetic` is False.
    """
    if path is not None:
        dataset = load_cifar100(path, split)
    elif find_cifar("cifar-100", cache_dir()):
        dataset = load_cifar100(cache_dir(), split)
    else:
        reason = _reason_not_loaded("cifar-100", download)
        if reason is None:
            return load_cifar100(cache_dir(), split)
        if not allow_synthetic:
            raise DataError(reason)
        dataset = synthetic(split=split)
        report(f"SYNTHETIC: these are generated images, not CIFAR-100, because {reason}")
        return dataset
    if dataset.synthetic:
        if not allow_synthetic:
            raise DataError(
                f"{dataset.source}: allow_synthetic is False; pass real images with --data DIR"
            )
        report(f"SYNTHETIC: these are generated images, not CIFAR-100: {dataset.source}")
    return dataset


def _selected(dataset: Dataset, select: Select | None) -> Dataset:
    return dataset if select is None else dataset.subset(select(len(dataset)))


def _cifar_at(path: Path) -> str | None:
    """Return the name of the CIFAR data set at a path, or None.

    For a tar, the first file that is an image or belongs to a CIFAR decides.

    Raises:
        DataError: Nothing at `path`, or both data sets.
    """
    if path.is_file():
        return _cifar_in_tar(path) if is_archive(path) else None
    if not path.is_dir():
        raise DataError(
            f"no data at {path}: it must be a folder, an archive, or one of the names "
            f"{', '.join((*_LOADERS, SYNTHETIC))}"
        )
    names = [name for name in _LOADERS if find_cifar(name, path)]
    if len(names) > 1:
        raise DataError(
            f"{path}: contains {' and '.join(names)}; pass the folder or archive of one"
        )
    return names[0] if names else None


def _cifar_in_tar(path: Path) -> str | None:
    for name in tar_names(path, MAX_BYTES):
        base = name.rsplit("/", 1)[-1]
        for cifar in CIFARS.values():
            if any(base in cifar.files(form) for form in FORMS):
                return cifar.name
        if name.lower().endswith(SUFFIXES):
            return None
    return None


def _reason_not_loaded(name: str, download: bool) -> str | None:
    """Try to download; return None if that worked, else the reason."""
    if not download:
        return _not_downloaded(name, cache_dir())
    try:
        download_cifar(name, cache_dir())
    except DataError as error:
        return str(error)
    return None


def _not_downloaded(name: str, folder: Path) -> str:
    archive = ARCHIVES[f"{name}-binary"].name
    return (
        f"none are in {folder} and no download was asked for; "
        f"put {archive} there or pass --data DIR"
    )
