"""Errors compared with floors: rows, verdicts, and the first divergence.

A level passes when all its tensors are within 30 floors, and no more of them outside 10 than
rounding explains (see `pymobilenet.parity.tolerances` and `pymobilenet.parity.false_alarms`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.parity.false_alarms import allowed_outside, independent_error
from pymobilenet.parity.flips import count_flips
from pymobilenet.parity.floors import distance, max_floor
from pymobilenet.parity.observe import REPORTED_ONLY, UNMASKED, Key, Observations
from pymobilenet.parity.tolerances import (
    MAX_RATIO,
    REMEASURE_RATIO,
    USUAL_RATIO,
)

DIRECTIONS = {
    "shape": "structure",
    "eval": "forward",
    "train": "forward",
    "predict": "forward",
    "frozen": "forward",
    "loss": "forward",
    "free_loss": "forward",
    "grad": "backward",
    "free_grad": "backward",
    "initial": "hand-over",
    "handed": "hand-over",
}
"""Quantity -> the phase of a step that computes it; other quantities belong to the update."""


@dataclass(frozen=True)
class Row:
    """One tensor: the error of each backend, and the floor of the tensor.

    Attributes:
        key: What was compared.
        errors: Backend -> distance from the oracle or, in lockstep, from the leader.
        floor: As a fraction of the tensor's norm; infinity for a lost tensor.
    """

    key: Key
    errors: dict[str, float]
    floor: float

    @property
    def is_lost(self) -> bool:
        """Whether rounding leaves too few digits of the tensor (see `tolerances.MAX_FLOOR`)."""
        return self.floor == float("inf")

    @property
    def ratio(self) -> float:
        """The larger error in floors; infinity where the floor is 0.

        A lost tensor counts as `MAX_RATIO` floors off, so that few tensors may be lost, if its
        error is within `MAX_RATIO` of the largest floors of float64, and as infinity otherwise. In
        lockstep a correct gradient may be nearly zero at a step, such as that of a weight whose
        effect the next norm removes.
        """
        worst = max(self.errors.values())
        if worst == 0:
            return 0.0
        if self.is_lost:
            return MAX_RATIO if worst <= MAX_RATIO * max_floor("float64") else float("inf")
        return worst / self.floor if self.floor else float("inf")

    @property
    def worst_backend(self) -> str:
        """The backend with the largest error."""
        return max(self.errors, key=lambda name: self.errors[name])


@dataclass(frozen=True)
class Divergence:
    """Where two models begin to differ: the first quantity outside its floor.

    Attributes:
        scenario: The name of the scenario, or the title of the run.
        level: 0 to 4 or 6 of the ladder.
        direction: structure, forward, backward, update, curve, input or hand-over.
        quantity: What was compared, such as ``grad``.
        name: The canonical name of the tensor.
        step: The step, counted from 0, where several are taken.
        backend: The backend that is off.
        error: Its distance, as a fraction of the tensor's norm.
        floor: The tensor's floor or, for a curve, its envelope.
    """

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
        """Return one line that names level, direction, step and tensor."""
        at = "" if self.step is None else f", step {self.step}"
        return (
            f"{self.scenario}: first divergence at level {self.level}, {self.direction}{at}: "
            f"{self.name} ({self.quantity}) of {self.backend} is off by {self.error:.2e}, "
            f"floor {self.floor:.2e}"
        )


@dataclass(frozen=True)
class Verdict:
    """The rows of one level in one scenario, and whether they pass.

    Attributes:
        scenario: The name of the scenario, or the title of the run.
        level: 0 to 4 or 6 of the ladder.
        title: What the level compares.
        rows: The compared quantities.
        located: Where the backends begin to differ, if the oracle was asked; None otherwise.
    """

    scenario: str
    level: int
    title: str
    rows: tuple[Row, ...]
    located: Divergence | None = None

    @property
    def fraction_within(self) -> float:
        """The fraction of rows within `USUAL_RATIO` floors."""
        return float(np.mean([row.ratio <= USUAL_RATIO for row in self.rows]))

    @property
    def outside(self) -> int:
        """How many independent errors are outside `USUAL_RATIO` floors."""
        return len({independent_error(row.key) for row in self.rows if row.ratio > USUAL_RATIO})

    @property
    def allowed_outside(self) -> int:
        """How many independent errors may be outside `USUAL_RATIO` floors."""
        return allowed_outside(len({independent_error(row.key) for row in self.rows}))

    @property
    def worst(self) -> Row:
        """The row with the largest ratio."""
        return max(self.rows, key=lambda row: row.ratio)

    @property
    def passed(self) -> bool:
        """Whether all rows are within `MAX_RATIO` floors, and few outside `USUAL_RATIO`."""
        if not self.rows or self.worst.ratio > MAX_RATIO:
            return False
        return self.outside <= self.allowed_outside

    @property
    def first_divergence(self) -> Divergence | None:
        """The first row outside `USUAL_RATIO` floors; None if the level passed.

        Not the first outside `MAX_RATIO`: a small fault grows on its way to the logits, and begins
        earlier.
        """
        if self.passed or not self.rows:
            return None
        return self.located or divergence(self.scenario, first_outside(self.rows))


def first_outside(rows: Iterable[Row]) -> Row:
    """Return the first row outside `USUAL_RATIO` floors."""
    return next(row for row in rows if row.ratio > USUAL_RATIO)


def divergence(scenario: str, row: Row) -> Divergence:
    """Return the divergence that begins at `row`.

    Args:
        scenario: The name of the scenario.
        row: A row that is outside its floor.
    """
    backend = row.worst_backend
    direction = DIRECTIONS.get(row.key.quantity, "update")
    error = row.errors[backend]
    level, quantity, name, step = row.key
    return Divergence(scenario, level, direction, quantity, name, step, backend, error, row.floor)


def compare_observations(
    oracle: Observations, by_backend: Mapping[str, Observations], floors: Mapping[Key, float]
) -> list[Row]:
    """Compare the observations of backends with the oracle's.

    A key that only a backend or only the oracle has counts as infinitely far. Unmasked gradients
    are left out where activation masks flipped.

    Args:
        oracle: The observations that errors are distances from.
        by_backend: Backend -> its observations.
        floors: Key -> floor; 0 for a key that is not among them, and at level 0.

    Returns:
        A row for each key, in the order of the longest observations.
    """
    return with_floors(unjudged_rows(oracle, by_backend), floors)


def unjudged_rows(oracle: Observations, by_backend: Mapping[str, Observations]) -> list[Row]:
    """Return the rows of `compare_observations` with floors of 0.

    Args:
        oracle: The observations that errors are distances from.
        by_backend: Backend -> its observations.
    """
    flipped = any(count_flips(observations) for observations in by_backend.values())
    longest_first = sorted((oracle, *by_backend.values()), key=len, reverse=True)
    rows = []
    for key in dict.fromkeys(key for observations in longest_first for key in observations):
        if key.quantity in REPORTED_ONLY or (flipped and key.quantity in UNMASKED):
            continue
        errors = {name: key_distance(values, oracle, key) for name, values in by_backend.items()}
        rows.append(Row(key, errors, 0.0))
    return rows


def with_floors(rows: Iterable[Row], floors: Mapping[Key, float]) -> list[Row]:
    """Return rows with the floors of their keys, which are measured anew where they are in doubt.

    Args:
        rows: Of `unjudged_rows`.
        floors: Key -> floor; 0 for a key that is not among them, and at level 0.
    """
    return [
        Row(key, errors, floors.get(key, 0.0) if key.level > 0 else 0.0)
        for key, errors in ((row.key, row.errors) for row in rows)
    ]


def is_doubtful(rows: Iterable[Row]) -> bool:
    """Return whether more draws could change the verdict or the place of the first divergence.

    They could if a row is outside `USUAL_RATIO` floors but within `REMEASURE_RATIO`, and no earlier
    row is further off.

    Args:
        rows: The compared quantities, in order.
    """
    outside = (row for row in rows if row.ratio > USUAL_RATIO)
    first = next(outside, None)
    return first is not None and not first.is_lost and first.ratio <= REMEASURE_RATIO


def key_distance(observations: Observations, reference: Observations, key: Key) -> float:
    """Return the distance under `key`; infinity where only one of the two has it.

    Args:
        observations: Of one backend.
        reference: Of the oracle or of the leader.
        key: What is compared.
    """
    if key in observations and key in reference:
        return distance(observations[key], reference[key])
    return float("inf") if key in observations or key in reference else 0.0


TITLES = {0: "structure", 1: "outputs", 2: "gradients", 3: "optimizer"}


def verdicts(scenario: str, rows: Sequence[Row]) -> list[Verdict]:
    """Return one verdict for each level that has rows.

    Args:
        scenario: The name of the scenario.
        rows: Of all levels.
    """
    levels = sorted({row.key.level for row in rows})
    return [
        Verdict(
            scenario, level, TITLES[level], tuple(row for row in rows if row.key.level == level)
        )
        for level in levels
    ]
