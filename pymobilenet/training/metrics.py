"""The accuracy of a model."""

from __future__ import annotations

from typing import NamedTuple

from pymobilenet.backends.base import Model
from pymobilenet.data import Dataset
from pymobilenet.evaluation import evaluate


class Accuracy(NamedTuple):
    """Top-1 and top-5 accuracy.

    Attributes:
        top1: Fraction of images whose class has the largest logit, in [0, 1].
        top5: Fraction of images whose class is among the five largest logits, in [0, 1].
    """

    top1: float
    top5: float


def accuracy(
    model: Model, data: Dataset, batch_size: int = 256, preprocessing: str = "standard"
) -> Accuracy:
    """Compute the accuracy of a model on all images of a data set, without augmentation.

    Args:
        model: Of any backend.
        data: The images.
        batch_size: Number of images per prediction.
        preprocessing: The preprocessing the model was trained with.

    Returns:
        Top-1 and top-5 accuracy. `pymobilenet.evaluation.evaluate` returns more figures.

    Raises:
        DataError: The data set does not fit the model; see `pymobilenet.evaluation.evaluate`.
    """
    result = evaluate(model, data, preprocessing, batch_size)
    return Accuracy(result.top1, result.top5)
