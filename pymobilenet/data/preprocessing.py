"""Conversion of image bytes to the model's input, by named preprocessings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pymobilenet.data.augmenting import check_images
from pymobilenet.data.cifar_table import CIFAR100_MEAN, CIFAR100_STD
from pymobilenet.data.dataset import Dataset, Statistics
from pymobilenet.errors import ConfigError, DataError

_CHUNK_PIXELS = 2**13  # of a channel, converted together, so that results fit the cache

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value: ITU-R BT.601, as Pillow's mode "L"."""

PREPROCESSING: dict[str, Statistics] = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "standard": (CIFAR100_MEAN, CIFAR100_STD),
    "keras": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Name -> mean and standard deviation of red, green, blue in [0, 1] units, for `normalise`.

``unit``: [0, 1]. ``standard``: mean and standard deviation of the training images, here
CIFAR-100's; see `scaling` for other data. ``keras``: x / 127.5 - 1, which is
(x / 255 - 0.5) / 0.5 (keras 3.15, applications/imagenet_utils.py, mode "tf")."""


def scaling(name: str, data: Dataset) -> Statistics:
    """Return the mean and standard deviation with which images are normalised.

    Args:
        name: A key of `PREPROCESSING`.
        data: The images. For "standard", the statistics of its training images are used, if known.

    Raises:
        ConfigError: An unknown preprocessing.
        DataError: The training images are needed and cannot be read.
    """
    statistics = data.statistics if check_name(name) == "standard" else None
    if statistics is None:
        return PREPROCESSING[name]
    return statistics() if callable(statistics) else statistics


def normalise(
    images: NDArray[np.uint8],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = np.float32,
) -> np.ndarray:
    """Return ``(x / 255 - mean) / std``, computed in float64 and rounded once.

    Args:
        images: uint8 (B, C, H, W).
        mean: C values in [0, 1] units.
        std: C positive values in [0, 1] units.
        dtype: float32 or float64.

    Returns:
        (B, C, H, W) of `dtype`, C-contiguous, a new array.

    Raises:
        DataError: The images have another dtype or number of axes.
        ConfigError: Invalid mean, std or dtype.
    """
    check_images(images)
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ConfigError(f"dtype must be float32 or float64. Received: {kind}")
    means, stds = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    channels = images.shape[1]
    if means.shape != (channels,) or stds.shape != (channels,):
        raise ConfigError(
            f"mean and std must have one value for each of the {channels} channels. "
            f"Received: {mean!r}, {std!r}"
        )
    if not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0).all()):
        raise ConfigError(
            f"mean must be finite and std finite and positive. Received: {mean!r}, {std!r}"
        )
    table = ((np.arange(256.0) / 255 - means[:, None]) / stds[:, None]).astype(kind)  # (C, 256)
    result = np.empty(images.shape, kind)
    count = max(1, _CHUNK_PIXELS // max(1, images.shape[2] * images.shape[3]))
    for start in range(0, len(images), count):
        chunk = slice(start, start + count)
        for channel in range(channels):
            result[chunk, channel] = table[channel].take(images[chunk, channel])
    return result


def for_channels(
    images: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float], channels: int
) -> tuple[NDArray[np.uint8], Sequence[float], Sequence[float]]:
    """Return images, mean and standard deviation for a model with 1 or 3 input channels.

    For 1 channel, images are converted to grey, and mean and standard deviation to the weighted
    means of those of the three channels. For 3 channels they are returned unchanged.

    Args:
        images: uint8 (B, 3, H, W), red, green, blue.
        mean: 3 values in [0, 1] units.
        std: 3 values in [0, 1] units.
        channels: 1 or 3.

    Raises:
        DataError: Another number of channels.
    """
    if channels == images.shape[1]:
        return images, mean, std
    if channels != 1:
        raise DataError(
            "images have red, green and blue, or grey: the net must have 3 input channels, or 1. "
            f"Received: in_channels {channels}"
        )
    grey = np.einsum("bchw,c->bhw", images, LUMA, dtype=np.float64)
    means, stds = (float(np.dot(LUMA, values)) for values in (mean, std))
    return np.rint(grey).astype(np.uint8)[:, None], (means,), (stds,)


def preprocess(
    images: ArrayLike,
    name: str = "keras",
    dtype: DTypeLike = np.float32,
    statistics: Statistics | None = None,
    channels: int = 3,
) -> np.ndarray:
    """Convert images to a model's input, computed in float64 and rounded once.

    Args:
        images: (N, H, W, 3), red, green, blue; uint8, or floats in [0, 255].
        name: A key of `PREPROCESSING`; the metadata ``preprocessing`` of a weight file.
        dtype: float32 or float64.
        statistics: Mean and standard deviation to use instead of those of `name`, from
            `statistics_of`.
        channels: Channels of the model, 3 or 1; see `for_channels`.

    Returns:
        (N, channels, H, W) of `dtype`, C-contiguous, a new array.

    Raises:
        DataError: The images have another shape or dtype, or values outside [0, 255].
        ConfigError: An unknown preprocessing or another dtype.

    Examples:
        >>> float(preprocess(np.full((1, 2, 2, 3), 255, np.uint8))[0, 0, 0, 0])
        1.0
    """
    mean, std = statistics or PREPROCESSING[check_name(name)]
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ConfigError(f"dtype must be float32 or float64. Received: {kind}")
    pixels = np.asarray(images)
    has_shape = pixels.ndim == 4 and pixels.shape[3] == 3 and pixels.size
    if not has_shape or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        raise DataError(
            "images must be uint8 or floats of shape (N, H, W, 3). "
            f"Received: {pixels.dtype} {pixels.shape}"
        )
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 255):  # false for NaN too
        raise DataError(f"images must lie in [0, 255]. Received: values from {low} to {high}")
    if channels != 3:
        integers = np.rint(pixels).astype(np.uint8).transpose(0, 3, 1, 2)
        return normalise(*for_channels(integers, mean, std, channels), kind)
    scaled = (pixels.astype(np.float64) / 255 - mean) / std  # (N, H, W, 3)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), kind)


def check_name(name: str) -> str:
    """Return the name of a preprocessing.

    Args:
        name: A key of `PREPROCESSING`.

    Raises:
        ConfigError: An unknown name.
    """
    if name not in PREPROCESSING:
        raise ConfigError(
            f"preprocessing must be one of {', '.join(PREPROCESSING)}. Received: {name!r}"
        )
    return name
