"""Data sets of torchvision and of Hugging Face's `datasets` as a `Dataset`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.cifar_table import Split
from pymobilenet.data.dataset import Dataset
from pymobilenet.data.decoding import check_memory, decode, resize, unwarned
from pymobilenet.data.folder_layout import SPLIT_FOLDERS
from pymobilenet.data.notices import Notify, print_to_stderr
from pymobilenet.errors import DataError

DATASET_DICT, DATASET_INFO = "dataset_dict.json", "dataset_info.json"
"""Files that `datasets` writes into the folder of a `DatasetDict` and of a `Dataset`."""


def to_dataset(
    data: Any,
    resolution: int | None = None,
    label_column: str | None = None,
    report: Notify = print_to_stderr,
) -> Dataset:
    """Return `data` as a `Dataset`, its images decoded into memory.

    Args:
        data: A `Dataset`, which is returned as it is; a torchvision data set with ``samples`` and
            ``classes`` (`ImageFolder`) or with ``data``, ``targets`` and ``classes`` (`CIFAR10`,
            `CIFAR100`, `MNIST`); or a `datasets.Dataset` with an `Image` and a `ClassLabel` column.
        resolution: Pixels of the square images, see `decode`. Without it, images keep their size,
            which must be the same for all.
        label_column: The `ClassLabel` column to use where a `datasets.Dataset` has several.
            Default: the one named ``label`` or ``fine_label``.
        report: Called with a sentence if `data` has a transform, which is not applied.

    Returns:
        Images uint8 (N, 3, H, W), labels int64 (N,), with the mean and the standard deviation of
        these images as statistics.

    Raises:
        DataError: Another kind of data, an image that cannot be decoded, images of several sizes
            without a resolution, or labels that are not class numbers.
    """
    if isinstance(data, Dataset):
        return data
    kind = f"{type(data).__module__.partition('.')[0]}.{type(data).__name__}"
    if getattr(data, "transform", None) or getattr(data, "transforms", None):
        report(f"{kind}: its transform is not applied; images are scaled by the preprocessing")
    if hasattr(data, "features") and hasattr(data, "column_names"):
        images, labels, names = _hugging_face(data, resolution, label_column)
    elif hasattr(data, "samples") and hasattr(data, "classes"):
        paths = [Path(path) for path, _ in data.samples]
        images = _stack(((str(path), path) for path in paths), len(paths), resolution)
        labels, names = [label for _, label in data.samples], data.classes
    elif hasattr(data, "data") and hasattr(data, "targets") and hasattr(data, "classes"):
        images, labels, names = _pixels(kind, data.data, resolution), data.targets, data.classes
    else:
        raise DataError(
            "data must be a pymobilenet Dataset, a torchvision data set with classes, or a "
            f"datasets.Dataset. Received: {kind}"
        )
    numbers = np.asarray(labels)
    if numbers.dtype.kind not in "iu":
        raise DataError(f"{kind}: labels must be integers. Received: {numbers.dtype}")
    source = f"{kind}, {len(images)} images"
    dataset = Dataset(images, numbers.astype(np.int64), None, tuple(names), (), source, False)
    return replace(dataset, statistics=(dataset.mean, dataset.std))


def is_hugging_face_folder(path: Path) -> bool:
    """Return whether `datasets` wrote the folder at `path` (`save_to_disk`)."""
    return (path / DATASET_DICT).is_file() or (path / DATASET_INFO).is_file()


def load_from_disk(
    path: Path, split: Split, resolution: int | None = None, report: Notify = print_to_stderr
) -> Dataset:
    """Return one split of what `datasets.DatasetDict.save_to_disk` wrote.

    Args:
        path: The folder, of a `DatasetDict` with splits named as in `folder_layout.SPLIT_FOLDERS`.
        split: "train" or "test".
        resolution: See `to_dataset`.
        report: See `to_dataset`.

    Returns:
        The split.

    Raises:
        DataError: The package `datasets` is not installed, or the folder has no such split.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{path}: reading it requires the package datasets: "
            f'python -m pip install "pymobilenet[datasets]" ({error})'
        ) from None
    try:
        content = datasets.load_from_disk(str(path))
    except Exception as error:  # a damaged folder can raise nearly anything
        raise DataError(f"{path}: datasets cannot read it: {error}") from None
    if not isinstance(content, datasets.DatasetDict):
        raise DataError(
            f"{path}: it must be a DatasetDict with a training and a test split. "
            "Received: a single Dataset; use its train_test_split and save that"
        )
    names = [name for name in SPLIT_FOLDERS if SPLIT_FOLDERS[name] == split and name in content]
    if not names:
        raise DataError(f"{path}: it has no {split!r} split. Received: {', '.join(content)}")
    return to_dataset(content[names[0]], resolution, report=report)


def _hugging_face(
    data: Any, resolution: int | None, label_column: str | None
) -> tuple[NDArray[np.uint8], Any, tuple[str, ...]]:
    import datasets

    images = [name for name, f in data.features.items() if isinstance(f, datasets.Image)]
    labels = [name for name, f in data.features.items() if isinstance(f, datasets.ClassLabel)]
    preferred = [name for name in ("label", "fine_label") if name in labels]
    if label_column is None and len(labels) > 1 and preferred:
        labels = preferred[:1]
    if label_column is not None:
        labels = [name for name in labels if name == label_column]
    if len(images) != 1 or len(labels) != 1:
        described = ", ".join(f"{name} ({type(f).__name__})" for name, f in data.features.items())
        raise DataError(
            "a datasets.Dataset must have one Image column and one ClassLabel column, or "
            f"label_column must name one. Received: {described}"
        )
    encoded = data.cast_column(images[0], datasets.Image(decode=False))[images[0]]
    files = (
        (f"image {number}", one["bytes"] if one["bytes"] is not None else Path(one["path"]))
        for number, one in enumerate(encoded)
    )
    pixels = _stack(files, len(data), resolution)
    return pixels, data[labels[0]], tuple(data.features[labels[0]].names)


def _pixels(kind: str, values: Any, resolution: int | None) -> NDArray[np.uint8]:
    """Images in memory, (N, H, W) grey or (N, H, W, 3), as (N, 3, H, W)."""
    pixels = np.asarray(values)
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=3)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise DataError(
            f"{kind}: data must be uint8 (N, H, W) or (N, H, W, 3). "
            f"Received: {pixels.dtype} {pixels.shape}"
        )
    if resolution is None:
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    check_memory(len(pixels), resolution, resolution)
    return np.stack([resize(image, resolution) for image in pixels])


def _stack(
    files: Iterable[tuple[str, bytes | Path]], count: int, resolution: int | None
) -> NDArray[np.uint8]:
    """Decode `count` image files, given as (name for messages, content or path)."""
    images: NDArray[np.uint8] | None = None
    with unwarned():
        for number, (name, file) in enumerate(files):
            try:
                image = decode(file, resolution, any_format=True)
            except (DataError, OSError) as error:
                raise DataError(f"{name}: {error}") from None
            if images is None:
                check_memory(count, *image.shape[1:])
                images = np.empty((count, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise DataError(
                    "images must be of one size, or resolution must be given. Received: "
                    f"{name} of {image.shape[2]} x {image.shape[1]} pixels, the first of "
                    f"{images.shape[3]} x {images.shape[2]}"
                )
            images[number] = image
    if images is None:
        raise DataError("data must hold at least one image. Received: none")
    return images
