"""How good a model's predictions are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.data import Dataset, normalise, scaling
from pymobilenet.errors import ConfigError


class Accuracy(NamedTuple):
    """Fractions in [0, 1] of images whose class is the first, or among the first five."""

    top1: float
    top5: float


def accuracy(
    model: Model, data: Dataset, batch_size: int = 256, preprocessing: str = "standard"
) -> Accuracy:
    """Top-1 and top-5 accuracy of `model` on all images of `data`, as they are.

    An image whose logits are not all finite has no best class and counts as missed.
    `preprocessing` is the one `model` was trained with.

    Raises:
        ConfigError: `batch_size` below 1; an unknown preprocessing.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1. Received: {batch_size}")
    mean, std = scaling(preprocessing, data)
    predict, hits = model.freeze(), np.zeros(5)
    for start in range(0, len(data), batch_size):
        pixels = data.images[start : start + batch_size]
        labels = data.labels[start : start + batch_size]
        logits = predict(normalise(pixels, mean, std, model.dtype))
        best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        found = (best == labels[:, None]) & np.isfinite(logits).all(axis=1, keepdims=True)
        hits[: found.shape[1]] += found.sum(axis=0)
    return Accuracy(top1=float(hits[0] / len(data)), top5=float(hits.sum() / len(data)))
