"""The batches of a training run as arrays, the same bits for every backend."""

from __future__ import annotations

import numpy as np

from pymobilenet.architecture import feature_channels
from pymobilenet.backends.batch import Batch
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import BatchPlan, BatchSpec, Dataset, apply, normalise, scaling, targets
from pymobilenet.errors import DataError
from pymobilenet.philox import Stream, raw_words, uniform64


class Batches:
    """BatchSpec number `step` of a run, for any step, in any order.

    Images are moved about as the batch plan says and scaled as `train.preprocessing` says; the
    masks hold the dropout factors, if the config drops anything.
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
        """Batch number `step`: images (B, 3, H, W) of the model's dtype, labels and masks by name.

        Labels are int64 (B,) or, with mixup or label smoothing, targets (B, classes) of the model's
        dtype.
        """
        spec = self.plan.batch(step)
        pixels = apply(self.data.images, spec)
        mean, std = scaling(self.train.preprocessing, self.data)
        images = normalise(pixels, mean, std, self.dtype)
        return Batch(images, self._labels(spec), self._masks(step))

    def _labels(self, spec: BatchSpec) -> np.ndarray:
        smoothing = self.train.label_smoothing
        if not self.train.mixup and not smoothing:
            return self.data.labels[spec.indices]
        wanted = targets(self.data.labels, spec, self.model.num_classes, np.float64)
        return smoothed(wanted, smoothing).astype(self.dtype)

    def _masks(self, step: int) -> dict[str, np.ndarray]:
        """Factors 0 or 1/(1-p): the value at row-major position i is kept if word i >= p."""
        p = self.model.dropout
        if p == 0:
            return {}
        shape = (self.train.batch_size, feature_channels(self.model))
        words = raw_words(self.train.seed, Stream.MASK, 0, step, shape[0] * shape[1])
        factors = (uniform64(words) >= p) / (1 - p)
        return {DROPOUT: factors.astype(self.dtype).reshape(shape)}


def smoothed(wanted: np.ndarray, smoothing: float) -> np.ndarray:
    """Targets (B, classes) in float64, `smoothing` of each spread evenly over all classes.

    Szegedy et al., arXiv:1512.00567, section 7, as torch's ``label_smoothing``.
    """
    return (1.0 - smoothing) * wanted + smoothing / wanted.shape[1]
