"""Augmentation of pixels and labels in integer arithmetic, so that every language agrees.

The order is crop, flip, rotation, cutout, mixup. Pixels outside an image are 0 (black).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pymobilenet import philox
from pymobilenet.data.batch_plan import MIXED, BatchSpec
from pymobilenet.data.dataset import SelectedImages
from pymobilenet.errors import DataError

_CHUNK_PIXELS = 2**16  # rotated at a time, so that intermediate arrays fit the cache


def apply(images: NDArray[np.uint8] | SelectedImages, batch: BatchSpec) -> NDArray[np.uint8]:
    """Return the augmented images of a batch.

    Args:
        images: uint8 (N, C, H, W), the whole data set; an array or `SelectedImages`.
        batch: From `BatchPlan.batch`.

    Returns:
        uint8 (B, C, H, W), C-contiguous, a new array.

    Raises:
        DataError: The images have another dtype or number of axes, or are too few for the batch.
    """
    check_images(images)
    if batch.indices.max() >= len(images):
        raise DataError(
            f"indices of a batch must be below the number of images, {len(images)}. "
            f"Received: {batch.indices.max()}. Create the plan with num_images=len(images)"
        )
    pixels = crop_and_flip(images, batch)
    if batch.angles is not None:
        pixels = rotate(pixels, batch.angles)
    if batch.holes is not None:
        cut_out(pixels, batch.holes, batch.cutout)
    if batch.partners is not None and batch.weights is not None:
        pixels = mix(pixels, batch.partners, batch.weights)
    return pixels


def crop_and_flip(
    images: NDArray[np.uint8] | SelectedImages, batch: BatchSpec
) -> NDArray[np.uint8]:
    """Return the images of a batch, zero-padded, cropped to their size, then flipped.

    Args:
        images: uint8 (N, C, H, W), the whole data set.
        batch: Indices, offsets and flips.

    Returns:
        uint8 (B, C, H, W).
    """
    height, width = images.shape[2:]
    crops = np.zeros((len(batch), *images.shape[1:]), np.uint8)
    shifts = (batch.offsets - batch.crop_padding).tolist()
    crop_arguments = zip(batch.indices.tolist(), shifts, batch.flips.tolist(), strict=True)
    for crop, (index, (down, right), flip) in zip(crops, crop_arguments, strict=True):
        target = crop[:, :, ::-1] if flip else crop
        target[:, max(-down, 0) : max(height - down, 0), max(-right, 0) : max(width - right, 0)] = (
            images[
                index,
                :,
                max(down, 0) : max(height + down, 0),
                max(right, 0) : max(width + right, 0),
            ]
        )
    return crops


def rotate(images: NDArray[np.uint8], angles: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Rotate images clockwise about their centre, with bilinear interpolation.

    In integer arithmetic: with c and s the cosine and sine of the angle in 2**-16 (to the nearest),
    and u = 2x - (W-1), v = 2y - (H-1) the distances of output pixel (y, x) from the centre in half
    pixels, the input is read at (c u + s v, c v - s u) from the centre, in 2**-17 pixels. Fractions
    of a pixel are truncated to 1/256; the weighted sum of the four neighbours is rounded half up.

    Args:
        images: uint8 (B, C, H, W).
        angles: int64 (B,), in sixteenths of a degree.

    Returns:
        uint8 (B, C, H, W).
    """
    count = max(1, _CHUNK_PIXELS // images[0].size)
    chunks = [slice(start, start + count) for start in range(0, len(images), count)]
    return np.concatenate([_rotate(images[chunk], angles[chunk]) for chunk in chunks])


def _rotate(images: NDArray[np.uint8], angles: NDArray[np.int64]) -> NDArray[np.uint8]:
    count, channels, height, width = images.shape
    radians = angles[:, None, None] * (np.pi / (16 * 180))
    cos, sin = (np.rint(f(radians) * 65536).astype(np.int64) for f in (np.cos, np.sin))
    v = 2 * np.arange(height)[:, None] - (height - 1)
    u = 2 * np.arange(width) - (width - 1)
    across = cos * u + sin * v + (width - 1) * 65536  # (B, H, W)
    down = cos * v - sin * u + (height - 1) * 65536
    # two rows and columns of zeros: the neighbours of positions further out are zeros
    padded = np.zeros((count, channels, height + 4, width + 4), np.uint8)
    padded[:, :, 2:-2, 2:-2] = images
    column, row = (across >> 17).clip(-2, width) + 2, (down >> 17).clip(-2, height) + 2
    corner = (row * (width + 4) + column).reshape(count, 1, -1)
    planes = np.arange(count * channels).reshape(count, channels, 1)
    corner = corner + planes * padded[0, 0].size  # (B, C, H W), places in the flat array
    right, below = (
        ((position >> 9) & 255).astype(np.uint16).reshape(count, 1, -1)
        for position in (across, down)
    )

    def interpolate_row(start: int) -> NDArray[np.uint16]:
        first, second = (padded.ravel()[shift:].take(corner) for shift in (start, start + 1))
        return (256 - right) * first + right * second

    total = (256 - below).astype(np.uint32) * interpolate_row(0)
    total += below.astype(np.uint32) * interpolate_row(width + 4)
    return ((total + 32768) >> 16).astype(np.uint8).reshape(images.shape)


def cut_out(images: NDArray[np.uint8], holes: NDArray[np.uint64], size: int) -> None:
    """Set a square of each image to 0, in place.

    Its centre is at row bounded(holes[b, 0], H) and column bounded(holes[b, 1], W); it starts
    size // 2 pixels above and left of that, and is clipped at the image's border.

    Args:
        images: uint8 (B, C, H, W).
        holes: uint64 (B, 2), random words.
        size: Side of the square, in pixels.
    """
    height, width = images.shape[2:]
    rows, columns = philox.bounded(holes[:, 0], height), philox.bounded(holes[:, 1], width)
    corners = np.stack([rows, columns], axis=1) - size // 2
    for image, (top, left) in zip(images, corners.tolist(), strict=True):
        image[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0


def mix(
    images: NDArray[np.uint8], partners: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return ``(w a + (256 - w) b + 128) >> 8`` for each image a and its partner b.

    Args:
        images: uint8 (B, C, H, W).
        partners: int64 (B,), positions in the batch.
        weights: int64 (B,), 0 ... 256.

    Returns:
        uint8 (B, C, H, W).
    """
    weight = weights.astype(np.uint16)[:, None, None, None]
    other = np.uint16(MIXED) - weight
    return ((weight * images + other * images[partners] + np.uint16(128)) >> np.uint16(8)).astype(
        np.uint8
    )


def targets(
    labels: NDArray[np.int64], batch: BatchSpec, num_classes: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return the target distributions of a batch.

    A target is 1 for the image's class; with mixup, w / 256 for it and the rest for its partner's.

    Args:
        labels: int64 (N,), of the whole data set.
        batch: From `BatchPlan.batch`.
        num_classes: Number of classes, larger than any label.
        dtype: float32 or float64; the values are exact in both.

    Returns:
        (B, num_classes), with rows that sum to 1.
    """
    batch_labels = labels[batch.indices]
    rows, result = np.arange(len(batch)), np.zeros((len(batch), num_classes), dtype)
    if batch.partners is None or batch.weights is None:
        result[rows, batch_labels] = 1
        return result
    result[rows, batch_labels] = batch.weights / MIXED
    result[rows, batch_labels[batch.partners]] += 1 - batch.weights / MIXED
    return result


def check_images(images: np.ndarray | SelectedImages) -> None:
    """Check that images are uint8 with four axes.

    Args:
        images: The array to check.

    Raises:
        DataError: Another dtype or number of axes.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"images must be uint8 (N, C, H, W). Received: {images.dtype} {images.shape}"
        )
