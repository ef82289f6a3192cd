"""The inputs of `pymobilenet diff`: arrays of files, images of a folder, random values."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymobilenet.backends.trace import Participant


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file, or the one of an .npy file under the name `array`."""
    from pymobilenet.errors import ConfigError
    from pymobilenet.files import check_regular
    from pymobilenet.formats import npz

    check_regular(path)
    if zipfile.is_zipfile(path):
        return npz.read(path)[0]
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{path}: must be an .npy or .npz file. Received: {error}") from error
    return {"array": loaded}


def read_inputs(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the inputs of a file, and its labels if it has some.

    Args:
        path: An .npy file, or an .npz file with one array (N, ...) and maybe ``labels`` (N,).

    Raises:
        ConfigError: The file is none of these, or has no inputs.
    """
    from pymobilenet.errors import ConfigError

    arrays = _read_arrays(path)
    names = [name for name in arrays if name != "labels"]
    if not names:
        raise ConfigError(f"{path}: must have an array of inputs. Received: {list(arrays)}")
    return arrays[names[0]], arrays.get("labels")


def labels_of(text: str, first: Participant, values: np.ndarray, seed: int) -> np.ndarray:
    """Return the labels of a file, or random ones for as many classes as the model has.

    Args:
        text: The file, .npy or .npz, or ``random``.
        first: The first model.
        values: (N, ...), its inputs.
        seed: Of random labels.

    Returns:
        (N,), integers.
    """
    if text != "random":
        return next(iter(_read_arrays(Path(text)).values()))
    dtype = first.dtypes[0]
    classes = first.trace(values.astype(dtype), dtype).output.shape[-1]
    return np.random.default_rng(seed).integers(classes, size=len(values))


def random_inputs(shape: str | None, batch: int, seed: int) -> np.ndarray:
    """Return normal random inputs.

    Args:
        shape: Of one input, as ``3,32,32``.
        batch: How many.
        seed: Of the generator.

    Returns:
        (batch, *shape), float64.

    Raises:
        ConfigError: The shape is no such text.
    """
    from pymobilenet.errors import ConfigError

    sizes = _sizes(shape)
    if not sizes:
        raise ConfigError(
            "without --inputs, --shape must state the shape of one input, such as 3,224,224. "
            f"Received: {shape}"
        )
    return np.random.default_rng(seed).standard_normal((batch, *sizes))


def read_images(path: Path, shape: str | None, count: int, preprocessing: str) -> np.ndarray:
    """Read some images of a folder or archive, evenly spaced among their sorted names.

    Args:
        path: With image files, also in subfolders.
        shape: Of one image, as ``3,H,H``: the largest centred square of each is resized to it.
        count: How many are taken, at least two.
        preprocessing: A key of `PREPROCESSING`.

    Returns:
        (count, 3, H, H), float64.

    Raises:
        ConfigError: The shape is no such shape, or the preprocessing is not known.
        DataError: There are too few images, or one cannot be decoded.
    """
    from pymobilenet.data import image_files
    from pymobilenet.data.decoding import decode, unwarned
    from pymobilenet.data.preprocessing import PREPROCESSING, check_name, normalise
    from pymobilenet.errors import ConfigError, DataError

    mean, std = PREPROCESSING[check_name(preprocessing)]
    sizes = _sizes(shape)
    if len(sizes) != 3 or sizes[0] != 3 or sizes[1] != sizes[2]:
        raise ConfigError(
            f"for images, --shape must be 3,H,H, such as 3,224,224. Received: {shape}"
        )
    names = image_files.list_images(path).images
    if len(names) < count:
        raise DataError(f"{path}: --batch {count} images are wanted. Received: {len(names)}")
    wanted = [names[index * len(names) // count] for index in range(count)]
    pixels = {}
    with unwarned():
        for name, content in image_files.read_images(path, wanted):
            try:
                pixels[name] = decode(content, sizes[1])
            except DataError as error:
                raise DataError(f"{path}: {name}: {error}") from None
    return normalise(np.stack([pixels[name] for name in wanted]), mean, std, np.float64)


def _sizes(shape: str | None) -> list[int]:
    """Return the sizes in a text such as ``3,32,32``; none if it is no such text."""
    try:
        sizes = [int(size) for size in (shape or "").split(",")]
    except ValueError:
        return []
    return sizes if min(sizes) >= 1 else []
