"""A training batch, its micro-batches, and activation masks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """What `Model.step` is given: images (N, C, H, W), labels (N,) or (N, classes), and masks by
    name, whose first axis is N too."""

    images: np.ndarray
    labels: np.ndarray
    masks: dict[str, np.ndarray]

    def micro_batch(self, number: int, count: int) -> Batch:
        """Number `number` of `count` equal, consecutive slices of the batch, as views."""
        size = len(self.images) // count
        images = slice(number * size, (number + 1) * size)
        masks = {name: mask[images] for name, mask in self.masks.items()}
        return Batch(self.images[images], self.labels[images], masks)


def activation_masks(norm: np.ndarray, activation: str) -> np.ndarray:
    """Which piece of ReLU or ReLU6 each value lies on: uint8 of the same shape.

    0 where the activation is the constant 0, 1 where it is the identity, 2 where it is the constant
    6 (ReLU6 only). At the kinks, 0 and 6, the gradient is 0, as in torch and NNlib.
    """
    above = norm >= 6 if activation == "relu6" else np.zeros(norm.shape, bool)
    return np.where(above, 2, norm > 0).astype(np.uint8)
