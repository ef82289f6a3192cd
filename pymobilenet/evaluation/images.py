"""Single images out of any file that Pillow reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pymobilenet.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

PROGRAMS = ("EPS",)
"""Formats that Pillow has another program run, here Ghostscript."""


def read_image(path: str | Path, resolution: int) -> NDArray[np.uint8]:
    """Return an image as RGB, upright, of one size: uint8 (resolution, resolution, 3).

    Turned as its EXIF orientation says; its largest centred square is resized bilinearly over all
    pixels that fall together (antialiased). Of several frames the first is taken, of transparent
    pixels the colour.

    Raises:
        DataError: No file, none that Pillow reads as an image, a damaged one, one with more than
            `PIL.Image.MAX_IMAGE_PIXELS`, or one whose values have no fixed range.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    Image.init()
    formats = [name for name in Image.ID if name not in PROGRAMS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that is not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=formats) as opened:
                upright = _rgb(path, ImageOps.exif_transpose(opened))
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise DataError(
                f"{path}: an image must have at most {Image.MAX_IMAGE_PIXELS} pixels. Received: "
                "more, which a small file can claim in order to fill the memory"
            ) from None
        except Image.UnidentifiedImageError:
            raise DataError(f"{path}: no image that Pillow reads") from None
        except Exception as error:  # Pillow's readers raise nearly anything for a damaged file
            raise DataError(f"{path}: a damaged image: {error}") from None
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    square = upright.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((resolution, resolution), Image.Resampling.BILINEAR))


def _rgb(path: Path, image: Image.Image) -> Image.Image:
    """The image in 8 bits a channel. Pillow itself would clip 16 bits, not scale them."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DataError(
            f"{path}: pixels must have 1, 8 or 16 bits a channel. Received: Pillow's mode "
            f"{image.mode}, whose values have no fixed range"
        )
    return image.convert("RGB")
