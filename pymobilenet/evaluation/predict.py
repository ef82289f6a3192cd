"""The most likely classes of single images, in several backends side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress_bar import ProgressBar

from pymobilenet.backends.base import Model
from pymobilenet.data.dataset import Statistics
from pymobilenet.data.preprocessing import preprocess
from pymobilenet.errors import DataError
from pymobilenet.evaluation.scoring import log_softmax, without_softmax
from pymobilenet.terminal import folded_table


def probabilities(
    model: Model,
    images: NDArray[np.uint8],
    preprocessing: str,
    statistics: Statistics | None = None,
) -> NDArray[np.float64]:
    """Compute the probabilities of the classes of images.

    Args:
        model: A model of any backend.
        images: RGB images (N, H, W, 3), uint8.
        preprocessing: How images are scaled (see `data.preprocessing.preprocess`).
        statistics: Mean and deviation of each channel, for "standard".

    Returns:
        Probabilities (N, classes).

    Raises:
        DataError: A logit is not finite.
    """
    channels = model.config.in_channels
    pixels = preprocess(images, preprocessing, model.dtype, statistics, channels)
    logits = without_softmax(model).predict(pixels)
    if not np.isfinite(logits).all():
        raise DataError(
            f"logits must be finite to have probabilities. Received from {model.backend.name}: "
            f"{logits[~np.isfinite(logits)][0]}"
        )
    return np.exp(log_softmax(logits))


def top(by_backend: Mapping[str, NDArray[np.float64]], count: int) -> list[int]:
    """Return the `count` most likely classes of each backend, without repetition.

    Args:
        by_backend: Backend -> probabilities (classes,).
        count: How many classes of each backend.
    """
    orders = [np.argsort(-one, kind="stable")[:count].tolist() for one in by_backend.values()]
    return list(dict.fromkeys(index for order in orders for index in order))


def largest_difference(by_backend: Mapping[str, NDArray[np.float64]]) -> float:
    """Return the largest difference between two backends in the probability of a class."""
    return float(np.ptp(list(by_backend.values()), axis=0).max())


def print_prediction(
    title: str,
    by_backend: Mapping[str, NDArray[np.float64]],
    names: Sequence[str],
    count: int,
    console: Console,
) -> None:
    """Print a row for each of the most likely classes, with a bar for each backend.

    Args:
        title: The name of the image.
        by_backend: Backend -> probabilities (classes,).
        names: The names of the classes.
        count: How many classes of each backend.
        console: Where to print.
    """
    console.print(title, style="bold", soft_wrap=True, markup=False, emoji=False)
    table = folded_table("class")
    table.columns[0].max_width = 24
    for name in by_backend:
        table.add_column(name, width=max(36 // len(by_backend), 8))
        table.add_column("", justify="right", no_wrap=True)
    for index in top(by_backend, count):
        cells = [
            cell
            for one in by_backend.values()
            for cell in (ProgressBar(1, float(one[index])), f"{one[index]:.2%}")
        ]
        table.add_row(escape(names[index]), *cells)
    console.print(table)
    if len(by_backend) > 1:
        console.print(f"largest difference of a probability: {largest_difference(by_backend):.1e}")
