"""Bytes to the numbers a net sees, by the name that recipes and weight files carry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pymobilenet.data.augmenting import check_images
from pymobilenet.data.cifar_table import CIFAR100_MEAN, CIFAR100_STD
from pymobilenet.data.dataset import Dataset, Statistics
from pymobilenet.errors import ConfigError, DataError

_AT_ONCE = 2**13  # pixels of a channel looked up at a time: what is made of them stays in the cache

PREPROCESSING: dict[str, Statistics] = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "standard": (CIFAR100_MEAN, CIFAR100_STD),
    "keras": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Name -> mean and deviation of red, green, blue in [0, 1] units, as `normalise` takes them.

``unit``: [0, 1]. ``standard``: mean and deviation of the training images, here CIFAR-100's; see
`scaling` for other data. ``keras``: x / 127.5 - 1, which is (x / 255 - 0.5) / 0.5 (keras 3.15,
applications/imagenet_utils.py, mode "tf")."""


def scaling(name: str, data: Dataset) -> Statistics:
    """Return the mean and deviation that `normalise` takes for the images of `data`.

    They are those of `PREPROCESSING`, but for "standard" those of the data set's own training
    images, where it knows them.

    Raises:
        ConfigError: an unknown name.
        DataError: training images that have to be read for it, and cannot.
    """
    own = data.statistics if check_name(name) == "standard" else None
    if own is None:
        return PREPROCESSING[name]
    return own() if callable(own) else own


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
    check_images(images)
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
    table = ((np.arange(256.0) / 255 - means[:, None]) / stds[:, None]).astype(kind)  # (C, 256)
    result = np.empty(images.shape, kind)
    some = max(1, _AT_ONCE // max(1, images.shape[2] * images.shape[3]))
    for start in range(0, len(images), some):
        part = slice(start, start + some)
        for channel in range(channels):
            result[part, channel] = table[channel].take(images[part, channel])
    return result


def preprocess(
    images: ArrayLike,
    name: str = "keras",
    dtype: DTypeLike = np.float32,
    statistics: Statistics | None = None,
) -> np.ndarray:
    """Return images as a net of that name takes them: computed in float64, rounded once.

    Args:
        images: (N, H, W, 3), red, green, blue; uint8, or floats in [0, 255].
        name: one of `PREPROCESSING`; a weight file has it as its metadata ``preprocessing``.
        dtype: float32 or float64.
        statistics: mean and deviation to take for those of `name`, from `statistics_of` of a weight
            file.

    Returns:
        (N, 3, H, W) of `dtype`, C-contiguous, a fresh array.

    Raises:
        DataError: images of another shape or dtype, outside [0, 255] or not finite.
        ConfigError: an unknown name; another dtype.

    >>> preprocess(np.full((1, 2, 2, 3), 255, np.uint8))[0, 0, 0, 0]
    np.float32(1.0)
    """
    mean, std = statistics or PREPROCESSING[check_name(name)]
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ConfigError(f"dtype must be float32 or float64. Received: {kind}")
    pixels = np.asarray(images)
    shaped = pixels.ndim == 4 and pixels.shape[3] == 3 and pixels.size
    if not shaped or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        raise DataError(
            "images must be uint8 or floats of shape (N, H, W, 3). "
            f"Received: {pixels.dtype} {pixels.shape}"
        )
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 255):  # false for NaN too
        raise DataError(f"images must lie in [0, 255]. Received: values from {low} to {high}")
    scaled = (pixels.astype(np.float64) / 255 - mean) / std  # (N, H, W, 3)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), kind)


def check_name(name: str) -> str:
    """`name`, if it is one of `PREPROCESSING`.

    Raises:
        ConfigError: it is not.
    """
    if name not in PREPROCESSING:
        raise ConfigError(
            f"preprocessing must be one of {', '.join(PREPROCESSING)}. Received: {name!r}"
        )
    return name
