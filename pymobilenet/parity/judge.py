"""Errors held against floors: rows, verdicts, and the first divergence.

A level passes when 99.9 % of its tensors are within 10 floors and all of them within 30.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.parity.floors import distance, most
from pymobilenet.parity.observe import FREE, UNJUDGED, Key, Observations

MOST_WITHIN = 10.0
MOST = 0.999
ALL_WITHIN = 30.0
DOUBTFUL = 100.0
"""More draws raise a floor a few times over, hardly tenfold: what is further off stays outside."""

DIRECTIONS = {
    "shape": "structure",
    "eval": "forward",
    "train": "forward",
    "predict": "forward",
    "loss": "forward",
    "free_loss": "forward",
    "grad": "backward",
    "free_grad": "backward",
    "handed": "hand-over",
}
"""Where in a step a quantity arises; those not named here are the update's."""


@dataclass(frozen=True)
class Row:
    """One tensor: each backend's distance from the oracle, and the floor both are held against."""

    key: Key
    errors: dict[str, float]
    floor: float

    @property
    def is_lost(self) -> bool:
        """Whether rounding leaves too little of the tensor to be judged (see `floors.most`)."""
        return self.floor == float("inf")

    @property
    def ratio(self) -> float:
        """The larger error in floors; infinite where the floor is 0.

        What is lost counts among the few outside 10 floors, at the farthest that one may be: in
        lockstep a gradient may be all but zero in a step, as that of a weight whose effect the next
        norm undoes. Its error may be 30 of the largest floors that float64 has, in any dtype.
        """
        worst = max(self.errors.values())
        if worst == 0:
            return 0.0
        if self.is_lost:
            return ALL_WITHIN if worst <= ALL_WITHIN * most("float64") else float("inf")
        return worst / self.floor if self.floor else float("inf")

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
        """The first row outside 10 floors; None if the level passed.

        Not the first outside 30: a small fault grows on its way to the logits, and begins earlier.
        """
        if self.passed or not self.rows:
            return None
        return divergence(self.scenario, first_outside(self.rows))


def first_outside(rows: Iterable[Row]) -> Row:
    """The first row outside 10 floors."""
    return next(row for row in rows if row.ratio > MOST_WITHIN)


def divergence(scenario: str, row: Row) -> Divergence:
    backend = row.worst_backend
    direction = DIRECTIONS.get(row.key.quantity, "update")
    error = row.errors[backend]
    level, quantity, name, step = row.key
    return Divergence(scenario, level, direction, quantity, name, step, backend, error, row.floor)


def compare(
    oracle: Observations, seen: Mapping[str, Observations], floors: Mapping[Key, float]
) -> list[Row]:
    """Rows of everything the backends in `seen` (name -> observations) or the oracle have seen.

    A key that a backend lacks, or has beyond the oracle's, counts as infinitely far; one without a
    floor is held against 0. Unmasked gradients are left out where activation masks flipped. The
    order of the rows is that of whoever has seen the most.
    """
    flipped = any(count_flips(observations) for observations in seen.values())
    longest_first = sorted((oracle, *seen.values()), key=len, reverse=True)
    rows = []
    for key in dict.fromkeys(key for observations in longest_first for key in observations):
        if key.quantity in UNJUDGED or (flipped and key.quantity in FREE):
            continue
        errors = {name: off(observations, oracle, key) for name, observations in seen.items()}
        rows.append(Row(key, errors, floors.get(key, 0.0) if key.level > 0 else 0.0))
    return rows


def doubtful(rows: Iterable[Row]) -> bool:
    """Whether more draws could change the verdict or where the first divergence is: whether a row
    is outside 10 floors that they could bring inside, before any that they could not.
    """
    outside = (row for row in rows if row.ratio > MOST_WITHIN)
    first = next(outside, None)
    return first is not None and not first.is_lost and first.ratio <= DOUBTFUL


def off(seen: Observations, reference: Observations, key: Key) -> float:
    """The distance under `key`; infinite where only one of the two has it."""
    if key in seen and key in reference:
        return distance(seen[key], reference[key])
    return float("inf") if key in seen or key in reference else 0.0


def count_flips(observations: Observations) -> int:
    """How many activation values lie on another side of a kink than the oracle's."""
    return sum(flip.count for flip in flips(observations))


@dataclass(frozen=True)
class Flips:
    """The values of one activation on another side of a kink than the oracle's: how many there
    are, and how far the furthest of them is from the kink."""

    name: str
    count: int
    distance: float


def flips(observations: Observations) -> list[Flips]:
    """The activations in which anything flipped."""
    found = [(key, value) for key, value in observations.items() if key.quantity == "flips"]
    return [
        Flips(key.name, int(count), float(distance))
        for key, (count, distance) in found
        if count > 0
    ]


TITLES = {0: "structure", 1: "outputs", 2: "gradients", 3: "optimizer"}


def verdicts(scenario: str, rows: Sequence[Row]) -> list[Verdict]:
    """One verdict for each level that has rows."""
    levels = sorted({row.key.level for row in rows})
    return [Verdict(scenario, level, TITLES[level], tuple(_at(rows, level))) for level in levels]


def _at(rows: Iterable[Row], level: int) -> list[Row]:
    return [row for row in rows if row.key.level == level]
