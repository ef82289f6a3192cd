"""Logs of training runs: one JSON object for each epoch in ``log.jsonl``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymobilenet.errors import DataError
from pymobilenet.files import read_text_file
from pymobilenet.strict_json import excerpt, parse_object

LOG, CURVES = "log.jsonl", "curves.png"

FIELDS = {
    "epoch": "a whole number, larger than the line before's",
    "train_loss": "a number, or null",
    "train_accuracy": "a number in [0, 1], or null",
    "val_loss": "a number, or null",
    "val_accuracy": "a number in [0, 1], or null",
    "rate": "a number, at least 0",
    "seconds": "a number, at least 0",
}
"""Key -> rule. null is a value that was not measured or is not finite. Unknown keys are ignored."""


@dataclass(frozen=True, eq=False)
class RunLog:
    """The log of one run.

    Attributes:
        name: The name of the run in tables and plots.
        values: Key of `FIELDS` -> float64 (epochs,), NaN for null.
    """

    name: str
    values: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        """Return the number of epochs."""
        return len(self.values["epoch"])

    def best(self, key: str) -> tuple[float, int] | None:
        """Return the best value of a loss (the smallest) or an accuracy (the largest).

        Args:
            key: A key of `FIELDS` that ends with ``loss`` or ``accuracy``.

        Returns:
            The value and its epoch, the first of equal ones; None where every value is null.
        """
        values = self.values[key]
        if np.isnan(values).all():
            return None
        index = int(np.nanargmin(values) if key.endswith("loss") else np.nanargmax(values))
        return float(values[index]), int(self.values["epoch"][index])


def read_runs(folders: Sequence[str | Path]) -> list[RunLog]:
    """Read the logs of training runs.

    Args:
        folders: The folders of the runs, each with a ``log.jsonl``.

    Returns:
        A log for each folder. Its name is that of the folder, or the path where two folders have
        the same name.

    Raises:
        DataError: A folder has no log, or a line breaks a rule of `FIELDS`; the message names file,
            line and rule.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [RunLog(name, _read(path / LOG)) for name, path in zip(names, paths, strict=True)]


def _read(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a run is a folder with a {LOG}")
    try:
        lines = read_text_file(path).removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        lines_before = error.object.count(b"\n", 0, error.start)
        raise DataError(f"{path}, line {lines_before + 1}: not valid UTF-8") from None
    if lines == [""]:
        raise DataError(f"{path}: has no epochs")
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row(line, rows[-1]["epoch"] if rows else -1))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return {key: np.array([row[key] for row in rows]) for key in FIELDS}


def _row(line: str, last_epoch: float) -> dict[str, float]:
    values = parse_object(line)
    missing = [key for key in FIELDS if key not in values]
    if missing:
        raise ValueError(f"must have the keys {', '.join(FIELDS)}. Missing: {', '.join(missing)}")
    for key, rule in FIELDS.items():
        if not _is_valid(key, values[key], last_epoch):
            raise ValueError(f"{key} must be {rule}. Received: {excerpt(values[key])}")
    return {key: math.nan if values[key] is None else float(values[key]) for key in FIELDS}


def _is_valid(key: str, value: Any, last_epoch: float) -> bool:
    if key == "epoch":
        return type(value) is int and last_epoch < value < 2**53
    if value is None:
        return key.startswith(("train", "val"))
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        return False
    if key.endswith("accuracy"):
        return 0 <= value <= 1
    return key.endswith("loss") or value >= 0
