"""Which images a step sees, and how each is cropped and flipped: the same for every backend."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pymobilenet import philox
from pymobilenet.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one step and what is done to them.

    Attributes:
        indices: int64 (B,), positions in the dataset.
        offsets: int64 (B, 2), (dy, dx) of the crop's corner in the padded image.
        flips: bool (B,), True where the crop is mirrored left to right.
        crop_padding: rows and columns of zeros added on each side before the crop.
    """

    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]
    flips: NDArray[np.bool_]
    crop_padding: int

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class BatchPlan:
    """The order of images, crops and flips of a whole training run, a function of the seed.

    The order of an epoch is `philox.permutation` of `num_images` words of `Stream.ORDER`. The
    image at position p of an epoch takes words 4p, 4p+1 and 4p+2 of `Stream.CROP` (word 4p+3 is
    not used): dy = bounded(word, 2 * crop_padding + 1), dx likewise, and flip = the top bit. The
    last, incomplete batch of an epoch is dropped.

    Raises:
        ConfigError: a seed outside [0, 2**64), fewer than one image, a batch size outside
            [1, num_images], a crop padding outside [0, 2**16), or a flip that is no bool.
    """

    seed: int
    num_images: int
    batch_size: int
    crop_padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        philox.check_word("seed", self.seed)
        _check_range("num_images", self.num_images, 1, 2**32 - 1)
        _check_range("batch_size", self.batch_size, 1, self.num_images)
        _check_range("crop_padding", self.crop_padding, 0, 2**16 - 1)
        if not isinstance(self.flip, bool):
            raise ConfigError(f"flip must be True or False. Received: {self.flip!r}")

    @property
    def steps_per_epoch(self) -> int:
        """The number of full batches in an epoch."""
        return self.num_images // self.batch_size

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of the images in an epoch: int64 (num_images,), read-only."""
        return _order(self.seed, philox.check_word("epoch", epoch), self.num_images)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0 over all epochs.

        Raises:
            ConfigError: a step that is no integer in [0, 2**64).
        """
        epoch, position = divmod(philox.check_word("step", step), self.steps_per_epoch)
        span = slice(position * self.batch_size, (position + 1) * self.batch_size)
        dy, dx, flip = _crop_words(self.seed, epoch, self.num_images)[:, span]
        places = 2 * self.crop_padding + 1
        offsets = np.stack([philox.bounded(dy, places), philox.bounded(dx, places)], axis=1)
        flips = (flip >> np.uint64(63)).astype(bool) & self.flip
        return Batch(self.order(epoch)[span], offsets, flips, self.crop_padding)


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, num_images: int) -> NDArray[np.int64]:
    words = philox.raw_words(seed, philox.Stream.ORDER, epoch, 0, num_images)
    order = philox.permutation(words)
    order.flags.writeable = False
    return order


@functools.lru_cache(maxsize=4)
def _crop_words(seed: int, epoch: int, num_images: int) -> NDArray[np.uint64]:
    """Words for dy, dx and flip of every position of an epoch: uint64 (3, num_images)."""
    words = philox.raw_words(seed, philox.Stream.CROP, epoch, 0, 4 * num_images)
    return words.reshape(num_images, 4).T[:3]


def apply(images: NDArray[np.uint8], batch: Batch) -> NDArray[np.uint8]:
    """Return the images of a batch, zero-padded, cropped to their size, then flipped.

    Args:
        images: uint8 (N, C, H, W), the whole dataset.
        batch: what `BatchPlan.batch` gave.

    Returns:
        uint8 (B, C, H, W), C-contiguous, a fresh array.

    Raises:
        DataError: images of another dtype or number of axes, or fewer than the batch names.
    """
    _check_images(images)
    if batch.indices.max() >= len(images):
        raise DataError(
            f"the batch names image {batch.indices.max()}, but images holds only {len(images)}; "
            "make the plan with num_images=len(images)"
        )
    height, width = images.shape[2:]
    pad = batch.crop_padding
    padded = np.zeros((len(batch), images.shape[1], height + 2 * pad, width + 2 * pad), np.uint8)
    padded[:, :, pad : pad + height, pad : pad + width] = images[batch.indices]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    dy, dx = batch.offsets.T
    crops = np.ascontiguousarray(windows[np.arange(len(batch)), :, dy, dx])  # (B, C, H, W)
    crops[batch.flips] = crops[batch.flips, ..., ::-1]
    return crops


def normalise(
    images: NDArray[np.uint8],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = np.float32,
) -> np.ndarray:
    """Return (x / 255 - mean) / std, computed in float64 and rounded once to `dtype`.

    Args:
        images: uint8 (B, C, H, W).
        mean: C values in [0, 1] units, one for each channel.
        std: C positive values in [0, 1] units.
        dtype: float32 or float64.

    Returns:
        (B, C, H, W) of `dtype`, C-contiguous, a fresh array.

    Raises:
        DataError: images of another dtype or number of axes.
        ConfigError: a mean or std of another length, not finite or not positive; another dtype.
    """
    _check_images(images)
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ConfigError(f"dtype must be float32 or float64. Received: {kind}")
    means, stds = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    channels = images.shape[1]
    if means.shape != (channels,) or stds.shape != (channels,):
        raise ConfigError(
            f"mean and std must hold one value for each of the {channels} channels. "
            f"Received: {mean!r}, {std!r}"
        )
    if not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0).all()):
        raise ConfigError(
            f"mean must be finite and std finite and positive. Received: {mean!r}, {std!r}"
        )
    table = ((np.arange(256.0)[:, None] / 255 - means) / stds).astype(kind)  # (256, C)
    result = np.empty(images.shape, kind)
    for channel in range(channels):
        result[:, channel] = table[:, channel][images[:, channel]]
    return result


def _check_images(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"images must be uint8 (N, C, H, W). Received: {images.dtype} {images.shape}"
        )


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be an integer in [{low}, {high}]. Received: {value!r}")
