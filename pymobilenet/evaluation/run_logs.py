"""Training runs from their logs: one JSON object for each epoch in ``log.jsonl``."""

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
from pymobilenet.strict_json import parse_object, shown

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
"""Key -> rule. null is what was not measured, or not finite. Further keys are let be."""


@dataclass(frozen=True, eq=False)
class RunLog:
    """One run's log.

    Attributes:
        name: What it is called among those it is compared with.
        values: Key of `FIELDS` -> float64 (epochs,), NaN for null.
    """

    name: str
    values: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.values["epoch"])

    def best(self, key: str) -> tuple[float, int] | None:
        """The best value of a loss (the smallest) or an accuracy (the largest) and its epoch.

        The first of equal ones; None where every value is null.
        """
        found = self.values[key]
        if np.isnan(found).all():
            return None
        place = int(np.nanargmin(found) if key.endswith("loss") else np.nanargmax(found))
        return float(found[place]), int(self.values["epoch"][place])


def read_runs(folders: Sequence[str | Path]) -> list[RunLog]:
    """Read the log of each folder. Runs are called after their folders, or by the paths given
    where two folders have one name.

    Raises:
        DataError: A folder without a log, or a log with a line that breaks a rule of `FIELDS`; the
            message names file, line and rule.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [RunLog(name, _read(path / LOG)) for name, path in zip(names, paths, strict=True)]


def _read(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a run is a folder that holds a {LOG}")
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    if lines == [b""]:
        raise DataError(f"{path}: holds no epoch")
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row(line, rows[-1]["epoch"] if rows else -1))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return {key: np.array([row[key] for row in rows]) for key in FIELDS}


def _row(line: bytes, last_epoch: float) -> dict[str, float]:
    found = parse_object(line)
    missing = [key for key in FIELDS if key not in found]
    if missing:
        raise ValueError(f"must have the keys {', '.join(FIELDS)}. Missing: {', '.join(missing)}")
    for key, rule in FIELDS.items():
        if not _keeps(key, found[key], last_epoch):
            raise ValueError(f"{key} must be {rule}. Received: {shown(found[key])}")
    return {key: math.nan if found[key] is None else float(found[key]) for key in FIELDS}


def _keeps(key: str, value: Any, last_epoch: float) -> bool:
    if key == "epoch":
        return type(value) is int and last_epoch < value < 2**53
    if value is None:
        return key.startswith(("train", "val"))
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        return False
    if key.endswith("accuracy"):
        return 0 <= value <= 1
    return key.endswith("loss") or value >= 0
