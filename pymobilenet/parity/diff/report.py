"""Write a comparison of models to files: JSON and one HTML page, beside JUnit XML."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pymobilenet.files import atomic_write, make_folder
from pymobilenet.parity.diff.junit import as_junit
from pymobilenet.parity.diff.page import as_html
from pymobilenet.parity.diff.result import DiffReport, FailOn


def save_report(
    report: DiffReport,
    folder: str | Path,
    fail_on: FailOn = FailOn.DIFFER,
    command: str | None = None,
) -> list[Path]:
    """Write ``report.json``, ``report.html`` and ``report.xml`` (JUnit).

    Args:
        report: The result of `compare`.
        folder: Where to; it is created.
        fail_on: See `as_junit`.
        command: The command line that repeats the comparison, for the page; by default the page
            shows the call from Python.

    Returns:
        The written files.

    Raises:
        ConfigError: The folder is a file.
    """
    folder = Path(folder)
    make_folder(folder)
    contents = {
        "report.json": as_json(report),
        "report.html": as_html(report, command),
        "report.xml": as_junit(report, fail_on),
    }
    for name, text in contents.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())
    return [folder / name for name in contents]


def as_json(report: DiffReport) -> str:
    """Return the report as JSON; infinities are text."""
    return json.dumps(_finite(report.as_dict()), indent=1)


def _finite(value: object) -> object:
    """Replace infinities, which JSON does not have, by text."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
