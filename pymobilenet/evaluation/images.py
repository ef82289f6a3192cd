"""Single images out of any file that Pillow reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pymobilenet.data.decoding import decode, unwarned
from pymobilenet.errors import DataError


def read_image(path: str | Path, resolution: int) -> NDArray[np.uint8]:
    """Return an image as RGB, upright, of one size: uint8 (resolution, resolution, 3).

    The pixels are those that a data set of the same file has, see `decode`, of any format that
    Pillow reads.

    Raises:
        DataError: A folder, no file, or what `decode` refuses; the message names the file.
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
