"""PNG and JPEG files as pixels of one size."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.dataset import Dataset
from pymobilenet.errors import ConfigError, DataError

MAX_PIXELS = 2**26
"""More than an image may have: 8192 x 8192. Pillow itself warns above 89,478,485."""

MAX_BYTES = 16 * 2**30
"""More than the decoded images of a split may take, which are kept in memory."""

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # of at most 8 bits a channel


def decode(content: bytes, resolution: int | None) -> NDArray[np.uint8]:
    """Return the pixels of a PNG or JPEG file: uint8 (3, H, W), red, green, blue.

    With a `resolution`, the largest centred square is resized to that many pixels each way, by
    Pillow's antialiased bilinear filter. Grey and palette images become RGB, transparency is
    dropped, and a tag that says which way is up is not followed.

    Raises:
        DataError: anything else: a damaged file, more than `MAX_PIXELS` or more than 8 bits for
            each channel.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS}")
            if image.mode not in _MODES:
                raise DataError(f"pixels of the mode {image.mode!r}; it must be one of {_MODES}")
            palette = image.mode == "P" and "transparency" in image.info
            rgb = (image.convert("RGBA") if palette else image).convert("RGB")
    except DataError:
        raise
    except Exception as error:  # a damaged image can raise nearly anything
        raise DataError(f"{type(error).__name__}: {error}") from error
    return resize(np.asarray(rgb), resolution)


def resize(pixels: NDArray[np.uint8], resolution: int | None) -> NDArray[np.uint8]:
    """Return the centred square of (H, W, 3) as (3, resolution, resolution).

    Without a `resolution`, or where that is the size already, the pixels stay as they are.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    if resolution is not None and (height, width) != (resolution, resolution):
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        square = Image.fromarray(pixels[top : top + side, left : left + side])
        size = (resolution, resolution)
        pixels = np.asarray(square.resize(size, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def check_resolution(resolution: int | None) -> None:
    """Refuse a resolution that is neither None nor in [1, 4096].

    Raises:
        ConfigError: with the value.
    """
    if resolution is None:
        return
    whole = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not whole or not 1 <= resolution <= 4096:
        raise ConfigError(
            f"resolution must be a whole number in [1, 4096] pixels. Received: {resolution!r}"
        )


def check_memory(count: int, height: int, width: int) -> None:
    """Refuse `count` images of a size that take more than `MAX_BYTES`.

    Raises:
        DataError: with the size.
    """
    if (size := count * 3 * height * width) > MAX_BYTES:
        raise DataError(
            f"{count} images of {width} x {height} pixels take {size} bytes; images are kept in "
            f"memory and may take {MAX_BYTES}: a smaller resolution or fewer images are needed"
        )


def resized(dataset: Dataset, resolution: int | None) -> Dataset:
    """Return a data set with its images resized, see `resize`.

    Raises:
        ConfigError: as `check_resolution`.
        DataError: as `check_memory`.
    """
    check_resolution(resolution)
    if resolution is None or dataset.images.shape[2:] == (resolution, resolution):
        return dataset
    check_memory(len(dataset), resolution, resolution)
    images = np.empty((len(dataset), 3, resolution, resolution), np.uint8)
    for pixels, target in zip(dataset.images, images, strict=True):
        target[:] = resize(np.ascontiguousarray(pixels.transpose(1, 2, 0)), resolution)
    return replace(dataset, images=images, source=f"{dataset.source}, resized to {resolution}")
