"""What an evaluation found: as a table, as JSON and as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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

SHOWN = 5
"""Classes at either end, and pairs of confused ones, in the table."""


def to_dict(found: Evaluation, model: Model, file: str | Path) -> dict[str, Any]:
    """Everything, for machines: the figures, and what they were computed from and by."""
    return {
        "file": str(file),
        "config": model.config.to_dict(),
        "backend": model.backend.name,
        "dtype": model.dtype.name,
        "versions": model.backend.versions(),
        "threads": model.backend.threads(),
        **found.to_dict(),
    }


def to_json(values: dict[str, Any]) -> str:
    """JSON with a line for each key: a matrix in one, not in ten thousand."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    return "{" + ",\n ".join(lines) + "}\n"


def write_evaluation_report(
    found: Evaluation, data: Dataset, values: dict[str, Any], folder: str | Path
) -> list[Path]:
    """Write ``evaluation.json`` and the pictures into `folder`; return their paths.

    Args:
        data: What was evaluated.
        values: What `to_dict` gave.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("evaluation.json", "confusion.png", "classes.png", "reliability.png", "mistakes.png")
    paths = [folder / name for name in names]
    with atomic_write(paths[0]) as file:
        file.write(to_json(values).encode())
    write_confusion(found, paths[1])
    write_classes(found, paths[2])
    write_reliability(found, paths[3])
    write_mistakes(found, data, paths[4])
    return paths


def print_evaluation(found: Evaluation, console: Console) -> None:
    """The figures, the best and the worst classes, and the pairs that were mistaken most often."""
    table = Table(box=SIMPLE, show_header=False)
    table.add_row("images", f"{found.count:,}", escape(found.source))
    if found.unanswered:
        table.add_row("without an answer", f"{found.unanswered:,}", "logits that are not finite")
    table.add_row("loss", f"{found.loss:.4f}", "mean cross-entropy, nats")
    table.add_row("top-1", f"{found.top1:.2%}")
    table.add_row("top-5", f"{found.top5:.2%}")
    table.add_row(
        "calibration error", f"{found.ece:.2%}", f"expected, by {BINS} bins of confidence"
    )
    console.print(table)
    accuracy, counts = found.class_accuracy, found.class_counts
    order = [place for place in np.argsort(-accuracy, kind="stable").tolist() if counts[place]]
    ends = (order[:SHOWN], order[-SHOWN:]) if len(order) > 2 * SHOWN else (order,)
    classes = Table("class", box=SIMPLE, title="Best and worst classes", title_justify="left")
    classes.add_column("images", justify="right")
    classes.add_column("accuracy", justify="right")
    for end in ends:
        for place in end:
            name, share = escape(found.name(place)), f"{accuracy[place]:.2%}"
            classes.add_row(name, f"{counts[place]:,}", share)
        classes.add_section()
    console.print(classes)
    pairs = Table("is", "taken for", box=SIMPLE, title="Mistaken most", title_justify="left")
    pairs.add_column("images", justify="right")
    for one in found.confusions(SHOWN):
        pairs.add_row(escape(one.true), escape(one.predicted), f"{one.images:,}")
    console.print(pairs)
