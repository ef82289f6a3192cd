"""A training batch, its micro-batches, and activation masks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """The arguments of `Model.step`, apart from the learning rate.

    Attributes:
        images: (N, C, H, W).
        labels: (N,) or (N, classes).
        masks: Arrays by name whose first axis is N; see `Model.loss_and_grads`.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: dict[str, np.ndarray]

    def astype(self, dtype: np.dtype | str) -> Batch:
        """Return the batch with floating-point arrays in `dtype`; integers are unchanged."""

        def converted(array: np.ndarray) -> np.ndarray:
            return array.astype(dtype) if array.dtype.kind == "f" else array

        masks = {name: converted(mask) for name, mask in self.masks.items()}
        return Batch(converted(self.images), converted(self.labels), masks)

    def micro_batch(self, number: int, count: int) -> Batch:
        """Return one of `count` equal, consecutive slices of the batch, as views.

        Args:
            number: Index of the slice, in [0, count).
            count: Number of slices. A remainder of N / count is left out.
        """
        size = len(self.images) // count
        rows = slice(number * size, (number + 1) * size)
        masks = {name: mask[rows] for name, mask in self.masks.items()}
        return Batch(self.images[rows], self.labels[rows], masks)


def activation_masks(norm: np.ndarray, activation: str) -> np.ndarray:
    """Return which linear piece of ReLU or ReLU6 each value lies on.

    At the kinks, 0 and 6, the gradient is 0, as in PyTorch and NNlib.

    Args:
        norm: The input of the activation function, any shape.
        activation: "relu" or "relu6".

    Returns:
        uint8 of the same shape: 0 where the function is the constant 0, 1 where it is the identity,
        2 where it is the constant 6 (ReLU6 only).

    Examples:
        >>> import numpy as np
        >>> activation_masks(np.array([-1.0, 0.0, 3.0, 6.0]), "relu6")
        array([0, 0, 1, 2], dtype=uint8)
    """
    is_clipped = norm >= 6 if activation == "relu6" else np.zeros(norm.shape, bool)
    return np.where(is_clipped, 2, norm > 0).astype(np.uint8)
