"""Plots of an evaluation.

The colours are those of Okabe and Ito, which the colour-blind can distinguish
(https://jfly.uni-koeln.de/color/), and cividis (Nuñez et al., PLoS ONE 13, e0199239).
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pymobilenet.data import Dataset
from pymobilenet.evaluation.result import BINS, Evaluation
from pymobilenet.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "#0072B2", "#E69F00", "#767676"

MAX_COUNTED = 20
"""Largest number of classes whose confusion matrix shows its counts as numbers."""

MAX_NAMED = 100
"""Largest number of classes that a plot names."""

MAX_CHARACTERS = 20
"""Characters of a name in a plot."""


def write_confusion(evaluation: Evaluation, path: str | Path) -> None:
    """Plot the confusion matrix: rows are true classes, columns predicted ones.

    Colours are fractions of the images of a row. Up to `MAX_COUNTED` classes the counts are shown
    as numbers, up to `MAX_NAMED` the names at the edges.

    Args:
        evaluation: The result of `evaluate`.
        path: The PNG file to write.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = evaluation.confusion
    rows, columns = counts.shape
    shares = counts / np.maximum(evaluation.class_counts, 1)[:, None]
    cell = 0.42 if columns <= MAX_COUNTED else 0.125  # inches
    width, height = (max(cell * min(size, 1.2 * MAX_NAMED), 3) for size in (columns, rows))
    figure = Figure(figsize=(width + 2.6, height + 1.8), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    small = "medium" if columns <= MAX_COUNTED else 6.5
    for axis, size in ((axes.yaxis, rows), (axes.xaxis, columns)):
        if size <= MAX_NAMED:
            axis.set_ticks(range(size), [_short(evaluation.name(index)) for index in range(size)])
            axis.set_tick_params(labelsize=small, length=2, pad=2)
    if columns <= MAX_NAMED:
        axes.tick_params(axis="x", labelrotation=90)
    if columns <= MAX_COUNTED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "black" if shares[row, column] > 0.3 else "white"
            text = str(counts[row, column])
            axes.text(column, row, text, color=colour, ha="center", va="center", fontsize="small")
    axes.set(xlabel="predicted class", ylabel="true class")
    bar = figure.colorbar(image, fraction=0.03, pad=0.01, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.set_label("of the true class's images")
    _save(figure, path, f"Confusion matrix: top-1 {evaluation.top1:.2%}", evaluation)


def write_classes(evaluation: Evaluation, path: str | Path) -> None:
    """Plot the accuracy of each class, the best first; of more than `MAX_NAMED`, the two ends.

    Args:
        evaluation: The result of `evaluate`.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure

    accuracy = evaluation.class_accuracy
    order = np.argsort(-accuracy, kind="stable")
    order = order[np.isfinite(accuracy[order])]
    title = f"Accuracy of each class: mean {accuracy[order].mean():.2%}"
    if len(order) > MAX_NAMED:
        title += f", the {MAX_NAMED // 2} best and the {MAX_NAMED // 2} worst of {len(order)}"
        order = np.concatenate([order[: MAX_NAMED // 2], order[-MAX_NAMED // 2 :]])
    columns = np.array_split(order, 1 if len(order) <= MAX_NAMED // 2 else 2)
    height = max(0.16 * len(columns[0]) + 1.4, 2.4)
    figure = Figure(figsize=(4.6 * len(columns) + 0.8, height), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=True):
        panel.barh(range(len(column)), accuracy[column], color=BLUE)
        panel.axvline(evaluation.top1, color=ORANGE, linewidth=1.5)
        panel.set_yticks(
            range(len(column)),
            [_short(evaluation.name(index)) for index in column],
            fontsize="small",
        )
        panel.set(xlim=(0, 1), ylim=(len(column) - 0.4, -0.6), xlabel="accuracy (line: all images)")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    _save(figure, path, title, evaluation)


def write_reliability(evaluation: Evaluation, path: str | Path) -> None:
    """Plot the accuracy over the confidence in equal bins, and the number of images in each.

    Args:
        evaluation: The result of `evaluate`.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins, width = evaluation.reliability, 1 / BINS
    filled = [one for one in bins if one.accuracy is not None]
    low = [one.low for one in filled]
    accuracy = [one.accuracy for one in filled]
    confidence = [one.confidence for one in filled]
    style = {"width": width, "align": "edge", "edgecolor": "black", "linewidth": 0.6}
    above.bar(low, accuracy, color=BLUE, label="accuracy", **style)
    above.plot(
        confidence, confidence, "D", color=ORANGE, markeredgecolor="black", label="confidence"
    )
    above.plot([0, 1], [0, 1], "--", color="black", label="calibrated")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.legend(loc="upper left")
    below.bar([one.low for one in bins], [one.count for one in bins], color=GRAY, **style)
    below.set(xlabel=f"confidence, {BINS} bins", ylabel="images")
    for panel in (above, below):
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
    _save(figure, path, f"Reliability: expected calibration error {evaluation.ece:.2%}", evaluation)


def write_mistakes(
    evaluation: Evaluation, data: Dataset, path: str | Path, rows: int = 4, columns: int = 6
) -> None:
    """Plot the misclassified images, the most confident first, with both classes.

    Args:
        evaluation: The result of `evaluate`.
        data: The data set that was evaluated.
        path: The PNG file to write.
        rows: Rows of images.
        columns: Images in a row.
    """
    from matplotlib.figure import Figure

    indices = evaluation.mistakes()
    figure = Figure(figsize=(1.75 * columns, 2.1 * rows + 0.7), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    for panel, index in zip(panels, indices, strict=False):
        panel.imshow(data.images[index].transpose(1, 2, 0), interpolation="nearest")
        true = _short(evaluation.name(evaluation.labels[index]))
        predicted = _short(evaluation.name(evaluation.predicted[index]))
        confidence = evaluation.confidence[index]
        percent = f" {confidence:.0%}" if np.isfinite(confidence) else ""
        panel.set_title(f"true {true}\npredicted {predicted}{percent}", fontsize="small")
    count = min(len(indices), len(panels))
    title = f"{count} of {len(indices)} misclassified images, the most confident first"
    _save(figure, path, title, evaluation)


def literal(text: str) -> str:
    """Return text that matplotlib shows as it is: a dollar sign does not start a formula."""
    return text.replace("$", r"\$")


def _short(name: str) -> str:
    return literal(name if len(name) <= MAX_CHARACTERS else f"{name[: MAX_CHARACTERS - 1]}…")


def _save(figure: Figure, path: str | Path, title: str, evaluation: Evaluation) -> None:
    columns = int(11 * figure.get_figwidth())  # characters of this size
    lines = [*textwrap.wrap(title, columns), *textwrap.wrap(literal(evaluation.source), columns)]
    figure.suptitle("\n".join(lines), fontsize="medium")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
