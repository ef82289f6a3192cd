"""With three or more models: which of them agree with each other, and which stand alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymobilenet.parity.diff.result import Comparison


@dataclass(frozen=True)
class Departure:
    """A model that differs from those that agree.

    Attributes:
        name: The model.
        layer: The first layer that differs, in the words of a report; empty if no layers were
            compared.
    """

    name: str
    layer: str


@dataclass(frozen=True)
class Arbitration:
    """Which of three or more models agree.

    Attributes:
        agreeing: The models that agree, more than in any other group; empty if there are none.
        ratio: The largest error between two of them, in noise floors.
        departures: The other models.
    """

    agreeing: tuple[str, ...]
    ratio: float
    departures: tuple[Departure, ...]

    @property
    def odd_one_out(self) -> str | None:
        """The one model that differs from all others, which agree."""
        is_one = bool(self.agreeing) and len(self.departures) == 1
        return self.departures[0].name if is_one else None

    def lines(self) -> list[str]:
        """Return what the report says of it."""
        if not self.agreeing:
            return ["no two of the models agree, or as many agree on one result as on another"]
        *others, last = self.agreeing
        agreement = f"{', '.join(others)} and {last} agree within {self.ratio:.2g} noise floors"
        if self.odd_one_out is not None:
            (departure,) = self.departures
            return [f"{agreement}; {departure.name} is the odd one out{_start(departure)}"]
        return [
            agreement,
            *(f"  {each.name} differs from them{_start(each)}" for each in self.departures),
        ]


def agreeing_groups(
    names: Sequence[str], comparisons: Sequence[Comparison]
) -> list[tuple[str, ...]]:
    """Return the models in groups that agree, in the order of their first members.

    Args:
        names: Of all models.
        comparisons: Of some pairs of them.
    """
    groups = {name: {name} for name in names}
    for comparison in comparisons:
        if comparison.passed:
            merged = groups[comparison.first] | groups[comparison.second]
            groups |= dict.fromkeys(merged, merged)
    ordered = (tuple(name for name in names if name in groups[one]) for one in names)
    return list(dict.fromkeys(ordered))


def arbitrate(names: Sequence[str], comparisons: Sequence[Comparison]) -> Arbitration | None:
    """Return which models agree; None for two models, or if all agree.

    Args:
        names: Of all models.
        comparisons: Of the pairs that decide it; see `engine.compare_participants`.
    """
    groups = sorted(agreeing_groups(names, comparisons), key=len, reverse=True)
    if len(names) < 3 or len(groups) == 1:
        return None
    largest = groups[0]
    if len(largest) == len(groups[1]):
        return Arbitration((), 0.0, ())
    inner = [each for each in comparisons if each.passed and each.first in largest]
    others = [name for name in names if name not in largest]
    departures = tuple(Departure(name, _first_layer(name, largest, comparisons)) for name in others)
    return Arbitration(largest, max(each.worst_ratio for each in inner), departures)


def _first_layer(name: str, agreeing: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    """Return the first layer in which a model differs from one of those that agree."""
    for each in comparisons:
        is_between = {each.first, each.second} - set(agreeing) == {name}
        if is_between and each.first_divergence is not None:
            row = each.first_divergence
            layer = row.first if each.first in agreeing else row.second
            return str(layer)
    return ""


def _start(departure: Departure) -> str:
    return f", from {departure.layer} on" if departure.layer else ""
