"""The batches of a training run, bit-identical for every backend."""

from __future__ import annotations

import numpy as np

from pymobilenet.architecture import feature_channels
from pymobilenet.backends.batch import Batch
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import (
    BatchPlan,
    BatchSpec,
    Dataset,
    apply,
    for_channels,
    normalise,
    scaling,
    targets,
)
from pymobilenet.errors import DataError
from pymobilenet.philox import Stream, raw_words, uniform64


class Batches:
    """The batches of a training run, for any step, in any order.

    Args:
        data: Training images.
        train: Batch size, seed, augmentation, preprocessing, label smoothing.
        model: The model's config, for the number of classes and dropout.
        dtype: "float32" or "float64".

    Raises:
        DataError: The data set has more classes than the model.
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
            train.seed,
            len(data),
            train.batch_size,
            train.crop_padding,
            train.flip,
            train.rotation,
            train.cutout,
            train.mixup,
        )

    def at(self, step: int) -> Batch:
        """Return the batch of a step.

        Args:
            step: Number of the step, from 0.

        Returns:
            Augmented and normalised images (B, C, H, W); labels, int64 (B,) or, with mixup or label
            smoothing, distributions (B, classes); and ``dropout`` factors (B, features) if the
            model has dropout. Floating-point arrays have the model's dtype.
        """
        spec = self.plan.batch(step)
        pixels = apply(self.data.images, spec)
        mean, std = scaling(self.train.preprocessing, self.data)
        channels = self.model.in_channels
        images = normalise(*for_channels(pixels, mean, std, channels), self.dtype)
        return Batch(images, self._labels(spec), self._masks(step))

    def _labels(self, spec: BatchSpec) -> np.ndarray:
        smoothing = self.train.label_smoothing
        if not self.train.mixup and not smoothing:
            return self.data.labels[spec.indices]
        distributions = targets(self.data.labels, spec, self.model.num_classes, np.float64)
        return smooth_labels(distributions, smoothing).astype(self.dtype)

    def _masks(self, step: int) -> dict[str, np.ndarray]:
        """Return dropout factors, 0 or 1/(1-p): row-major value i is kept if word i >= p."""
        p = self.model.dropout
        if p == 0:
            return {}
        shape = (self.train.batch_size, feature_channels(self.model))
        words = raw_words(self.train.seed, Stream.MASK, 0, step, shape[0] * shape[1])
        factors = (uniform64(words) >= p) / (1 - p)
        return {DROPOUT: factors.astype(self.dtype).reshape(shape)}


def smooth_labels(distributions: np.ndarray, smoothing: float) -> np.ndarray:
    """Apply label smoothing: Szegedy et al., arXiv:1512.00567, section 7, as in PyTorch.

    Args:
        distributions: (B, classes), float64.
        smoothing: The part of each distribution that is spread evenly over all classes.

    Returns:
        (B, classes), float64.
    """
    return (1.0 - smoothing) * distributions + smoothing / distributions.shape[1]
