"""How good a model's predictions are."""

from __future__ import annotations

from typing import NamedTuple

from pymobilenet.backends.base import Model
from pymobilenet.data import Dataset
from pymobilenet.evaluation import evaluate


class Accuracy(NamedTuple):
    """Fractions in [0, 1] of images whose class is the first, or among the first five."""

    top1: float
    top5: float


def accuracy(
    model: Model, data: Dataset, batch_size: int = 256, preprocessing: str = "standard"
) -> Accuracy:
    """Top-1 and top-5 accuracy of `model` on all images of `data`, as they are.

    `preprocessing` is the one `model` was trained with. `pymobilenet.evaluation.evaluate` says
    what is refused, and gives more.
    """
    found = evaluate(model, data, preprocessing, batch_size)
    return Accuracy(found.top1, found.top5)
