"""A batch to train on, and its parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """What `Model.step` is given: images (N, C, H, W), labels (N,) or (N, classes), and masks by
    name, whose first axis is N too."""

    images: np.ndarray
    labels: np.ndarray
    masks: dict[str, np.ndarray]

    def part(self, number: int, count: int) -> Batch:
        """Part `number` of `count` equal consecutive ones, as views."""
        size = len(self.images) // count
        images = slice(number * size, (number + 1) * size)
        masks = {name: mask[images] for name, mask in self.masks.items()}
        return Batch(self.images[images], self.labels[images], masks)
