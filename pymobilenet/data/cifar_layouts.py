"""The two official layouts of CIFAR-100, each as a folder.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.dataset import Dataset
from pymobilenet.data.restricted_pickle import load_pickle
from pymobilenet.errors import DataError

Split = Literal["train", "test"]

NUM_FINE = 100
NUM_COARSE = 20
RECORD_BYTES = 2 + 3 * 32 * 32
"""Coarse label, fine label, 1024 bytes each of red, green and blue, row by row."""

MAX_BYTES = 256 * 2**20
"""More than a file may hold. The largest official one, `train.bin`, has 154 MB."""

STANDIN_NAME = "standin_"
"""What the class names of a stand-in begin with, so that its files cannot pass for real ones."""

BINARY_FILES = ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt")
PYTHON_FILES = ("train", "test", "meta")
_DATA_KEYS = {"filenames", "batch_label", "fine_labels", "coarse_labels", "data"}
_META_KEYS = {"fine_label_names", "coarse_label_names"}


def read_binary(folder: Path, split: Split, origin: str) -> Dataset:
    """Return one split of a folder in the binary layout; `origin` is named in its source.

    Raises:
        DataError: as `load_cifar100`.
    """
    path = _existing(folder / f"{split}.bin")
    size = path.stat().st_size
    if size == 0 or size % RECORD_BYTES or size > MAX_BYTES:
        raise DataError(
            f"{path}: {size} bytes; the size must be a positive multiple of {RECORD_BYTES} and at "
            f"most {MAX_BYTES} (the last whole record ends at byte {size - size % RECORD_BYTES})"
        )
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD_BYTES)
    for offset, kind, limit in ((0, "coarse", NUM_COARSE), (1, "fine", NUM_FINE)):
        values = records[:, offset]
        if (wrong := np.flatnonzero(values >= limit)).size:
            raise DataError(
                f"{path}: {kind} label {values[wrong[0]]} at byte "
                f"{wrong[0] * RECORD_BYTES + offset}; it must be below {limit}"
            )
    images = np.ascontiguousarray(records[:, 2:])
    fine_names = _read_names(folder / "fine_label_names.txt", NUM_FINE)
    coarse_names = _read_names(folder / "coarse_label_names.txt", NUM_COARSE)
    layout = f"binary layout), {split}, {origin}"
    fine, coarse = records[:, 1], records[:, 0]
    return _dataset(images, fine, coarse, fine_names, coarse_names, layout)


def read_python(folder: Path, split: Split, origin: str) -> Dataset:
    """Return one split of a folder in the Python layout; `origin` is named in its source.

    Raises:
        DataError: as `load_cifar100`.
    """
    path, meta_path = _existing(folder / split), _existing(folder / "meta")
    content = _load_dict(path, _DATA_KEYS)
    meta = _load_dict(meta_path, _META_KEYS)
    data = content["data"]
    if not isinstance(data, np.ndarray) or data.shape[1] != RECORD_BYTES - 2 or not len(data):
        raise DataError(f"{path}: 'data' must be a uint8 array (N, {RECORD_BYTES - 2}) with N > 0")
    files = content["filenames"]
    if type(files) is not list or len(files) != len(data):
        raise DataError(f"{path}: 'filenames' must be a list of {len(data)}, one for each image")
    if type(content["batch_label"]) is not str or not all(type(name) is str for name in files):
        raise DataError(f"{path}: 'batch_label' and each of 'filenames' must be str")
    fine = _integers(path, "fine_labels", content["fine_labels"], len(data), NUM_FINE)
    coarse = _integers(path, "coarse_labels", content["coarse_labels"], len(data), NUM_COARSE)
    names = _names(meta_path, meta["fine_label_names"], NUM_FINE)
    coarse_names = _names(meta_path, meta["coarse_label_names"], NUM_COARSE)
    layout = f"Python layout), {split}, {origin}"
    return _dataset(data, fine, coarse, names, coarse_names, layout)


def _dataset(
    images: NDArray[np.uint8],
    fine: np.ndarray,
    coarse: np.ndarray,
    names: tuple[str, ...],
    coarse_names: tuple[str, ...],
    layout: str,
) -> Dataset:
    stand_in = names[0].startswith(STANDIN_NAME)
    return Dataset(
        images=images.reshape(-1, 3, 32, 32),
        labels=fine.astype(np.int64),
        coarse=coarse.astype(np.int64),
        class_names=names,
        coarse_names=coarse_names,
        source=f"{'STAND-IN for ' if stand_in else ''}CIFAR-100 ({layout}",
        stand_in=stand_in,
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing: the folder holds CIFAR-100, but not this file of it")
    return path


def _read_names(path: Path, count: int) -> tuple[str, ...]:
    content = _existing(path).read_bytes()[: 2**16]
    try:
        return _names(path, content.decode("ascii").split(), count)
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


def _integers(path: Path, key: str, values: Any, count: int, limit: int) -> NDArray[np.int64]:
    if type(values) is not list or len(values) != count:
        raise DataError(f"{path}: {key!r} must be a list of {count} integers, one for each image")
    for position, value in enumerate(values):
        if type(value) is not int or not 0 <= value < limit:
            raise DataError(
                f"{path}: {key!r} must hold integers in [0, {limit}). "
                f"Received: {reprlib.repr(value)} at index {position}"
            )
    return np.array(values, np.int64)
