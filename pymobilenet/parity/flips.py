"""Activation values that lie on another side of a kink than the oracle's."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.parity.observe import Observations


@dataclass(frozen=True)
class Flips:
    """The values of one activation that lie on another side of a kink than the oracle's.

    Attributes:
        name: The activation.
        count: How many values there are.
        distance: The largest distance of one of them from its kink.
    """

    name: str
    count: int
    distance: float


def flips(observations: Observations) -> list[Flips]:
    """Return the activations in which any value flipped."""
    flip_rows = [(key, value) for key, value in observations.items() if key.quantity == "flips"]
    return [
        Flips(key.name, int(count), float(distance))
        for key, (count, distance) in flip_rows
        if count > 0
    ]


def count_flips(observations: Observations) -> int:
    """Return how many activation values lie on another side of a kink than the oracle's."""
    return sum(flip.count for flip in flips(observations))
