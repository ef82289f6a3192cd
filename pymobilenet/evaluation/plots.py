"""Pictures of an evaluation. Colours are those of Okabe and Ito, which the colour-blind can tell
apart (https://jfly.uni-koeln.de/color/), and cividis (Nuñez et al., PLoS ONE 13, e0199239)."""

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

FEW = 20
"""Classes whose confusion matrix has its counts written in."""

MANY = 100
"""Classes that are named in a picture, at most."""

LONGEST = 20
"""Characters of a name in a picture."""


def write_confusion(found: Evaluation, path: str | Path) -> None:
    """Rows are true classes, columns predicted ones; a row's colours are fractions of its images.

    Up to `FEW` classes have their counts written in, up to `MANY` their names at the edges.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = found.confusion
    rows, columns = counts.shape
    shares = counts / np.maximum(found.class_counts, 1)[:, None]
    cell = 0.42 if columns <= FEW else 0.125  # inches
    width, height = (max(cell * min(size, 1.2 * MANY), 3) for size in (columns, rows))
    figure = Figure(figsize=(width + 2.6, height + 1.8), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    small = "medium" if columns <= FEW else 6.5
    for axis, size in ((axes.yaxis, rows), (axes.xaxis, columns)):
        if size <= MANY:
            axis.set_ticks(range(size), [_short(found.name(place)) for place in range(size)])
            axis.set_tick_params(labelsize=small, length=2, pad=2)
    if columns <= MANY:
        axes.tick_params(axis="x", labelrotation=90)
    if columns <= FEW:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "black" if shares[row, column] > 0.3 else "white"
            text = str(counts[row, column])
            axes.text(column, row, text, color=colour, ha="center", va="center", fontsize="small")
    axes.set(xlabel="predicted class", ylabel="true class")
    bar = figure.colorbar(image, fraction=0.03, pad=0.01, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.set_label("of the true class's images")
    _save(figure, path, f"Confusion matrix: top-1 {found.top1:.2%}", found)


def write_classes(found: Evaluation, path: str | Path) -> None:
    """A bar for the accuracy of each class, the best first; of more than `MANY`, the two ends."""
    from matplotlib.figure import Figure

    accuracy = found.class_accuracy
    order = np.argsort(-accuracy, kind="stable")
    order = order[np.isfinite(accuracy[order])]
    title = f"Accuracy of each class: mean {accuracy[order].mean():.2%}"
    if len(order) > MANY:
        title += f", the {MANY // 2} best and the {MANY // 2} worst of {len(order)}"
        order = np.concatenate([order[: MANY // 2], order[-MANY // 2 :]])
    parts = np.array_split(order, 1 if len(order) <= MANY // 2 else 2)
    height = max(0.16 * len(parts[0]) + 1.4, 2.4)
    figure = Figure(figsize=(4.6 * len(parts) + 0.8, height), layout="constrained")
    for panel, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        panel.barh(range(len(part)), accuracy[part], color=BLUE)
        panel.axvline(found.top1, color=ORANGE, linewidth=1.5)
        panel.set_yticks(
            range(len(part)), [_short(found.name(place)) for place in part], fontsize="small"
        )
        panel.set(xlim=(0, 1), ylim=(len(part) - 0.4, -0.6), xlabel="accuracy (line: all images)")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    _save(figure, path, title, found)


def write_reliability(found: Evaluation, path: str | Path) -> None:
    """Accuracy over confidence in equal bins, and below how many images are in each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins, width = found.reliability, 1 / BINS
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
    _save(figure, path, f"Reliability: expected calibration error {found.ece:.2%}", found)


def write_mistakes(
    found: Evaluation, data: Dataset, path: str | Path, rows: int = 4, columns: int = 6
) -> None:
    """The missed images the model was surest of, each with both classes and the confidence.

    Args:
        data: What was evaluated.
    """
    from matplotlib.figure import Figure

    places = found.mistakes()
    figure = Figure(figsize=(1.75 * columns, 2.1 * rows + 0.7), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    for panel, place in zip(panels, places, strict=False):
        panel.imshow(data.images[place].transpose(1, 2, 0), interpolation="nearest")
        true, guess = (_short(found.name(of[place])) for of in (found.labels, found.predicted))
        sure = f" {found.confidence[place]:.0%}" if np.isfinite(found.confidence[place]) else ""
        panel.set_title(f"is {true}\nsaid {guess}{sure}", fontsize="small")
    shown = min(len(places), len(panels))
    title = f"{shown} of {len(places)} misclassified images, the most confident first"
    _save(figure, path, title, found)


def literal(text: str) -> str:
    """Text that matplotlib shows as it stands: a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def _short(name: str) -> str:
    return literal(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _save(figure: Figure, path: str | Path, title: str, found: Evaluation) -> None:
    columns = int(11 * figure.get_figwidth())  # characters of this size
    lines = [*textwrap.wrap(title, columns), *textwrap.wrap(literal(found.source), columns)]
    figure.suptitle("\n".join(lines), fontsize="medium")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
