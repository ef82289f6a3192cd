"""Load image folders, with a subfolder for each class."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.cifar_table import SPLITS, Split
from pymobilenet.data.dataset import Dataset, Known, Statistics
from pymobilenet.data.decoded_cache import MIN_SECONDS, DecodedImages
from pymobilenet.data.decoding import check_memory, check_resolution, decode, unwarned
from pymobilenet.data.folder_layout import arrange, shorten
from pymobilenet.data.image_files import list_images, read_images
from pymobilenet.data.notices import Notify, print_to_stderr
from pymobilenet.errors import ConfigError, DataError

_CHUNK_FILES = 32  # read together, then decoded by threads


def load_image_folder(
    path: str | Path,
    split: Split = "train",
    resolution: int | None = None,
    on_corrupt: Literal["refuse", "skip"] = "refuse",
    test_fraction: float = 0.2,
    seed: int = 0,
    statistics: Known | None = None,
    report: Notify = print_to_stderr,
) -> Dataset:
    """Load one split of a folder of image files into memory.

    Images that took long to decode are kept in the cache folder, see `decoded_cache`.

    Args:
        path: A folder, a tar (plain, gzip or xz) or a zip archive with `train/CLASS/FILE` and
            `test/CLASS/FILE`, or one of them, or `CLASS/FILE`; folders around these are ignored.
            The names of `folder_layout.SPLIT_FOLDERS` are accepted for `train` and `test`, a folder
            `images` between the class and its files, and Tiny ImageNet's `val/images` with its
            annotations. Links are not followed.
        split: "train" or "test". Of `CLASS/FILE`, the images of each class, sorted by name, are
            put in the order `philox.permutation` of `Stream.SPLIT` (index: the class's number);
            the first `test_fraction` of them, to the nearest image, are the test images.
        resolution: Side in pixels, see `decode`. None keeps the sizes of the images, which must
            then be equal.
        on_corrupt: "refuse" the data set if an image of the split cannot be decoded, or "skip"
            such images. Both name them.
        test_fraction: The share of test images, in (0, 1).
        seed: Seed of the split.
        statistics: Mean and standard deviation of the training images, if known (from the training
            split or a model's file). Otherwise the statistics of a test split are a function that
            reads the training images when it is called.
        report: Called with a message about skipped or ignored files, and about the cache.

    Returns:
        Images uint8 (N, 3, H, W), sorted by their full names. The class names are the sorted names
        of the folders with images, of the training split if there is one.

    Raises:
        DataError: Images in other places, no images for the split, corrupt or too large images,
            different sizes, or a damaged archive.
        ConfigError: An argument, or $PYMOBILENET_CACHE_BYTES, is outside its range.
    """
    path = Path(os.path.expanduser(path))
    _check_arguments(split, on_corrupt, test_fraction)
    check_resolution(resolution)
    listing = list_images(path)
    if listing.others:
        report(f"{path}: {shorten(listing.others)} ignored: not image files, or links")

    def read(name: str) -> bytes:
        return dict(read_images(path, [name]))[name]

    folder = arrange(path, listing.images, listing.others, read, test_fraction, seed)
    for note in folder.notes:
        report(f"{path}: {note}")
    classes = folder.splits[split]
    if not classes:
        raise DataError(
            f"{path}: none of its {len(listing.images)} images are for the split {split!r}"
        )
    images, names, corrupt = _cached_or_decoded(path, list(classes), resolution, report)
    if corrupt:
        reasons = shorten([f"{name} ({reason})" for name, reason in corrupt.items()])
        if on_corrupt == "refuse" or not names:
            raise DataError(f'{path}: corrupt: {reasons}; on_corrupt="skip" leaves such files out')
        report(f"{path}: skipped as corrupt: {reasons}")
    number = {name: i for i, name in enumerate(folder.class_names)}
    skipped = f", {len(corrupt)} corrupt files skipped" if corrupt else ""
    data = Dataset(
        images=images,
        labels=np.array([number[classes[name]] for name in names], np.int64),
        coarse=None,
        class_names=folder.class_names,
        coarse_names=(),
        source=f"image folder {path.resolve().name}, {split}, {len(names)} images{skipped}",
        synthetic=False,
    )
    if statistics is None and split == "train":
        statistics = data.mean, data.std
    elif statistics is None:
        load_training_images = functools.partial(
            load_image_folder, path.absolute(), "train", resolution, on_corrupt, test_fraction, seed
        )
        statistics = functools.cache(lambda: _statistics_of(load_training_images, report))
    return replace(data, statistics=statistics)


def _statistics_of(read: Callable[..., Dataset], report: Notify) -> Statistics:
    """Compute mean and standard deviation of the training images."""
    try:
        train = read(report=report)
    except DataError as error:
        raise DataError(
            f'{error}. The preprocessing "standard" requires their mean and standard deviation: '
            "pass these images, a model file with mean and std, or another preprocessing"
        ) from None
    return train.mean, train.std


def _check_arguments(split: str, on_corrupt: str, test_fraction: float) -> None:
    if split not in SPLITS:
        raise DataError(f'split must be "train" or "test". Received: {split!r}')
    if on_corrupt not in ("refuse", "skip"):
        raise ConfigError(f'on_corrupt must be "refuse" or "skip". Received: {on_corrupt!r}')
    if not 0 < test_fraction < 1:
        raise ConfigError(f"test_fraction must be in (0, 1). Received: {test_fraction!r}")


def _cached_or_decoded(
    path: Path, names: list[str], resolution: int | None, report: Notify
) -> tuple[NDArray[np.uint8], list[str], dict[str, str]]:
    """Return images, names and errors as `_decoded`; images of earlier processes from the cache."""
    entry = DecodedImages(path, names, resolution, report)
    if (cached := entry.read()) is not None:
        return cached, names, {}
    start = time.perf_counter()
    images, decoded, corrupt = _decoded(path, names, resolution)
    if not corrupt and time.perf_counter() - start >= MIN_SECONDS:
        entry.write(images)
    return images, decoded, corrupt


def _decoded(
    path: Path, names: list[str], resolution: int | None
) -> tuple[NDArray[np.uint8], list[str], dict[str, str]]:
    """Decode images; return them (N, 3, H, W), their names, and the errors of the others."""
    position = {name: i for i, name in enumerate(names)}
    corrupt: dict[str, str] = {}
    images = np.empty(0, np.uint8)
    first = ""
    with unwarned():
        for name, result in _results(path, position, resolution):
            if isinstance(result, DataError):
                corrupt[name] = str(result)
                continue
            if not first:
                check_memory(len(names), *result.shape[1:])
                images, first = np.empty((len(names), *result.shape), np.uint8), name
            if result.shape != images.shape[1:]:
                sizes = [f"{shape[2]} x {shape[1]}" for shape in (images.shape[1:], result.shape)]
                raise DataError(
                    f"{path}: images must have one size, or pass a resolution. "
                    f"Received: {first} of {sizes[0]} pixels, {name} of {sizes[1]}"
                )
            images[position[name]] = result
    decoded = [name for name in names if name not in corrupt]
    if corrupt:
        images = images[[position[name] for name in decoded]] if decoded else images
    return images, decoded, {name: corrupt[name] for name in names if name in corrupt}


def _results(
    path: Path, names: Collection[str], resolution: int | None
) -> Iterator[tuple[str, NDArray[np.uint8] | DataError]]:
    """Yield each name with its pixels, or with the error of the file."""
    stream = read_images(path, names)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while chunk := list(itertools.islice(stream, _CHUNK_FILES)):
            work = functools.partial(_decode_or_error, resolution=resolution)
            results = pool.map(work, [content for _, content in chunk])
            yield from zip([name for name, _ in chunk], results, strict=True)


def _decode_or_error(content: bytes, resolution: int | None) -> NDArray[np.uint8] | DataError:
    try:
        return decode(content, resolution)
    except DataError as error:
        return error
