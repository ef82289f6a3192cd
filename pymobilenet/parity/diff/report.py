"""Write a comparison of models to files: JSON and one HTML page, beside JUnit XML."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import jinja2
import numpy as np

from pymobilenet.files import atomic_write, make_folder
from pymobilenet.parity.diff.junit import as_junit
from pymobilenet.parity.diff.result import DiffReport, FailOn, PairRow
from pymobilenet.parity.diff.training_result import Training
from pymobilenet.parity.tolerances import MAX_RATIO, USUAL_RATIO

BINS = 24
"""Bars of the histogram of a layer's differences."""

CLASSES = ((USUAL_RATIO, "within"), (MAX_RATIO, "doubtful"), (1e3, "off"), (float("inf"), "far"))
"""Largest ratio -> class of a cell of the heat map."""


def save_report(
    report: DiffReport, folder: str | Path, fail_on: FailOn = FailOn.DIFFER
) -> list[Path]:
    """Write ``report.json``, ``report.html`` and ``report.xml`` (JUnit).

    Args:
        report: The result of `compare`.
        folder: Where to; it is created.
        fail_on: See `as_junit`.

    Returns:
        The written files.

    Raises:
        ConfigError: The folder is a file.
    """
    folder = Path(folder)
    make_folder(folder)
    contents = {
        "report.json": as_json(report),
        "report.html": as_html(report),
        "report.xml": as_junit(report, fail_on),
    }
    for name, text in contents.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())
    return [folder / name for name in contents]


def as_json(report: DiffReport) -> str:
    """Return the report as JSON; infinities are text."""
    return json.dumps(_finite(report.as_dict()), indent=1)


def as_html(report: DiffReport) -> str:
    """Return the report as one HTML page that needs no network."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pymobilenet.parity.diff"), autoescape=True
    )
    comparisons = [
        {
            "result": comparison,
            "rows": [_cells(row) for row in comparison.rows],
            "training": _training(comparison.training),
            "faults": [f.describe(comparison.first, comparison.second) for f in comparison.faults],
        }
        for comparison in report.comparisons
    ]
    return environment.get_template("report.html").render(
        report=report,
        comparisons=comparisons,
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        limits={"usual": USUAL_RATIO, "largest": MAX_RATIO},
    )


def _cells(row: PairRow) -> dict:
    """Return what the page shows of a pair of layers."""
    cells = {
        "first": row.first,
        "second": row.second,
        "fault": None if row.fault is None else row.fault.name,
        "chained": _cell(row.chained, row.ratio),
        "alone": _cell(row.alone, row.alone_ratio),
        "histogram": None,
    }
    if row.first is not None and row.second is not None:
        cells["histogram"] = _histogram(row.first.output, row.second.output)
    return cells


def _training(training: Training | None) -> list[dict]:
    """Return what the page shows of each quantity of a training step."""
    rows = () if training is None else training.rows
    return [
        {"quantity": row.quantity, "name": row.name, "cell": _cell(row.error, row.ratio)}
        for row in rows
    ]


def _cell(error: float | None, ratio: float | None) -> dict | None:
    if error is None or ratio is None:
        return None
    name = next(name for limit, name in CLASSES if ratio <= limit)
    return {"error": f"{error:.1e}", "ratio": f"{ratio:.3g}", "class": name}


def _histogram(first: np.ndarray, second: np.ndarray) -> dict | None:
    """Return the distribution of the differences of two tensors, and the place of the largest."""
    if first.size != second.size or not first.size:
        return None
    differences = np.abs(np.asarray(second, np.float64).reshape(first.shape) - first)
    worst = np.unravel_index(int(np.argmax(differences)), first.shape)
    largest = float(differences[worst])
    counts, edges = np.histogram(differences, bins=BINS, range=(0, largest or 1.0))
    return {
        "heights": [round(100 * float(count / counts.max()), 1) for count in counts],
        "largest": f"{float(edges[-1]):.2e}",
        "worst": [int(index) for index in worst],
        "values": [
            f"{float(first[worst]):.9g}",
            f"{float(second.reshape(first.shape)[worst]):.9g}",
        ],
    }


def _finite(value: object) -> object:
    """Replace infinities, which JSON does not have, by text."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
