"""The way in: real images where they can be had, a stand-in that says so where they cannot."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

from pymobilenet.data.cache import cache_dir
from pymobilenet.data.cifar import find_cifar100, load_cifar100
from pymobilenet.data.cifar_layouts import Split
from pymobilenet.data.dataset import Dataset
from pymobilenet.data.download import ARCHIVES, download_cifar100
from pymobilenet.data.standin import standin
from pymobilenet.errors import DataError


def print_to_stderr(message: str) -> None:
    """Print a message to the error output at once."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def open_cifar100(
    path: str | Path | None = None,
    split: Split = "train",
    allow_stand_in: bool = True,
    download: bool = True,
    report: Callable[[str], object] = print_to_stderr,
) -> Dataset:
    """Return one split of CIFAR-100, or a stand-in where no images can be had.

    Args:
        path: what `load_cifar100` takes; then nothing else is tried. None means `cache_dir()`
            (that is, $PYMOBILENET_DATA where it is set), then a download into it, then the
            stand-in.
        split: "train" or "test".
        allow_stand_in: with False, a DataError takes the place of the stand-in.
        download: with False, the network is not asked.
        report: gets the sentence that says that the images are a stand-in.

    Raises:
        DataError: a `path` or a cache that holds nothing or something bad; no images and no
            stand-in allowed.
    """
    if path is not None:
        dataset = load_cifar100(path, split)
    elif find_cifar100(cache_dir()):
        dataset = load_cifar100(cache_dir(), split)
    else:
        refusal = _download_refusal(cache_dir()) if download else _not_downloaded(cache_dir())
        if refusal is None:
            return load_cifar100(cache_dir(), split)
        if not allow_stand_in:
            raise DataError(refusal)
        dataset = standin(split=split)
        report(f"STAND-IN: these are generated images, not CIFAR-100, because {refusal}")
        return dataset
    if dataset.stand_in:
        if not allow_stand_in:
            raise DataError(f"{dataset.source}: real images were asked for; pass --data DIR")
        report(f"STAND-IN: these are generated images, not CIFAR-100: {dataset.source}")
    return dataset


@functools.cache
def _download_refusal(folder: Path) -> str | None:
    """Try once in a process: a second split need not wait for the same answer."""
    try:
        download_cifar100(folder)
    except DataError as error:
        return str(error)
    return None


def _not_downloaded(folder: Path) -> str:
    name = ARCHIVES["binary"].name
    return (
        f"none are in {folder} and no download was asked for; put {name} there or pass --data DIR"
    )
