"""Generated images in the format of CIFAR-100, for machines without the real ones.

Each class is a smooth random colour pattern. An image is its class pattern, shifted, mixed with
blocks of random colour, made lighter or darker, and noisy: a MobileNet learns the classes, but not
at once. Everything is integer arithmetic on Philox words, so the bytes are the same everywhere.

Words, all of `Stream.SYNTHETIC`: epoch 0, index 0 gives 48 bytes to each class (a 3 x 4 x 4 grid,
words in little-endian order); epoch 1 for the training images and 2 for the test images, with
index = chunk of 1024 images, gives `_IMAGE_WORDS` words to each image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pymobilenet import philox
from pymobilenet.data.cifar_layouts import PIXEL_BYTES, SYNTHETIC_PREFIX
from pymobilenet.data.cifar_table import CIFARS, Split
from pymobilenet.data.dataset import Dataset
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.files import atomic_write

_GRID, _CELL, _SIZE = 4, 8, 32
_GRID_BYTES = 3 * _GRID * _GRID
_MAX_SHIFT = 4
_HEAD_WORDS = 4  # shift down, shift right, brightness, one spare
_CLUTTER_WORDS = _GRID_BYTES // 8
_NOISE_WORDS = 3 * _SIZE * _SIZE // 8
_IMAGE_WORDS = _HEAD_WORDS + _CLUTTER_WORDS + _NOISE_WORDS
_CHUNK = 1024
_EPOCHS: dict[Split, int] = {"train": 1, "test": 2}
_COUNTS: dict[Split, int] = {"train": 50_000, "test": 10_000}
_NUM_COARSE, _NUM_FINE = (label.count for label in CIFARS["cifar-100"].labels)
_FINE_PER_COARSE = _NUM_FINE // _NUM_COARSE


def synthetic(
    num_images: int | None = None, split: Split = "train", num_classes: int = 100, seed: int = 0
) -> Dataset:
    """Return generated images: image i is of class i modulo `num_classes`.

    Args:
        num_images: how many; as many as CIFAR-100 has by default. A smaller set is the beginning
            of a larger one.
        split: "train" or "test", which share their classes and no image.
        num_classes: 1 to 256; five classes make a coarse class.
        seed: of `philox.raw_words`.

    Returns:
        images uint8 (N, 3, 32, 32), `synthetic` True, `source` beginning with "SYNTHETIC".

    Raises:
        ConfigError: a split, count or seed outside these.
    """
    if split not in _EPOCHS:
        raise ConfigError(f'split must be "train" or "test". Received: {split!r}')
    count = _COUNTS[split] if num_images is None else philox.check_word("num_images", num_images)
    if not 1 <= count <= 10**6 or not 1 <= philox.check_word("num_classes", num_classes) <= 256:
        raise ConfigError(
            "num_images must be in [1, 1000000] and num_classes in [1, 256]. "
            f"Received: {num_images!r}, {num_classes!r}"
        )
    labels = np.arange(count, dtype=np.int64) % num_classes
    patterns = _patterns(seed, num_classes)
    images = np.empty((count, 3, _SIZE, _SIZE), np.uint8)
    for chunk, start in enumerate(range(0, count, _CHUNK)):
        span = slice(start, min(start + _CHUNK, count))
        words = philox.raw_words(
            seed, philox.Stream.SYNTHETIC, _EPOCHS[split], chunk, (span.stop - start) * _IMAGE_WORDS
        )
        images[span] = _render(patterns, labels[span], words.reshape(-1, _IMAGE_WORDS))
    num_coarse = -(-num_classes // _FINE_PER_COARSE)
    return Dataset(
        images=images,
        labels=labels,
        coarse=labels // _FINE_PER_COARSE,
        class_names=tuple(f"{SYNTHETIC_PREFIX}{i:03d}" for i in range(num_classes)),
        coarse_names=tuple(f"{SYNTHETIC_PREFIX}group_{i:02d}" for i in range(num_coarse)),
        source=f"SYNTHETIC for CIFAR-100 (generated, seed {seed}), {split}, {count} images",
        synthetic=True,
    )


def _bytes(words: NDArray[np.uint64]) -> NDArray[np.int16]:
    """Return the bytes of (N, K) words, least significant first: int16 (N, 8 K) in [0, 256)."""
    return np.ascontiguousarray(words.astype("<u8")).view(np.uint8).astype(np.int16)


def _patterns(seed: int, num_classes: int) -> NDArray[np.int16]:
    """Return the class patterns, bilinear between grid points, repeating: (classes, 3, 40, 40)."""
    words = philox.raw_words(seed, philox.Stream.SYNTHETIC, 0, 0, num_classes * _GRID_BYTES // 8)
    grid = _bytes(words.reshape(num_classes, -1)).reshape(num_classes, 3, _GRID, _GRID)
    position = np.arange(_SIZE + 2 * _MAX_SHIFT)
    cell, along = position // _CELL % _GRID, (position % _CELL).astype(np.int16)
    after = (cell + 1) % _GRID
    rows = (
        grid[:, :, cell] * (_CELL - along)[:, None] + grid[:, :, after] * along[:, None]
    )  # (classes, 3, 40, 4), times 8
    patterns = (rows[..., cell] * (_CELL - along) + rows[..., after] * along) // _CELL**2
    return patterns.astype(np.int16)


def _render(
    patterns: NDArray[np.int16], labels: NDArray[np.int64], words: NDArray[np.uint64]
) -> NDArray[np.uint8]:
    """Return the images uint8 (N, 3, 32, 32) of `labels` (N,) from `words` (N, _IMAGE_WORDS)."""
    down, right = (philox.bounded(words[:, i], 2 * _MAX_SHIFT + 1) for i in (0, 1))
    light = philox.bounded(words[:, 2], 65).astype(np.int16) - 32
    windows = np.lib.stride_tricks.sliding_window_view(patterns, (_SIZE, _SIZE), axis=(2, 3))
    images = windows[labels, :, down, right]  # (N, 3, 32, 32), a copy
    images *= 6
    clutter = _bytes(words[:, _HEAD_WORDS : _HEAD_WORDS + _CLUTTER_WORDS])
    cells = images.reshape(-1, 3, _GRID, _CELL, _GRID, _CELL)
    cells += 2 * clutter.reshape(-1, 3, _GRID, 1, _GRID, 1)
    images >>= 3
    images += light[:, None, None, None]
    noise = _bytes(words[:, _HEAD_WORDS + _CLUTTER_WORDS :]).reshape(images.shape)
    images += (noise - 128) >> 2
    return images.clip(0, 255).astype(np.uint8)


def write_binary(dataset: Dataset, folder: str | Path, split: Split = "train") -> None:
    """Write a data set in the binary layout of CIFAR-100, each file atomically.

    Writes `<split>.bin`, `fine_label_names.txt` and `coarse_label_names.txt`.

    Args:
        dataset: Images of 32 x 32 pixels with 100 fine and 20 coarse classes.
        folder: Created if it does not exist.
        split: "train" or "test".

    Raises:
        DataError: Images of another size, or another number of classes.
    """
    shape, counts = dataset.images.shape[1:], (dataset.num_classes, len(dataset.coarse_names))
    if split not in _EPOCHS or shape != (3, _SIZE, _SIZE) or counts != (_NUM_FINE, _NUM_COARSE):
        raise DataError(
            f"the binary layout holds images (3, 32, 32) of {_NUM_FINE} fine and {_NUM_COARSE} "
            f'coarse classes, "train" or "test". Received: {shape}, {counts}, {split!r}'
        )
    if dataset.coarse is None:
        raise DataError("the binary layout needs coarse labels. Received: coarse None")
    records = np.empty((len(dataset), 2 + PIXEL_BYTES), np.uint8)
    records[:, 0], records[:, 1] = dataset.coarse, dataset.labels
    records[:, 2:] = np.asarray(dataset.images).reshape(len(dataset), -1)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, bytes | memoryview] = {
        "fine_label_names.txt": "".join(f"{name}\n" for name in dataset.class_names).encode(),
        "coarse_label_names.txt": "".join(f"{name}\n" for name in dataset.coarse_names).encode(),
        f"{split}.bin": records.data,
    }
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content)
