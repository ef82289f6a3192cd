"""A comparison of models as one HTML page, which needs no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np

from pymobilenet.backends.trace import Layer
from pymobilenet.machine import describe_machine
from pymobilenet.parity.diff.fault import grouped_lines
from pymobilenet.parity.diff.layer_tree import Branch, branches
from pymobilenet.parity.diff.result import Comparison, DiffReport, PairRow
from pymobilenet.parity.diff.training_result import TrainingRow
from pymobilenet.parity.tolerances import MAX_RATIO, USUAL_RATIO

BINS = 24
"""Bars of the histogram of a layer's differences."""

CLASSES = ((USUAL_RATIO, "within"), (MAX_RATIO, "doubtful"), (1e3, "off"), (float("inf"), "far"))
"""Largest ratio -> class of a cell of the heat map."""

WHOLE, ALONE = "output, whole model", "output, layer alone"
"""Quantities that every comparison has; a training step has those of `TrainingRow`."""

WIDTH, HEIGHT = 1000, 200
"""Of the plot, in units of its view box."""

LOWEST = -2
"""Power of ten at the lower edge of the plot: smaller errors are drawn there."""


def as_html(report: DiffReport, command: str | None = None) -> str:
    """Return the report as one HTML page.

    Args:
        report: The result of `compare`.
        command: The command line that repeats the comparison; by default the page shows the call
            from Python.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pymobilenet.parity.diff"), autoescape=True
    )
    return environment.get_template("report.html").render(
        report=report,
        comparisons=[_section(comparison) for comparison in report.comparisons],
        machine=describe_machine(),
        command=command,
        limits={"usual": USUAL_RATIO, "largest": MAX_RATIO},
    )


def _section(comparison: Comparison) -> dict[str, Any]:
    """Return what the page shows of two models."""
    rows = [_row(row, comparison) for row in comparison.rows]
    quantities = [WHOLE, ALONE]
    if comparison.training is not None:
        quantities += dict.fromkeys(
            row.quantity for row in comparison.training.rows if row.quantity != "loss"
        )
    lines = [_line(branch, rows, quantities) for branch in branches(comparison.rows)]
    return {
        "result": comparison,
        "faults": grouped_lines(comparison.faults, comparison.first, comparison.second),
        "quantities": quantities,
        "lines": lines,
        "heat": [
            (quantity, [(row["name"], _cell(row["errors"].get(quantity))) for row in rows])
            for quantity in quantities
        ],
        "plot": _plot(rows),
    }


def _row(row: PairRow, comparison: Comparison) -> dict[str, Any]:
    """Return what the page shows of a pair of layers."""
    errors: dict[str, tuple[float, float]] = {}
    if row.chained is not None:
        errors[WHOLE] = row.chained, row.ratio
    if row.alone is not None and row.alone_ratio is not None:
        errors[ALONE] = row.alone, row.alone_ratio
    in_training = [] if comparison.training is None else _of_layer(comparison.training.rows, row)
    for each in in_training:
        known = errors.get(each.quantity)
        if known is None or each.ratio > known[1]:
            errors[each.quantity] = each.error, each.ratio
    is_pair = row.first is not None and row.second is not None
    return {
        "name": row.name,
        "layers": [_layer(row.first), _layer(row.second)],
        "fault": None if row.fault is None else row.fault.name,
        "errors": errors,
        "histogram": _histogram(row.first, row.second) if is_pair else None,
        "training": [(f"{each.quantity}, {each.name}", each.ratio) for each in in_training],
    }


def _layer(layer: Layer | None) -> dict[str, str] | None:
    if layer is None:
        return None
    kind = layer.settings.get("function") or layer.kind.replace("_", " ")
    return {"kind": str(kind), "shape": "x".join(map(str, layer.output.shape))}


def _of_layer(rows: Sequence[TrainingRow], pair: PairRow) -> list[TrainingRow]:
    """Return what was compared of a pair of layers in a training step."""
    return [row for row in rows if pair.name in (row.name, row.name.rpartition(": ")[0])]


def _line(branch: Branch, rows: list[dict[str, Any]], quantities: list[str]) -> dict[str, Any]:
    """Return a line of the tree: of a group with the worst of its errors."""
    members = [rows[i] for i in branch.members]
    cells = []
    for quantity in quantities:
        known = [row["errors"][quantity] for row in members if quantity in row["errors"]]
        cells.append(_cell(max(known, key=lambda pair: pair[1], default=None)))
    faults = dict.fromkeys(row["fault"] for row in members if row["fault"])
    return {"branch": branch, "cells": cells, "fault": ", ".join(faults), "row": members[0]}


def _cell(error: tuple[float, float] | None) -> dict[str, str] | None:
    """Return an error and its ratio to the floor, as text, and the class of its colour."""
    if error is None:
        return None
    name = next(name for limit, name in CLASSES if error[1] <= limit)
    return {"error": f"{error[0]:.1e}", "ratio": f"{error[1]:.3g}", "class": name}


def _plot(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the errors of all layers in floors as curves on a logarithmic scale."""
    ratios = [
        row["errors"][key][1] for row in rows for key in (WHOLE, ALONE) if key in row["errors"]
    ]
    finite = [ratio for ratio in ratios if 0 < ratio < math.inf]
    highest = max(2, math.ceil(math.log10(max(finite, default=1.0))))

    def height(ratio: float) -> float:
        power = math.log10(ratio) if 0 < ratio < math.inf else (LOWEST if ratio <= 0 else highest)
        share = (min(max(power, LOWEST), highest) - LOWEST) / (highest - LOWEST)
        return round(HEIGHT * (1 - share), 1)

    step = WIDTH / max(len(rows) - 1, 1)
    curves = [
        (
            quantity,
            " ".join(
                f"{i * step:.1f},{height(row['errors'][quantity][1])}"
                for i, row in enumerate(rows)
                if quantity in row["errors"]
            ),
        )
        for quantity in (WHOLE, ALONE)
    ]
    powers = range(LOWEST, highest + 1, max(1, (highest - LOWEST) // 6))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "curves": curves,
        "limit": height(MAX_RATIO),
        "ticks": [(height(10.0**power), f"1e{power}") for power in powers],
    }


def _histogram(first: Layer | None, second: Layer | None) -> dict[str, Any] | None:
    """Return the distribution of the differences of two outputs, and the place of the largest."""
    assert first is not None
    assert second is not None
    own, other = first.output, second.output
    if own.size != other.size or not own.size:
        return None
    other = other.reshape(own.shape)
    with np.errstate(invalid="ignore"):
        differences = np.abs(np.asarray(other, np.float64) - own)
    differences = np.where(other == own, 0.0, np.nan_to_num(differences, nan=np.inf))
    worst = np.unravel_index(int(np.argmax(differences)), own.shape)
    largest = float(differences[worst])
    limit = largest if 0 < largest < math.inf else 1.0
    counts, edges = np.histogram(differences, bins=BINS, range=(0, limit))
    return {
        "heights": [round(100 * float(count / max(counts.max(), 1)), 1) for count in counts],
        "largest": f"{float(edges[-1]):.2e}",
        "worst": [int(index) for index in worst],
        "values": [f"{float(own[worst]):.9g}", f"{float(other[worst]):.9g}"],
    }
