"""The result of an evaluation as tables, as JSON and as plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from pymobilenet.backends.base import Model
from pymobilenet.data import Dataset
from pymobilenet.evaluation.plots import (
    write_classes,
    write_confusion,
    write_mistakes,
    write_reliability,
)
from pymobilenet.evaluation.result import BINS, Evaluation
from pymobilenet.files import atomic_write
from pymobilenet.terminal import folded_table

MAX_ROWS = 5
"""Best classes, worst classes, and pairs of confused classes in the tables."""


def to_dict(evaluation: Evaluation, model: Model, file: str | Path) -> dict[str, Any]:
    """Return all figures as plain values for JSON, with model, backend and versions.

    Args:
        evaluation: The result of `evaluate`.
        model: The model that was evaluated.
        file: The name of its file.
    """
    return {
        "file": str(file),
        "config": model.config.to_dict(),
        "backend": model.backend.name,
        "dtype": model.dtype.name,
        "versions": model.backend.versions(),
        "threads": model.backend.threads(),
        **evaluation.to_dict(),
    }


def to_json(values: dict[str, Any]) -> str:
    """Return JSON with one line for each key, so that a matrix takes one line."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    return "{" + ",\n ".join(lines) + "}\n"


def write_evaluation_report(
    evaluation: Evaluation, data: Dataset, values: dict[str, Any], folder: str | Path
) -> list[Path]:
    """Write ``evaluation.json`` and the plots.

    Args:
        evaluation: The result of `evaluate`.
        data: The data set that was evaluated.
        values: Of `to_dict`.
        folder: Is made if it does not exist.

    Returns:
        The paths of the files, the JSON first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("evaluation.json", "confusion.png", "classes.png", "reliability.png", "mistakes.png")
    paths = [folder / name for name in names]
    with atomic_write(paths[0]) as file:
        file.write(to_json(values).encode())
    write_confusion(evaluation, paths[1])
    write_classes(evaluation, paths[2])
    write_reliability(evaluation, paths[3])
    write_mistakes(evaluation, data, paths[4])
    return paths


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the figures, the best and the worst classes, and the pairs most often confused.

    Args:
        evaluation: The result of `evaluate`.
        console: Where to print.
    """
    table = folded_table("", "", "")
    table.add_row("images", f"{evaluation.count:,}", escape(evaluation.source))
    if evaluation.unanswered:
        count = f"{evaluation.unanswered:,}"
        table.add_row("without a prediction", count, "logits that are not finite")
    table.add_row("loss", f"{evaluation.loss:.4f}", "mean cross-entropy, nats")
    table.add_row("top-1", f"{evaluation.top1:.2%}")
    table.add_row("top-5", f"{evaluation.top5:.2%}")
    table.add_row(
        "calibration error", f"{evaluation.ece:.2%}", f"expected, by {BINS} bins of confidence"
    )
    console.print(table)
    accuracy, counts = evaluation.class_accuracy, evaluation.class_counts
    order = [index for index in np.argsort(-accuracy, kind="stable").tolist() if counts[index]]
    ends = (order[:MAX_ROWS], order[-MAX_ROWS:]) if len(order) > 2 * MAX_ROWS else (order,)
    numbers = ("images", "accuracy")
    title = "\nBest and worst classes"
    classes = folded_table("class", *numbers, right=numbers, title=title)
    for end in ends:
        for index in end:
            name, share = escape(evaluation.name(index)), f"{accuracy[index]:.2%}"
            classes.add_row(name, f"{counts[index]:,}", share)
        classes.add_section()
    console.print(classes)
    columns = ("true class", "predicted class", "images")
    pairs = folded_table(*columns, right=("images",), title="\nMost often confused")
    for one in evaluation.confusions(MAX_ROWS):
        pairs.add_row(escape(one.true), escape(one.predicted), f"{one.images:,}")
    console.print(pairs)
