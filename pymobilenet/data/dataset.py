"""Labelled images in memory."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pymobilenet.errors import DataError

Channels = tuple[float, float, float]
Statistics = tuple[Channels, Channels]
"""Mean and standard deviation of red, green and blue, in [0, 1] units."""

CHUNK = 256
"""Images that are read at a time."""

Known = Statistics | Callable[[], Statistics]
"""Statistics, or a function that computes them on demand, because it may read images."""


class SelectedImages:
    """Some images of an array, which are copied when they are indexed, and not before.

    `numpy.asarray` copies all of them.

    Args:
        images: uint8 (M, 3, H, W).
        positions: (N,), indices into `images`.

    Attributes:
        shape (tuple): (N, 3, H, W).
        dtype (numpy.dtype): uint8.
        ndim (int): 4.
        size (int): The number of values.
    """

    def __init__(self, images: NDArray[np.uint8], positions: NDArray[np.integer]) -> None:
        self._images, self._positions = images, positions
        self.shape = (len(positions), *images.shape[1:])
        self.dtype, self.ndim, self.size = images.dtype, images.ndim, math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self._images[position] for position in self._positions)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return images as an array does, copied where the first index is not an integer."""
        first, *others = key if isinstance(key, tuple) else (key,)
        positions = self._positions[first]
        return self._images[positions][(*(slice(None),) * positions.ndim, *others)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def select(self, positions: NDArray[np.integer]) -> SelectedImages:
        """Return some of these images.

        Args:
            positions: Indices into these images, one axis.
        """
        return SelectedImages(self._images, self._positions[positions])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in memory. The arrays are read-only.

    Attributes:
        images: uint8 (N, 3, H, W), C-contiguous, channels red, green, blue; `SelectedImages` of
            those of another data set after `subset`.
        labels: int64 (N,), the fine labels, indices into `class_names`.
        coarse: int64 (N,), indices into `coarse_names`, or None.
        class_names: The names of the classes.
        coarse_names: The names of the coarse classes; empty without coarse labels.
        source: Where the images come from, for reports.
        synthetic: Whether the images are generated; `source` then begins with "SYNTHETIC".
        statistics: Mean and standard deviation of the *training* images, also for a test split, or
            a function that computes them; used by the preprocessing "standard". None: those of
            CIFAR-100.

    Raises:
        DataError: A wrong dtype or shape, a label out of range, no images, or a `source` that
            contradicts `synthetic`.
    """

    images: NDArray[np.uint8] | SelectedImages
    labels: NDArray[np.int64]
    coarse: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    source: str
    synthetic: bool
    statistics: Known | None = None

    def __post_init__(self) -> None:
        is_selected = isinstance(self.images, SelectedImages)
        images: Any = self.images if is_selected else np.asarray(self.images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or not images.size:
            raise DataError(
                "images must be uint8 of shape (N, 3, H, W) with at least one image. "
                f"Received: {images.dtype} {images.shape}"
            )
        object.__setattr__(self, "images", images if is_selected else _read_only(images))
        labels = _labels("labels", self.labels, len(images), len(self.class_names))
        object.__setattr__(self, "labels", labels)
        if self.coarse is not None:
            coarse = _labels("coarse", self.coarse, len(images), len(self.coarse_names))
            object.__setattr__(self, "coarse", coarse)
        if self.source.startswith("SYNTHETIC") != self.synthetic:
            raise DataError(
                'source must begin with "SYNTHETIC" exactly when synthetic is True. '
                f"Received: source {self.source!r}, synthetic {self.synthetic}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """The number of fine classes."""
        return len(self.class_names)

    @functools.cached_property
    def _sums(self) -> list[tuple[int, int]]:
        """The exact sum of the bytes and of their squares, for each channel."""
        counts = np.zeros((3, 256), np.int64)
        for start in range(0, len(self), CHUNK):
            chunk = self.images[start : start + CHUNK]
            for channel in range(3):
                counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
        values = np.arange(256)
        return [(int(row @ values), int(row @ values**2)) for row in counts]

    @property
    def mean(self) -> Channels:
        """Mean of each channel in [0, 1] units, correctly rounded from integer sums."""
        pixels = self.images.size // 3
        red, green, blue = (total / (255 * pixels) for total, _ in self._sums)
        return red, green, blue

    @property
    def std(self) -> Channels:
        """Population standard deviation of each channel in [0, 1] units, from integer sums."""
        n = self.images.size // 3
        red, green, blue = (
            math.sqrt(Fraction(n * squares - total * total, (255 * n) ** 2))
            for total, squares in self._sums
        )
        return red, green, blue

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of `images` and then `labels` (little-endian)."""
        hasher = hashlib.sha256()
        for start in range(0, len(self), CHUNK):
            hasher.update(self.images[start : start + CHUNK].data)
        hasher.update(self.labels.astype("<i8", copy=False).data)
        return hasher.hexdigest()

    def subset(self, indices: ArrayLike) -> Dataset:
        """Return the images at the given positions, in that order, as a new data set.

        Args:
            indices: Integers in [0, N), one axis.

        Returns:
            A data set, which shares the memory of this one; this one, if the positions are all
            of its images in their order.

        Raises:
            DataError: No index, or one that is not an integer in [0, N).
        """
        positions = np.asarray(indices)
        if positions.ndim != 1 or positions.dtype.kind not in "iu" or not positions.size:
            raise DataError(
                "indices must be integers along one axis, at least one. "
                f"Received: {positions.dtype} {positions.shape}"
            )
        wrong = positions[(positions < 0) | (positions >= len(self))]
        if wrong.size:
            raise DataError(f"indices must be in [0, {len(self)}). Received: {wrong[0]}")
        first, stop = positions[0], positions[0] + len(positions)
        is_range = np.array_equal(positions, np.arange(first, stop))
        if is_range and len(positions) == len(self):
            return self
        images: NDArray[np.uint8] | SelectedImages
        if isinstance(self.images, SelectedImages):
            images = self.images.select(positions)
        elif is_range:
            images = self.images[first:stop]
        else:
            images = SelectedImages(self.images, positions)
        return replace(
            self,
            images=images,
            labels=self.labels[positions],
            coarse=None if self.coarse is None else self.coarse[positions],
            source=f"{self.source}, {len(positions)} of {len(self)} images",
        )


def _read_only(array: np.ndarray) -> np.ndarray:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _labels(name: str, values: ArrayLike, count: int, classes: int) -> NDArray[np.int64]:
    labels = np.asarray(values)
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise DataError(
            f"{name} must be int64 of shape ({count},), one for each image. "
            f"Received: {labels.dtype} {labels.shape}"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"{name} must be in [0, {classes}). Received: {labels[wrong[0]]} at index {wrong[0]}"
        )
    return _read_only(labels)
