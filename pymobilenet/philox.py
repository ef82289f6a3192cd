"""The one source of randomness: raw words of Philox4x64-10.

Every random decision of the package is a word of this counter-based generator, so both languages
draw the same bits on every machine; no library's `permutation` or `randn` is used, since their
bits change between releases.

Layout. The key words are (seed, 0). The counter words, least significant first, are
(block, index, epoch, stream). `block` starts at 0 and, as NumPy does, the counter is incremented
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
    """What the words are for: the most significant counter word."""

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
    """Noise draws of the parity engine."""
    AUGMENT = 6
    """Angles of rotation and places of holes."""
    MIXUP = 7
    """Partners and weights of mixed images."""
    SPLIT = 8
    """Which images of a folder are for the test (epoch 0), and which of the training images are
    held out to choose the best epoch by (epoch 1)."""


def check_word(name: str, value: int) -> int:
    """Return `value` as an int, or refuse it.

    Raises:
        ConfigError: `value` is not an integer, or not in [0, 2**64).
    """
    try:
        word = operator.index(value)
    except TypeError:
        word = -1
    if isinstance(value, (bool, np.bool_)) or not 0 <= word < 2**64:
        raise ConfigError(f"{name} must be an integer in [0, 2**64). Received: {value!r}")
    return word


def raw_words(seed: int, stream: Stream, epoch: int, index: int, count: int) -> NDArray[np.uint64]:
    """Return the first `count` words of one stream as uint64 (count,).

    A longer draw begins with the words of a shorter one.

    Raises:
        ConfigError: a seed, epoch, index or count that is no integer in [0, 2**64), or a stream
            that is not one of `Stream`.
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
    """Return float64 in [0, 1) of the shape of `words`: the top 53 bits times 2**-53."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bounded(words: NDArray[np.uint64], n: ArrayLike) -> NDArray[np.int64]:
    """Return int64 in [0, n) of the shape of `words` by multiply-shift: ((w >> 32) * n) >> 32.

    `n` is an integer or an array of integers that broadcasts against `words`.

    Raises:
        ConfigError: an `n` that is no integer in [1, 2**32).
    """
    limits = np.asarray(n)
    if limits.dtype.kind not in "iu" or not np.all((limits >= 1) & (limits < 2**32)):
        raise ConfigError(f"n must be an integer in [1, 2**32). Received: {n!r}")
    thirty_two = np.uint64(32)
    return (((words >> thirty_two) * limits.astype(np.uint64)) >> thirty_two).astype(np.int64)


def permutation(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return a permutation of 0 ... len(words)-1 as int64 (len(words),), by Fisher-Yates.

    For i from len(words)-1 down to 1, position i is swapped with position
    `bounded(words[i], i + 1)`; word 0 decides nothing.
    """
    count = len(words)
    order = list(range(count))
    partners = bounded(words, np.arange(1, count + 1)).tolist()
    for i in range(count - 1, 0, -1):
        j = partners[i]
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)
