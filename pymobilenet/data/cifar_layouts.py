"""Readers of the two official layouts of CIFAR-10 and CIFAR-100, as folders."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.cifar_table import Cifar, Labels, Split
from pymobilenet.data.dataset import Dataset
from pymobilenet.data.restricted_pickle import load_pickle
from pymobilenet.errors import DataError

PIXEL_BYTES = 3 * 32 * 32
"""1024 bytes each of red, green and blue, row by row, after the labels of a record."""

MAX_BYTES = 256 * 2**20
"""Limit for the size of a file. The largest official file, `train.bin`, has 154 MB."""

SYNTHETIC_PREFIX = "synthetic_"
"""Prefix of the class names of synthetic data, so that its files are not mistaken for real ones."""

_IMAGE_KEYS = {"filenames", "batch_label", "data"}


def read_binary(folder: Path, cifar: Cifar, split: Split, origin: str) -> Dataset:
    """Read one split of a folder in the binary layout.

    Args:
        folder: The folder.
        cifar: Which CIFAR.
        split: "train" or "test".
        origin: Name of the folder or archive, for `Dataset.source`.

    Returns:
        The split.

    Raises:
        DataError: As `load_cifar100`.
    """
    files = [
        _records(_existing(folder / name, cifar), cifar)
        for name in cifar.image_files("binary", split)
    ]
    first = len(cifar.labels)
    return _dataset(
        cifar,
        np.concatenate([records[:, first:] for records in files]),
        [np.concatenate([records[:, byte] for records in files]) for byte in range(first)],
        [_read_names(folder, cifar, label) for label in cifar.labels],
        f"binary layout), {split}, {origin}",
    )


def read_python(folder: Path, cifar: Cifar, split: Split, origin: str) -> Dataset:
    """Read one split of a folder in the Python layout.

    Args:
        folder: The folder.
        cifar: Which CIFAR.
        split: "train" or "test".
        origin: Name of the folder or archive, for `Dataset.source`.

    Returns:
        The split.

    Raises:
        DataError: As `load_cifar100`.
    """
    files = [
        _read_pickle(_existing(folder / name, cifar), cifar)
        for name in cifar.image_files("Python", split)
    ]
    path = _existing(folder / cifar.meta, cifar)
    meta = _load_dict(path, {label.names_key for label in cifar.labels} | cifar.meta_keys)
    return _dataset(
        cifar,
        np.concatenate([pixels for pixels, _ in files]),
        [np.concatenate(values) for values in zip(*(labels for _, labels in files), strict=True)],
        [_names(path, meta[label.names_key], label.count) for label in cifar.labels],
        f"Python layout), {split}, {origin}",
    )


def _records(path: Path, cifar: Cifar) -> NDArray[np.uint8]:
    """Read the records of a file, uint8 (N, labels + 3072), and check their labels."""
    length, size = len(cifar.labels) + PIXEL_BYTES, path.stat().st_size
    if size == 0 or size % length or size > MAX_BYTES:
        raise DataError(
            f"{path}: {size} bytes; the size must be a positive multiple of {length} and at "
            f"most {MAX_BYTES} (the last whole record ends at byte {size - size % length})"
        )
    records = np.fromfile(path, np.uint8).reshape(-1, length)
    for byte, label in enumerate(cifar.labels):
        values = records[:, byte]
        if (wrong := np.flatnonzero(values >= label.count)).size:
            raise DataError(
                f"{path}: {label.kind} {values[wrong[0]]} at byte {wrong[0] * length + byte}; "
                f"it must be below {label.count}"
            )
    return records


def _read_pickle(path: Path, cifar: Cifar) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """Read the pixels (N, 3072) and the labels, each (N,), of a pickle of images."""
    content = _load_dict(path, _IMAGE_KEYS | {label.key for label in cifar.labels})
    data = content["data"]
    if not isinstance(data, np.ndarray) or data.shape[1] != PIXEL_BYTES or not len(data):
        raise DataError(f"{path}: 'data' must be a uint8 array (N, {PIXEL_BYTES}) with N > 0")
    files = content["filenames"]
    if type(files) is not list or len(files) != len(data):
        raise DataError(f"{path}: 'filenames' must be a list of {len(data)}, one for each image")
    if type(content["batch_label"]) is not str or not all(type(name) is str for name in files):
        raise DataError(f"{path}: 'batch_label' and each of 'filenames' must be str")
    return data, [_integers(path, content[label.key], len(data), label) for label in cifar.labels]


def _dataset(
    cifar: Cifar,
    pixels: NDArray[np.uint8],
    labels: list[np.ndarray],
    names: list[tuple[str, ...]],
    origin: str,
) -> Dataset:
    synthetic = names[-1][0].startswith(SYNTHETIC_PREFIX)
    has_coarse = len(labels) > 1
    return Dataset(
        images=pixels.reshape(-1, 3, 32, 32),
        labels=labels[-1].astype(np.int64),
        coarse=labels[0].astype(np.int64) if has_coarse else None,
        class_names=names[-1],
        coarse_names=names[0] if has_coarse else (),
        source=f"{'SYNTHETIC for ' if synthetic else ''}{cifar.title} ({origin}",
        synthetic=synthetic,
        statistics=cifar.statistics,
    )


def _existing(path: Path, cifar: Cifar) -> Path:
    if not path.is_file():
        raise DataError(
            f"{path} is missing: the folder contains other files of {cifar.title}, but not this one"
        )
    return path


def _read_names(folder: Path, cifar: Cifar, label: Labels) -> tuple[str, ...]:
    path = _existing(folder / label.names_file, cifar)
    with path.open("rb") as file:
        content = file.read(2**16)
    try:
        return _names(path, content.decode("ascii").split(), label.count)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: label names must be ASCII; byte {error.start} is not") from error


def _names(path: Path, names: Any, count: int) -> tuple[str, ...]:
    if type(names) is not list or not all(type(name) is str for name in names):
        raise DataError(f"{path}: label names must be a list of str. Received: {type(names)}")
    if len(names) != count or len(set(names)) != count:
        raise DataError(
            f"{path}: must hold {count} different label names. "
            f"Received: {len(names)}, {len(set(names))} of them different"
        )
    return tuple(names)


def _load_dict(path: Path, keys: set[str]) -> dict[str, Any]:
    content = load_pickle(path)
    if set(content) != keys:
        raise DataError(
            f"{path}: must hold exactly the keys {sorted(keys)}. "
            f"Received: {reprlib.repr(sorted(content))}"
        )
    return content


def _integers(path: Path, values: Any, count: int, label: Labels) -> NDArray[np.int64]:
    if type(values) is not list or len(values) != count:
        raise DataError(
            f"{path}: {label.key!r} must be a list of {count} integers, one for each image"
        )
    for position, value in enumerate(values):
        if type(value) is not int or not 0 <= value < label.count:
            raise DataError(
                f"{path}: {label.key!r} must hold integers in [0, {label.count}). "
                f"Received: {reprlib.repr(value)} at index {position}"
            )
    return np.array(values, np.int64)
