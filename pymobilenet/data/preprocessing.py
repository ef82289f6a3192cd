"""What images go through before a published net sees them, by the name a weight file carries."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pymobilenet.data.cifar import CIFAR100_MEAN, CIFAR100_STD
from pymobilenet.errors import ConfigError, DataError

PREPROCESSING = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "standard": (CIFAR100_MEAN, CIFAR100_STD),
    "keras": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Name -> mean and deviation of red, green, blue in [0, 1] units, as `normalise` takes them.

``unit``: [0, 1]. ``standard``: mean and deviation of CIFAR-100's training images, with which this
project trains. ``keras``: x / 127.5 - 1, which is (x / 255 - 0.5) / 0.5 (keras 3.15,
applications/imagenet_utils.py, mode "tf")."""


def preprocess(images: ArrayLike, name: str = "keras", dtype: DTypeLike = np.float32) -> np.ndarray:
    """Return images as a net of that name takes them: computed in float64, rounded once.

    Args:
        images: (N, H, W, 3), red, green, blue; uint8, or floats in [0, 255].
        name: one of `PREPROCESSING`; a weight file has it as its metadata ``preprocessing``.
        dtype: float32 or float64.

    Returns:
        (N, 3, H, W) of `dtype`, C-contiguous, a fresh array.

    Raises:
        DataError: images of another shape or dtype, outside [0, 255] or not finite.
        ConfigError: an unknown name; another dtype.

    >>> preprocess(np.full((1, 2, 2, 3), 255, np.uint8))[0, 0, 0, 0]
    np.float32(1.0)
    """
    if name not in PREPROCESSING:
        raise ConfigError(
            f"preprocessing must be one of {', '.join(PREPROCESSING)}. Received: {name!r}"
        )
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
    mean, std = PREPROCESSING[name]
    scaled = (pixels.astype(np.float64) / 255 - mean) / std  # (N, H, W, 3)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), kind)
