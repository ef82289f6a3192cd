"""Read single images from any file that Pillow reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.decoding import decode, unwarned
from pymobilenet.errors import DataError


def read_image(path: str | Path, resolution: int) -> NDArray[np.uint8]:
    """Read an image, turn it upright, and resize it to a square.

    The pixels are those that a data set of the same file has (see `data.decoding.decode`).

    Args:
        path: A file of any format that Pillow reads.
        resolution: Rows and columns of the result, in pixels.

    Returns:
        RGB values, uint8 (resolution, resolution, 3).

    Raises:
        DataError: The path is a folder, does not exist, or is not a supported image; the message
            names the file.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: a folder; name the image files, as {path / '*.png'}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with unwarned():
            pixels = decode(path, resolution, any_format=True)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
