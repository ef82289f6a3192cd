"""Errors held against floors: rows, verdicts, and the first divergence.

A level passes when 99.9 % of its tensors are within 10 floors and all of them within 30.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.parity.floors import distance
from pymobilenet.parity.observe import FREE, UNJUDGED, Key, Observations

MOST_WITHIN = 10.0
MOST = 0.999
ALL_WITHIN = 30.0

DIRECTIONS = {
    "shape": "structure",
    "eval": "forward",
    "train": "forward",
    "predict": "forward",
    "loss": "forward",
    "free_loss": "forward",
    "grad": "backward",
    "free_grad": "backward",
}
"""Where in a step a quantity arises; those not named here are the update's."""


@dataclass(frozen=True)
class Row:
    """One tensor: each backend's distance from the oracle, and the floor both are held against."""

    key: Key
    errors: dict[str, float]
    floor: float
    step: int | None = None

    @property
    def ratio(self) -> float:
        """The larger error in floors."""
        worst = max(self.errors.values())
        if worst == 0:
            return 0.0
        return worst / self.floor if self.floor > 0 else float("inf")

    @property
    def worst_backend(self) -> str:
        return max(self.errors, key=lambda name: self.errors[name])


@dataclass(frozen=True)
class Divergence:
    """Where two models begin to differ: the first quantity outside its floor."""

    scenario: str
    level: int
    direction: str
    quantity: str
    name: str
    step: int | None
    backend: str
    error: float
    floor: float

    def __str__(self) -> str:
        at = "" if self.step is None else f", step {self.step}"
        return (
            f"{self.scenario}: first divergence at level {self.level}, {self.direction}{at}: "
            f"{self.name} ({self.quantity}) of {self.backend} is off by {self.error:.2e}, "
            f"floor {self.floor:.2e}"
        )


@dataclass(frozen=True)
class Verdict:
    """The rows of one level in one scenario, and whether they pass."""

    scenario: str
    level: int
    title: str
    rows: tuple[Row, ...]

    @property
    def within(self) -> float:
        """The fraction of rows within 10 floors."""
        return float(np.mean([row.ratio <= MOST_WITHIN for row in self.rows]))

    @property
    def worst(self) -> Row:
        return max(self.rows, key=lambda row: row.ratio)

    @property
    def passed(self) -> bool:
        return bool(self.rows) and self.within >= MOST and self.worst.ratio <= ALL_WITHIN

    @property
    def first_divergence(self) -> Divergence | None:
        """The first row outside 30 floors or, if there is none, outside 10; None if it passed."""
        if self.passed or not self.rows:
            return None
        for bound in (ALL_WITHIN, MOST_WITHIN):
            for row in self.rows:
                if row.ratio > bound:
                    return divergence(self.scenario, row)
        return None


def divergence(scenario: str, row: Row) -> Divergence:
    backend = row.worst_backend
    direction = DIRECTIONS.get(row.key.quantity, "update")
    error = row.errors[backend]
    return Divergence(scenario, *_of(row.key, direction), row.step, backend, error, row.floor)


def _of(key: Key, direction: str) -> tuple[int, str, str, str]:
    return key.level, direction, key.quantity, key.name


def compare(
    oracle: Observations, seen: Mapping[str, Observations], floors: Mapping[Key, float]
) -> list[Row]:
    """Rows of everything the backends in `seen` (name -> observations) and the oracle have seen.

    A key that a backend lacks counts as infinitely far. Unmasked gradients are left out where a
    backend's activation masks flipped.
    """
    flipped = any(count_flips(observations) for observations in seen.values())
    rows = []
    for key, reference in oracle.items():
        if key.quantity in UNJUDGED or (flipped and key.quantity in FREE):
            continue
        errors = {
            name: distance(observations[key], reference) if key in observations else float("inf")
            for name, observations in seen.items()
        }
        rows.append(Row(key, errors, floors[key] if key.level > 0 else 0.0))
    return rows


def count_flips(observations: Observations) -> int:
    """How many activation values lie on another side of a kink than the oracle's."""
    return int(sum(value[0] for key, value in observations.items() if key.quantity == "flips"))


TITLES = {0: "structure", 1: "outputs", 2: "gradients", 3: "optimizer"}


def verdicts(scenario: str, rows: Sequence[Row]) -> list[Verdict]:
    """One verdict for each level that has rows."""
    levels = sorted({row.key.level for row in rows})
    return [
        Verdict(scenario, level, TITLES[level], tuple(_at(rows, level))) for level in levels
    ]


def _at(rows: Iterable[Row], level: int) -> list[Row]:
    return [row for row in rows if row.key.level == level]
