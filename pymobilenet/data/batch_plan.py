"""Which images a step sees, and what is done to each: the same for every backend."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymobilenet import philox
from pymobilenet.errors import ConfigError

MIXED = 256
"""Weights of mixed images are whole numbers of 256ths."""


@dataclass(frozen=True, eq=False)
class BatchSpec:
    """The images of one step and what is done to them.

    Attributes:
        indices: int64 (B,), positions in the dataset.
        offsets: int64 (B, 2), (dy, dx) of the crop's corner in the padded image.
        flips: bool (B,), True where the crop is mirrored left to right.
        crop_padding: rows and columns of zeros added on each side before the crop.
        angles: int64 (B,), clockwise, in sixteenths of a degree; None where nothing is rotated.
        holes: uint64 (B, 2), words that the middle's row and column are `philox.bounded` of; None
            where nothing is cut out.
        cutout: pixels of a hole's side.
        partners: int64 (B,), position in the batch of the image mixed in; None without mixup.
        weights: int64 (B,), 0 ... 256, of the image itself in the mixture, in 256ths.
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
    """The order of images and what is done to each, of a whole run, a function of the seed.

    The order of an epoch is `philox.permutation` of `num_images` words of `Stream.ORDER`. The
    image at position p of an epoch takes words 4p, 4p+1 and 4p+2 of `Stream.CROP` (word 4p+3 is
    not used): dy = bounded(word, 2 * crop_padding + 1), dx likewise, and flip = the top bit. The
    last, incomplete batch of an epoch is dropped.

    It takes words 4p, 4p+1 and 4p+2 of `Stream.AUGMENT` too: with `rotation`, its angle is
    bounded(word, 32 * rotation + 1) - 16 * rotation sixteenths of a degree, so that it lies in
    [-rotation, rotation] degrees; with `cutout`, the two others place the hole (DeVries & Taylor,
    arXiv:1708.04552).

    With `mixup` (Zhang et al., arXiv:1710.09412), step s takes 2B words of `Stream.MIXUP`, epoch
    0, index s: the partners are `philox.permutation` of the first B, the weights bounded(word,
    257) of the others. That is Beta(1, 1), the uniform distribution, in 256ths, which every
    language draws and mixes exactly; the paper's other alphas have no such sampler and are
    refused.

    Raises:
        ConfigError: a seed outside [0, 2**64), fewer than one image, a batch size outside
            [1, num_images], a crop padding outside [0, 2**16), a flip that is no bool, a rotation
            outside [0, 180], a cutout outside [0, 2**16), a mixup other than 0 and 1.
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
        """Return the order of the images in an epoch: int64 (num_images,), read-only."""
        return _order(self.seed, philox.check_word("epoch", epoch), self.num_images)

    def batch(self, step: int) -> BatchSpec:
        """Return the batch of a step, counted from 0 over all epochs.

        Raises:
            ConfigError: a step that is no integer in [0, 2**64).
        """
        epoch, position = divmod(philox.check_word("step", step), self.steps_per_epoch)
        span = slice(position * self.batch_size, (position + 1) * self.batch_size)
        dy, dx, flip = _words(self.seed, philox.Stream.CROP, epoch, self.num_images)[:, span]
        places = 2 * self.crop_padding + 1
        return BatchSpec(
            indices=self.order(epoch)[span],
            offsets=np.stack([philox.bounded(dy, places), philox.bounded(dx, places)], axis=1),
            flips=(flip >> np.uint64(63)).astype(bool) & self.flip,
            crop_padding=self.crop_padding,
            **self._augmented(epoch, span),
            **self._mixed(step),
        )

    def _augmented(self, epoch: int, span: slice) -> dict[str, Any]:
        if not self.rotation and not self.cutout:
            return {}
        words = _words(self.seed, philox.Stream.AUGMENT, epoch, self.num_images)[:, span]
        extent = 16 * self.rotation
        return {
            "angles": philox.bounded(words[0], 2 * extent + 1) - extent if self.rotation else None,
            "holes": words[1:].T if self.cutout else None,
            "cutout": self.cutout,
        }

    def _mixed(self, step: int) -> dict[str, Any]:
        if not self.mixup:
            return {}
        words = philox.raw_words(self.seed, philox.Stream.MIXUP, 0, step, 2 * self.batch_size)
        own, others = words[self.batch_size :], words[: self.batch_size]
        return {"partners": philox.permutation(others), "weights": philox.bounded(own, MIXED + 1)}


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, num_images: int) -> NDArray[np.int64]:
    words = philox.raw_words(seed, philox.Stream.ORDER, epoch, 0, num_images)
    order = philox.permutation(words)
    order.flags.writeable = False
    return order


@functools.lru_cache(maxsize=4)
def _words(seed: int, stream: philox.Stream, epoch: int, num_images: int) -> NDArray[np.uint64]:
    """The first three of the four words of every position of an epoch: uint64 (3, num_images)."""
    words = philox.raw_words(seed, stream, epoch, 0, 4 * num_images)
    return words.reshape(num_images, 4).T[:3]


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be an integer in [{low}, {high}]. Received: {value!r}")
