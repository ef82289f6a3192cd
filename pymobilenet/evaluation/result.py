"""The result of an evaluation, and the figures computed from it."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Equal bins of confidence: M of Guo et al., arXiv:1706.04599, section 5."""

NO_CLASS = -1
"""Value of `Evaluation.predicted` for an image whose logits are not all finite."""

LAST = np.iinfo(np.int64).max
"""Value of `Evaluation.ranks` for such an image."""


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in (low, high].

    Attributes:
        low: The lower edge, exclusive.
        high: The upper edge, inclusive.
        count: How many images there are.
        accuracy: The fraction of them that is right, None in an empty bin.
        confidence: Their mean confidence, None in an empty bin.
    """

    low: float
    high: float
    count: int
    accuracy: float | None
    confidence: float | None


class Confusion(NamedTuple):
    """How many images of class `true` were predicted as class `predicted`."""

    true: str
    predicted: str
    images: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's predictions for N labelled images, and the figures computed from them.

    An image whose logits are not all finite has no prediction: it counts as wrong in top-1 and
    top-5, its loss is infinite, and it is in no column of the confusion matrix and no bin of
    confidence.

    Attributes:
        labels: int64 (N,), the true classes.
        predicted: int64 (N,), the class of the largest logit, the lowest of equal ones;
            `NO_CLASS` without a prediction.
        confidence: float64 (N,), the probability of the predicted class; NaN without a
            prediction.
        ranks: int64 (N,), how many classes are more likely than the true one; `LAST` without a
            prediction.
        losses: float64 (N,), the cross-entropy in nats.
        class_names: The names of the labels.
        num_classes: Classes of the model, at least as many as there are names.
        source: A description of the images.
        preprocessing: How they were scaled (see `pymobilenet.data.preprocessing`).
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    ranks: NDArray[np.int64]
    losses: NDArray[np.float64]
    class_names: tuple[str, ...]
    num_classes: int
    source: str
    preprocessing: str

    @property
    def count(self) -> int:
        """The number of images, N."""
        return len(self.labels)

    @property
    def unanswered(self) -> int:
        """How many images have logits that are not all finite."""
        return int((self.predicted == NO_CLASS).sum())

    @property
    def loss(self) -> float:
        """The mean cross-entropy, in nats."""
        return float(self.losses.mean())

    @property
    def top1(self) -> float:
        """The fraction of images whose class is the most likely one."""
        return float((self.ranks < 1).mean())

    @property
    def top5(self) -> float:
        """The fraction of images whose class is among the five most likely ones."""
        return float((self.ranks < 5).mean())

    @functools.cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(names, num_classes): images of the row's class with the column's prediction."""
        matrix = np.zeros((len(self.class_names), self.num_classes), np.int64)
        valid = self.predicted != NO_CLASS
        np.add.at(matrix, (self.labels[valid], self.predicted[valid]), 1)
        return matrix

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """(names,): images of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(names,): the fraction of each class that is right, NaN for a class without images."""
        counts = self.class_counts
        return np.diagonal(self.confusion) / np.where(counts, counts, np.nan)

    @property
    def reliability(self) -> tuple[Bin, ...]:
        """The `BINS` bins of confidence."""
        edges = np.arange(BINS + 1) / BINS
        valid = self.predicted != NO_CLASS
        confidence, right = self.confidence[valid], self.ranks[valid] == 0
        places = np.searchsorted(edges[1:], confidence)  # the first upper edge not below it
        bins = []
        for place in range(BINS):
            inside = places == place
            count = int(inside.sum())
            means = [float(of[inside].mean()) if count else None for of in (right, confidence)]
            bins.append(Bin(float(edges[place]), float(edges[place + 1]), count, *means))
        return tuple(bins)

    @property
    def ece(self) -> float:
        """The expected calibration error (Guo et al., arXiv:1706.04599, equation 3).

        The mean over all images with a prediction of the difference between accuracy and confidence
        of their bin; NaN without any.
        """
        gaps = [
            (one.count, abs(one.accuracy - one.confidence))
            for one in self.reliability
            if one.accuracy is not None and one.confidence is not None
        ]
        total = sum(count for count, _ in gaps)
        return sum(count * gap for count, gap in gaps) / total if total else float("nan")

    def name(self, place: int) -> str:
        """Return the name of class number `place`: the number itself for a class without a name."""
        if place == NO_CLASS:
            return "nothing"
        return self.class_names[place] if place < len(self.class_names) else str(place)

    def confusions(self, most: int) -> list[Confusion]:
        """Return the pairs of classes that were confused most often, at most `most` of them."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [
            Confusion(self.name(row), self.name(column), int(wrong[row, column]))
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if wrong[row, column]
        ]

    def mistakes(self) -> NDArray[np.int64]:
        """Return the indices of the misclassified images, the most confident first."""
        order = np.argsort(-self.confidence, kind="stable")  # NaN is last
        return order[self.ranks[order] > 0]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON, None where one is not finite."""
        accuracies = zip(self.class_names, self.class_counts, self.class_accuracy, strict=True)
        return {
            "source": self.source,
            "preprocessing": self.preprocessing,
            "count": self.count,
            "unanswered": self.unanswered,
            "loss": _finite(self.loss),
            "top1": self.top1,
            "top5": self.top5,
            "ece": _finite(self.ece),
            "classes": [
                {"name": name, "count": int(count), "accuracy": _finite(accuracy)}
                for name, count, accuracy in accuracies
            ],
            "reliability": [asdict(one) for one in self.reliability],
            "confusion": self.confusion.tolist(),
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
