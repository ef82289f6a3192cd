"""The most likely classes of single images, by several backends side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from pymobilenet.backends.base import Model
from pymobilenet.data.dataset import Statistics
from pymobilenet.data.preprocessing import preprocess
from pymobilenet.errors import DataError
from pymobilenet.evaluation.scoring import log_softmax, without_softmax


def probabilities(
    model: Model,
    images: NDArray[np.uint8],
    preprocessing: str,
    statistics: Statistics | None = None,
) -> NDArray[np.float64]:
    """The probabilities (N, classes) of images (N, H, W, 3), red, green, blue.

    Args:
        preprocessing, statistics: As of `preprocess`.

    Raises:
        DataError: Logits that are not all finite.
    """
    given = preprocess(images, preprocessing, model.dtype, statistics)
    logits = without_softmax(model).predict(given)
    if not np.isfinite(logits).all():
        raise DataError(
            f"logits must be finite to have probabilities. Received from {model.backend.name}: "
            f"{logits[~np.isfinite(logits)][0]}"
        )
    return np.exp(log_softmax(logits))


def top(found: Mapping[str, NDArray[np.float64]], count: int) -> list[int]:
    """The classes among the `count` most likely of any backend, the first backend's first.

    Args:
        found: Backend -> probabilities (classes,).
    """
    orders = [np.argsort(-one, kind="stable")[:count].tolist() for one in found.values()]
    return list(dict.fromkeys(place for order in orders for place in order))


def largest_difference(found: Mapping[str, NDArray[np.float64]]) -> float:
    """The largest difference between two backends in the probability of a class."""
    return float(np.ptp(list(found.values()), axis=0).max())


def print_prediction(
    title: str,
    found: Mapping[str, NDArray[np.float64]],
    names: Sequence[str],
    count: int,
    console: Console,
) -> None:
    """A row for each of the most likely classes, with a bar for each backend.

    Args:
        title: What the image is called.
        found: Backend -> probabilities (classes,).
        names: Of the classes.
        count: How many classes.
    """
    console.print(title, style="bold", soft_wrap=True, markup=False, emoji=False)
    table = Table(box=SIMPLE)
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=24)
    for name in found:
        table.add_column(name, width=max(36 // len(found), 8))
        table.add_column("", justify="right", no_wrap=True)
    for place in top(found, count):
        cells = [
            cell
            for one in found.values()
            for cell in (ProgressBar(1, float(one[place])), f"{one[place]:.2%}")
        ]
        table.add_row(escape(names[place]), *cells)
    console.print(table)
    if len(found) > 1:
        console.print(f"largest difference of a probability: {largest_difference(found):.1e}")
