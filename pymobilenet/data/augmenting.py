"""What a batch plan does to pixels and labels: whole numbers, so that every language agrees.

The order is crop, flip, rotation, cutout, mixup; what comes from outside an image is 0, black.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pymobilenet import philox
from pymobilenet.data.batch_plan import MIXED, BatchSpec
from pymobilenet.errors import DataError

_AT_ONCE = 2**16  # pixels rotated at a time: what is made of them stays in the cache


def apply(images: NDArray[np.uint8], batch: BatchSpec) -> NDArray[np.uint8]:
    """Return the images of a batch, after everything the plan does to them.

    Args:
        images: uint8 (N, C, H, W), the whole dataset.
        batch: what `BatchPlan.batch` gave.

    Returns:
        uint8 (B, C, H, W), C-contiguous, a fresh array.

    Raises:
        DataError: images of another dtype or number of axes, or fewer than the batch names.
    """
    check_images(images)
    if batch.indices.max() >= len(images):
        raise DataError(
            f"the batch names image {batch.indices.max()}, but images holds only {len(images)}; "
            "make the plan with num_images=len(images)"
        )
    pixels = crop_and_flip(images, batch)
    if batch.angles is not None:
        pixels = rotate(pixels, batch.angles)
    if batch.holes is not None:
        cut_out(pixels, batch.holes, batch.cutout)
    if batch.partners is not None and batch.weights is not None:
        pixels = mix(pixels, batch.partners, batch.weights)
    return pixels


def crop_and_flip(images: NDArray[np.uint8], batch: BatchSpec) -> NDArray[np.uint8]:
    """Return the images of a batch, zero-padded, cropped to their size, then flipped."""
    height, width = images.shape[2:]
    crops = np.zeros((len(batch), *images.shape[1:]), np.uint8)
    shifts = (batch.offsets - batch.crop_padding).tolist()
    places = zip(batch.indices.tolist(), shifts, batch.flips.tolist(), strict=True)
    for crop, (index, (down, right), flip) in zip(crops, places, strict=True):
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
    """Return uint8 (B, C, H, W) turned clockwise about their middle, bilinear.

    In whole numbers: with c and s the cosine and sine of the angle in 2**-16 (to the nearest), and
    u = 2x - (W-1), v = 2y - (H-1) the distances of output pixel (y, x) from the middle in half
    pixels, it is read at (c u + s v, c v - s u) from the middle, in 2**-17 pixels. Fractions of a
    pixel are cut to 1/256 and the weighted sum of the four neighbours is rounded half up.

    Args:
        images: uint8 (B, C, H, W).
        angles: int64 (B,) in sixteenths of a degree.
    """
    some = max(1, _AT_ONCE // images[0].size)
    parts = [slice(start, start + some) for start in range(0, len(images), some)]
    return np.concatenate([_rotate(images[part], angles[part]) for part in parts])


def _rotate(images: NDArray[np.uint8], angles: NDArray[np.int64]) -> NDArray[np.uint8]:
    count, channels, height, width = images.shape
    radians = angles[:, None, None] * (np.pi / (16 * 180))
    cos, sin = (np.rint(f(radians) * 65536).astype(np.int64) for f in (np.cos, np.sin))
    v = 2 * np.arange(height)[:, None] - (height - 1)
    u = 2 * np.arange(width) - (width - 1)
    across = cos * u + sin * v + (width - 1) * 65536  # (B, H, W)
    down = cos * v - sin * u + (height - 1) * 65536
    # a frame of two zeros: both neighbours of a place further out lie in it
    padded = np.zeros((count, channels, height + 4, width + 4), np.uint8)
    padded[:, :, 2:-2, 2:-2] = images
    column, row = (across >> 17).clip(-2, width) + 2, (down >> 17).clip(-2, height) + 2
    corner = (row * (width + 4) + column).reshape(count, 1, -1)
    planes = np.arange(count * channels).reshape(count, channels, 1)
    corner = corner + planes * padded[0, 0].size  # (B, C, H W), places in the flat array
    right, below = (
        ((place >> 9) & 255).astype(np.uint16).reshape(count, 1, -1) for place in (across, down)
    )

    def along(start: int) -> NDArray[np.uint16]:
        first, second = (padded.ravel()[place:].take(corner) for place in (start, start + 1))
        return (256 - right) * first + right * second

    total = (256 - below).astype(np.uint32) * along(0)
    total += below.astype(np.uint32) * along(width + 4)
    return ((total + 32768) >> 16).astype(np.uint8).reshape(images.shape)


def cut_out(images: NDArray[np.uint8], holes: NDArray[np.uint64], size: int) -> None:
    """Set a square of each image (B, C, H, W) to 0, in place.

    Its middle is at row bounded(holes[b, 0], H) and column bounded(holes[b, 1], W); it begins
    size // 2 pixels above and to the left of that, and ends at the image's border.
    """
    height, width = images.shape[2:]
    rows, columns = philox.bounded(holes[:, 0], height), philox.bounded(holes[:, 1], width)
    corners = np.stack([rows, columns], axis=1) - size // 2
    for image, (top, left) in zip(images, corners.tolist(), strict=True):
        image[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0


def mix(
    images: NDArray[np.uint8], partners: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return (w a + (256 - w) b + 128) >> 8 of each image a (B, C, H, W) and its partner b."""
    own = weights.astype(np.uint16)[:, None, None, None]
    other = np.uint16(MIXED) - own
    return ((own * images + other * images[partners] + np.uint16(128)) >> np.uint16(8)).astype(
        np.uint8
    )


def targets(
    labels: NDArray[np.int64], batch: BatchSpec, num_classes: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return what the images of a batch are to be learned as: (B, num_classes), rows summing to 1.

    One for an image's own class; with mixup, w / 256 for it and the rest for its partner's.

    Args:
        labels: int64 (N,), of the whole dataset.
        batch: what `BatchPlan.batch` gave.
        num_classes: more than any label.
        dtype: float32 or float64, in which these are exact.
    """
    own = labels[batch.indices]
    rows, result = np.arange(len(batch)), np.zeros((len(batch), num_classes), dtype)
    if batch.partners is None or batch.weights is None:
        result[rows, own] = 1
        return result
    result[rows, own] = batch.weights / MIXED
    result[rows, own[batch.partners]] += 1 - batch.weights / MIXED
    return result


def check_images(images: np.ndarray) -> None:
    """Refuse what is not uint8 with four axes.

    Raises:
        DataError: with dtype and shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"images must be uint8 (N, C, H, W). Received: {images.dtype} {images.shape}"
        )
