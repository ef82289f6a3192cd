"""The order and the augmentation of images in every step, the same for every backend."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymobilenet import philox
from pymobilenet.errors import ConfigError

MIXED = 256
"""Weights of mixed images are multiples of 1/256."""


@dataclass(frozen=True, eq=False)
class BatchSpec:
    """The images of one step and their augmentation.

    Attributes:
        indices: int64 (B,), positions in the data set.
        offsets: int64 (B, 2), (dy, dx) of the crop's corner in the padded image.
        flips: bool (B,), whether the crop is mirrored left to right.
        crop_padding: Rows and columns of zeros added on each side before the crop.
        angles: int64 (B,), clockwise, in sixteenths of a degree; None without rotation.
        holes: uint64 (B, 2), words from which `philox.bounded` gives row and column of the centre
            of the erased square; None without cutout.
        cutout: Side of the erased square, in pixels.
        partners: int64 (B,), positions in the batch of the images to mix in; None without mixup.
        weights: int64 (B,), 0 ... 256: the weight of the image itself, in 256ths.
    """

    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]
    flips: NDArray[np.bool_]
    crop_padding: int
    angles: NDArray[np.int64] | None = None
    holes: NDArray[np.uint64] | None = None
    cutout: int = 0
    partners: NDArray[np.int64] | None = None
    weights: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class BatchPlan:
    """The order and augmentation of all images of a run, as a function of the seed.

    The order of an epoch is `philox.permutation` of `num_images` words of `Stream.ORDER`. The
    image at position p of an epoch takes words 4p, 4p+1 and 4p+2 of `Stream.CROP` (word 4p+3 is
    not used): dy = bounded(word, 2 * crop_padding + 1), dx likewise, and flip = the top bit. The
    last, incomplete batch of an epoch is dropped.

    It also takes words 4p, 4p+1 and 4p+2 of `Stream.AUGMENT`. With `rotation`, its angle is
    bounded(word, 32 * rotation + 1) - 16 * rotation sixteenths of a degree, which is in
    [-rotation, rotation] degrees. With `cutout`, the other two words determine the position of the
    erased square (DeVries & Taylor, arXiv:1708.04552).

    With `mixup` (Zhang et al., arXiv:1710.09412), step s takes 2B words of `Stream.MIXUP`, epoch
    0, index s: the partners are `philox.permutation` of the first B, the weights bounded(word,
    257) of the others. This is Beta(1, 1), the uniform distribution, in 256ths, which is exact in
    every language. Other alphas of the paper have no such sampler and are not supported.

    Attributes:
        seed: In [0, 2**64).
        num_images: Number of images in the data set.
        batch_size: In [1, num_images].
        crop_padding: Pixels of padding before a random crop, in [0, 2**16).
        flip: Whether images are flipped at random.
        rotation: Largest angle in degrees, in [0, 180].
        cutout: Side of the erased square in pixels, in [0, 2**16).
        mixup: 0 or 1.

    Raises:
        ConfigError: A value is outside its range.

    Examples:
        >>> BatchPlan(seed=0, num_images=10, batch_size=4).batch(0).indices.shape
        (4,)
    """

    seed: int
    num_images: int
    batch_size: int
    crop_padding: int = 4
    flip: bool = True
    rotation: int = 0
    cutout: int = 0
    mixup: float = 0

    def __post_init__(self) -> None:
        philox.check_word("seed", self.seed)
        _check_range("num_images", self.num_images, 1, 2**32 - 1)
        _check_range("batch_size", self.batch_size, 1, self.num_images)
        _check_range("crop_padding", self.crop_padding, 0, 2**16 - 1)
        if not isinstance(self.flip, bool):
            raise ConfigError(f"flip must be True or False. Received: {self.flip!r}")
        _check_range("rotation", self.rotation, 0, 180)
        _check_range("cutout", self.cutout, 0, 2**16 - 1)
        if self.mixup not in (0, 1):
            raise ConfigError(f"mixup must be 0 (off) or 1 (uniform). Received: {self.mixup!r}")

    @property
    def steps_per_epoch(self) -> int:
        """The number of full batches in an epoch."""
        return self.num_images // self.batch_size

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of the images in an epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            int64 (num_images,), read-only.
        """
        return _order(self.seed, philox.check_word("epoch", epoch), self.num_images)

    def batch(self, step: int) -> BatchSpec:
        """Return the batch of a step.

        Args:
            step: Number of the step, from 0, over all epochs.

        Returns:
            The images of the batch and their augmentation.

        Raises:
            ConfigError: Not an integer in [0, 2**64).
        """
        epoch, position = divmod(philox.check_word("step", step), self.steps_per_epoch)
        span = slice(position * self.batch_size, (position + 1) * self.batch_size)
        dy, dx, flip = _words(self.seed, philox.Stream.CROP, epoch, self.num_images)[:, span]
        positions = 2 * self.crop_padding + 1
        return BatchSpec(
            indices=self.order(epoch)[span],
            offsets=np.stack(
                [philox.bounded(dy, positions), philox.bounded(dx, positions)], axis=1
            ),
            flips=(flip >> np.uint64(63)).astype(bool) & self.flip,
            crop_padding=self.crop_padding,
            **self._rotation_and_cutout(epoch, span),
            **self._mixup(step),
        )

    def _rotation_and_cutout(self, epoch: int, span: slice) -> dict[str, Any]:
        if not self.rotation and not self.cutout:
            return {}
        words = _words(self.seed, philox.Stream.AUGMENT, epoch, self.num_images)[:, span]
        extent = 16 * self.rotation
        return {
            "angles": philox.bounded(words[0], 2 * extent + 1) - extent if self.rotation else None,
            "holes": words[1:].T if self.cutout else None,
            "cutout": self.cutout,
        }

    def _mixup(self, step: int) -> dict[str, Any]:
        if not self.mixup:
            return {}
        words = philox.raw_words(self.seed, philox.Stream.MIXUP, 0, step, 2 * self.batch_size)
        partners, weights = words[: self.batch_size], words[self.batch_size :]
        return {
            "partners": philox.permutation(partners),
            "weights": philox.bounded(weights, MIXED + 1),
        }


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, num_images: int) -> NDArray[np.int64]:
    words = philox.raw_words(seed, philox.Stream.ORDER, epoch, 0, num_images)
    order = philox.permutation(words)
    order.flags.writeable = False
    return order


@functools.lru_cache(maxsize=4)
def _words(seed: int, stream: philox.Stream, epoch: int, num_images: int) -> NDArray[np.uint64]:
    """Return the first three of the four words of every position: uint64 (3, num_images)."""
    words = philox.raw_words(seed, stream, epoch, 0, 4 * num_images)
    return words.reshape(num_images, 4).T[:3]


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be an integer in [{low}, {high}]. Received: {value!r}")
