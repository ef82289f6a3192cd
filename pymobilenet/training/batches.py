"""The batches of a training run as arrays, the same bits for every backend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pymobilenet.architecture import feature_channels
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import CIFAR100_MEAN, CIFAR100_STD, BatchPlan, Dataset, apply, normalise
from pymobilenet.errors import DataError
from pymobilenet.philox import Stream, raw_words, uniform64


class Arrays(NamedTuple):
    """One batch: images (B, 3, H, W) of the model's dtype, labels, masks by name.

    Labels are int64 (B,) or, with label smoothing, targets (B, classes) of the model's dtype.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: dict[str, np.ndarray]


class Batches:
    """Batch number `step` of a run, for any step, in any order.

    Images are cropped and flipped as the batch plan says and normalised with the mean and
    deviation of CIFAR-100's training images; the masks hold the dropout factors, if the config
    drops anything.
    """

    def __init__(
        self, data: Dataset, train: TrainConfig, model: MobileNetConfig, dtype: np.dtype | str
    ) -> None:
        if data.num_classes > model.num_classes:
            raise DataError(
                f"{data.source} has {data.num_classes} classes; the model must have at least as "
                f"many. Received: num_classes {model.num_classes}"
            )
        self.data, self.train, self.model, self.dtype = data, train, model, np.dtype(dtype)
        self.plan = BatchPlan(
            train.seed, len(data), train.batch_size, train.crop_padding, train.flip
        )

    def at(self, step: int) -> Arrays:
        batch = self.plan.batch(step)
        pixels = apply(self.data.images, batch)
        images = normalise(pixels, CIFAR100_MEAN, CIFAR100_STD, self.dtype)
        labels, smoothing = self.data.labels[batch.indices], self.train.label_smoothing
        if smoothing > 0:
            labels = smoothed(labels, self.model.num_classes, smoothing, self.dtype)
        return Arrays(images, labels, self._masks(step))

    def _masks(self, step: int) -> dict[str, np.ndarray]:
        """Factors 0 or 1/(1-p): the value at row-major position i is kept if word i >= p."""
        p = self.model.dropout
        if p == 0:
            return {}
        shape = (self.train.batch_size, feature_channels(self.model))
        words = raw_words(self.train.seed, Stream.MASK, 0, step, shape[0] * shape[1])
        factors = (uniform64(words) >= p) / (1 - p)
        return {DROPOUT: factors.astype(self.dtype).reshape(shape)}


def smoothed(
    labels: np.ndarray, classes: int, smoothing: float, dtype: np.dtype | str
) -> np.ndarray:
    """Targets (B, classes): `smoothing` spread evenly over all classes, the rest on the label.

    Szegedy et al., arXiv:1512.00567, section 7, as torch's ``label_smoothing``; computed in
    float64 and rounded once.
    """
    share = smoothing / classes
    targets = np.full((len(labels), classes), share)
    targets[np.arange(len(labels)), labels] = (1.0 - smoothing) + share
    return targets.astype(dtype)
