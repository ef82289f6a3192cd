"""Any folder of images, a subfolder for each class, as a data set."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.cifar_table import SPLITS, Split
from pymobilenet.data.dataset import Dataset, Known, Statistics
from pymobilenet.data.decoding import check_memory, check_resolution, decode, unwarned
from pymobilenet.data.folder_layout import arrange, shorten
from pymobilenet.data.image_files import list_images, read_images
from pymobilenet.data.notices import Notify, print_to_stderr
from pymobilenet.errors import ConfigError, DataError

_AT_ONCE = 32  # files read before they are decoded, by threads


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
    """Return one split of a folder of image files, decoded into memory.

    Args:
        path: a folder, a tar (plain, gzip or xz) or a zip that holds `train/CLASS/FILE` and
            `test/CLASS/FILE`, or one of them, or `CLASS/FILE`; folders around these are ignored.
            The names of `folder_layout.SPLIT_FOLDERS` are accepted for `train` and `test`, a folder
            `images` between the class and its files, and Tiny ImageNet's `val/images` with its
            annotations. Links are not followed.
        split: "train" or "test". Of `CLASS/FILE`, the images of each class, sorted by name, are
            put in the order `philox.permutation` of `Stream.SPLIT` (index: the class's number);
            the first `test_fraction` of them, to the nearest image, are the test images.
        resolution: pixels each way, see `decode`; None leaves images as they are, and then they
            must be of one size.
        on_corrupt: "refuse" the data set if an image of the split cannot be decoded, or "skip"
            such images; both name them.
        test_fraction: in (0, 1).
        seed: of the split.
        statistics: mean and deviation of the training images, where they are known (from the
            training split's `statistics`, or a model's file); without them, those of the test
            split are a function that reads the training images once it is called.
        report: gets a sentence for what was skipped or passed over.

    Returns:
        images uint8 (N, 3, H, W), sorted by their whole names; `class_names` are the sorted names
        of the folders that hold images, of `train/` where it is there.

    Raises:
        DataError: images that lie elsewhere, none for the split, corrupt or too large ones, sizes
            that differ, a damaged archive. The message names the file and the rule.
        ConfigError: an argument outside these.
    """
    path = Path(os.path.expanduser(path))
    _check_arguments(split, on_corrupt, test_fraction)
    check_resolution(resolution)
    listing = list_images(path)
    if listing.others:
        report(f"{path}: {shorten(listing.others)} passed over: no image files, or links")

    def read(name: str) -> bytes:
        return dict(read_images(path, [name]))[name]

    folder = arrange(path, listing.images, listing.others, read, test_fraction, seed)
    for note in folder.notes:
        report(f"{path}: {note}")
    chosen = folder.splits[split]
    if not chosen:
        raise DataError(
            f"{path}: none of its {len(listing.images)} images are for the split {split!r}"
        )
    images, names, corrupt = _decoded(path, list(chosen), resolution)
    if corrupt:
        reasons = shorten([f"{name} ({reason})" for name, reason in corrupt.items()])
        if on_corrupt == "refuse" or not names:
            raise DataError(f'{path}: corrupt: {reasons}; on_corrupt="skip" leaves such files out')
        report(f"{path}: skipped as corrupt: {reasons}")
    number = {name: i for i, name in enumerate(folder.class_names)}
    skipped = f", {len(corrupt)} corrupt files skipped" if corrupt else ""
    data = Dataset(
        images=images,
        labels=np.array([number[chosen[name]] for name in names], np.int64),
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
    """Mean and deviation of the training images that `read` gives."""
    try:
        train = read(report=report)
    except DataError as error:
        raise DataError(
            f'{error}. The preprocessing "standard" takes their mean and deviation: give these '
            "images, a model whose file says mean and std, or another preprocessing"
        ) from None
    return train.mean, train.std


def _check_arguments(split: str, on_corrupt: str, test_fraction: float) -> None:
    if split not in SPLITS:
        raise DataError(f'split must be "train" or "test". Received: {split!r}')
    if on_corrupt not in ("refuse", "skip"):
        raise ConfigError(f'on_corrupt must be "refuse" or "skip". Received: {on_corrupt!r}')
    if not 0 < test_fraction < 1:
        raise ConfigError(f"test_fraction must be in (0, 1). Received: {test_fraction!r}")


def _decoded(
    path: Path, names: list[str], resolution: int | None
) -> tuple[NDArray[np.uint8], list[str], dict[str, str]]:
    """The images that can be decoded (N, 3, H, W) and their names, and why the others cannot."""
    place = {name: i for i, name in enumerate(names)}
    corrupt: dict[str, str] = {}
    images = np.empty(0, np.uint8)
    first = ""
    with unwarned():
        for name, result in _results(path, place, resolution):
            if isinstance(result, DataError):
                corrupt[name] = str(result)
                continue
            if not first:
                check_memory(len(names), *result.shape[1:])
                images, first = np.empty((len(names), *result.shape), np.uint8), name
            if result.shape != images.shape[1:]:
                sizes = [f"{shape[2]} x {shape[1]}" for shape in (images.shape[1:], result.shape)]
                raise DataError(
                    f"{path}: images must be of one size, or a resolution be given. "
                    f"Received: {first} of {sizes[0]} pixels, {name} of {sizes[1]}"
                )
            images[place[name]] = result
    kept = [name for name in names if name not in corrupt]
    if corrupt:
        images = images[[place[name] for name in kept]] if kept else images
    return images, kept, {name: corrupt[name] for name in names if name in corrupt}


def _results(
    path: Path, names: Collection[str], resolution: int | None
) -> Iterator[tuple[str, NDArray[np.uint8] | DataError]]:
    """Each name with its pixels, or with what is wrong with the file."""
    stream = read_images(path, names)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while chunk := list(itertools.islice(stream, _AT_ONCE)):
            work = functools.partial(_decode_or_say, resolution=resolution)
            results = pool.map(work, [content for _, content in chunk])
            yield from zip([name for name, _ in chunk], results, strict=True)


def _decode_or_say(content: bytes, resolution: int | None) -> NDArray[np.uint8] | DataError:
    try:
        return decode(content, resolution)
    except DataError as error:
        return error
