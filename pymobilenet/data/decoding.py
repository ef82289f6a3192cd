"""Decode image files to pixels of one size."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.dataset import Dataset
from pymobilenet.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**30 // 4 // 3
"""Limit for the pixels of an image, about 9459 x 9459: that of Pillow's warning."""

MAX_BYTES = 16 * 2**30
"""Limit for the decoded images of a split, which are kept in memory."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Pillow's names of the formats in a data set, those of `image_files.SUFFIXES`."""

PROGRAMS = ("EPS",)
"""Formats for which Pillow runs another program (Ghostscript)."""

_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF orientation -> the transposition that turns an image upright, as in Pillow's
`ImageOps.exif_transpose`. That function also rewrites the EXIF block, and fails if another tag is
damaged."""


def decode(
    source: bytes | Path, resolution: int | None, any_format: bool = False
) -> NDArray[np.uint8]:
    """Return the pixels of an image file: uint8 (3, H, W), red, green, blue, upright.

    The image is turned by its EXIF orientation, if that is readable. With a `resolution`, its
    largest centred square is resized to that many pixels along both axes, by Pillow's antialiased
    bilinear filter. Grey and palette images are converted to RGB, 16 bits to 8; transparency is
    dropped; of several frames the first is used.

    Args:
        source: The file's content, or its path.
        resolution: Side in pixels; None keeps the size.
        any_format: Accept all formats that Pillow reads, except `PROGRAMS`, instead of `FORMATS`.

    Returns:
        uint8 (3, H, W).

    Raises:
        DataError: Not an image, a damaged one, more than `MAX_PIXELS`, or values without a fixed
            range. The message does not contain the file's name.
    """
    from PIL import Image

    kind = "image that Pillow reads" if any_format else f"{', '.join(FORMATS)} file"
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=_formats(any_format)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(_too_many(f"{image.width} x {image.height}"))
            image.load()
            upright = _upright(_rgb(image), image)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        more = "more, which a small file can claim in order to fill the memory"
        raise DataError(_too_many(more)) from None
    except Image.UnidentifiedImageError:  # its text is only the address of an object
        raise DataError(f"no {kind}") from None
    except Exception as error:  # a damaged image can raise nearly anything
        raise DataError(f"a damaged image: {type(error).__name__}: {error}") from error
    return resize(np.asarray(upright), resolution)


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Suppress Pillow's warnings about metadata, which is not used, inside a ``with`` block.

    Applies to all threads of the process.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _formats(any_format: bool) -> list[str]:
    from PIL import Image

    if not any_format:
        return list(FORMATS)
    Image.init()
    return [name for name in Image.ID if name not in PROGRAMS]


def _rgb(image: Image.Image) -> Image.Image:
    """Convert an image to 8 bits per channel; Pillow would clip 16 bits instead of scaling."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DataError(
            f"pixels must have 1, 8 or 16 bits per channel. Received: Pillow's mode {image.mode}, "
            "whose values have no fixed range"
        )
    palette = image.mode == "P" and "transparency" in image.info
    return (image.convert("RGBA") if palette else image).convert("RGB")


def _upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    """Turn `rgb` by the EXIF orientation of `image`, if it is readable.

    Source: EXIF 2.3, 4.6.4, tag 274.
    """
    from PIL import ExifTags, Image

    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata can raise nearly anything; the pixels are valid
        return rgb
    return rgb if turn is None else rgb.transpose(Image.Transpose[turn])


def _too_many(received: str) -> str:
    return f"an image must have at most {MAX_PIXELS} pixels. Received: {received}"


def resize(pixels: NDArray[np.uint8], resolution: int | None) -> NDArray[np.uint8]:
    """Resize the largest centred square of an image.

    Args:
        pixels: uint8 (H, W, 3).
        resolution: Side in pixels; None, or the present size, keeps the pixels.

    Returns:
        uint8 (3, resolution, resolution), or (3, H, W).
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
    """Check a resolution.

    Args:
        resolution: Side in pixels, or None.

    Raises:
        ConfigError: Neither None nor an integer in [1, 4096].
    """
    if resolution is None:
        return
    is_integer = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not is_integer or not 1 <= resolution <= 4096:
        raise ConfigError(
            f"resolution must be a whole number in [1, 4096] pixels. Received: {resolution!r}"
        )


def check_memory(count: int, height: int, width: int) -> None:
    """Check that decoded images fit the limit of `MAX_BYTES`.

    Args:
        count: Number of images.
        height: In pixels.
        width: In pixels.

    Raises:
        DataError: They take more.
    """
    if (size := count * 3 * height * width) > MAX_BYTES:
        raise DataError(
            f"images must take at most {MAX_BYTES} bytes of memory. Received: {count} images of "
            f"{width} x {height} pixels, {size} bytes. Use a smaller resolution or fewer images"
        )


def resized(dataset: Dataset, resolution: int | None) -> Dataset:
    """Return a data set with its images resized, see `resize`.

    Args:
        dataset: The data set.
        resolution: Side in pixels; None keeps the size.

    Raises:
        ConfigError: As `check_resolution`.
        DataError: As `check_memory`.
    """
    check_resolution(resolution)
    if resolution is None or dataset.images.shape[2:] == (resolution, resolution):
        return dataset
    check_memory(len(dataset), resolution, resolution)
    images = np.empty((len(dataset), 3, resolution, resolution), np.uint8)
    for pixels, target in zip(dataset.images, images, strict=True):
        target[:] = resize(np.ascontiguousarray(pixels.transpose(1, 2, 0)), resolution)
    return replace(dataset, images=images, source=f"{dataset.source}, resized to {resolution}")
