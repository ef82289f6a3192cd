"""The random number generator of the package: raw words of Philox4x64-10.

All random numbers are derived from words of this counter-based generator, so that both languages
draw the same bits on every machine. No library's `permutation` or `randn` is used, because their
bits change between releases.

Layout. The key words are (seed, 0). The counter words, least significant first, are
(block, index, epoch, stream). `block` starts at 0 and, as in NumPy, the counter is incremented
*before* a block is generated: words 0 to 3 come from block 1, words 4 to 7 from block 2. An
implementation in another language must do the same.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the known answers
of its library Random123 (`tests/kat_vectors`) are in the test-suite.
"""

from __future__ import annotations

import enum
import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pymobilenet.errors import ConfigError


class Stream(enum.IntEnum):
    """The purpose of the words, which is the most significant counter word."""

    INIT = 0
    """Initial weights."""
    ORDER = 1
    """Order of the images in an epoch."""
    CROP = 2
    """Crop offsets and horizontal flips."""
    MASK = 3
    """Dropout masks."""
    SYNTHETIC = 4
    """The synthetic images."""
    PROBE = 5
    """Images of a probe, and perturbations of the parity engine."""
    AUGMENT = 6
    """Angles of rotations and positions of erased squares."""
    MIXUP = 7
    """Partners and weights of mixed images."""
    SPLIT = 8
    """Splits of a data set: test images of a folder (epoch 0), and training images held out for
    validation (epoch 1)."""


def check_word(name: str, value: int) -> int:
    """Return a counter or key word as an int.

    Args:
        name: The argument's name, for the error message.
        value: An integer of any type.

    Raises:
        ConfigError: Not an integer in [0, 2**64).
    """
    try:
        word = operator.index(value)
    except TypeError:
        word = -1
    if isinstance(value, (bool, np.bool_)) or not 0 <= word < 2**64:
        raise ConfigError(f"{name} must be an integer in [0, 2**64). Received: {value!r}")
    return word


def raw_words(seed: int, stream: Stream, epoch: int, index: int, count: int) -> NDArray[np.uint64]:
    """Return the first words of a stream. A longer draw starts with the words of a shorter one.

    Args:
        seed: In [0, 2**64).
        stream: The purpose.
        epoch: In [0, 2**64).
        index: In [0, 2**64), such as the number of an image.
        count: Number of words.

    Returns:
        uint64 (count,).

    Raises:
        ConfigError: An argument is not an integer in its range, or not a `Stream`.

    Examples:
        >>> raw_words(0, Stream.INIT, epoch=0, index=0, count=2).dtype
        dtype('uint64')
    """
    if stream not in Stream.__members__.values():
        names = ", ".join(Stream.__members__)
        raise ConfigError(f"stream must be one of {names}. Received: {stream!r}")
    key = np.array([check_word("seed", seed), 0], np.uint64)
    counter = np.array(
        [0, check_word("index", index), check_word("epoch", epoch), int(stream)], np.uint64
    )
    words = np.random.Philox(key=key, counter=counter).random_raw(check_word("count", count))
    return np.asarray(words, np.uint64)


def uniform64(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return uniform numbers in [0, 1): the top 53 bits of each word times 2**-53.

    Args:
        words: uint64, any shape.

    Returns:
        float64, the same shape.
    """
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bounded(words: NDArray[np.uint64], n: ArrayLike) -> NDArray[np.int64]:
    """Return integers in [0, n) by multiply-shift: ``((w >> 32) * n) >> 32``.

    Args:
        words: uint64, any shape.
        n: An integer in [1, 2**32), or an array of integers that broadcasts against `words`.

    Returns:
        int64, the shape of `words`.

    Raises:
        ConfigError: `n` is not an integer in [1, 2**32).
    """
    limits = np.asarray(n)
    if limits.dtype.kind not in "iu" or not np.all((limits >= 1) & (limits < 2**32)):
        raise ConfigError(f"n must be an integer in [1, 2**32). Received: {n!r}")
    thirty_two = np.uint64(32)
    return (((words >> thirty_two) * limits.astype(np.uint64)) >> thirty_two).astype(np.int64)


def permutation(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return a random permutation, by the Fisher-Yates shuffle.

    For i from count - 1 down to 1, position i is swapped with position
    ``bounded(words[i], i + 1)``. Word 0 has no effect.

    Args:
        words: uint64 (count,).

    Returns:
        A permutation of 0 ... count - 1, int64 (count,).
    """
    count = len(words)
    order = list(range(count))
    partners = bounded(words, np.arange(1, count + 1)).tolist()
    for i in range(count - 1, 0, -1):
        j = partners[i]
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)
