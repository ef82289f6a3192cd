"""The layers of two models as a tree, by the paths in the first model's names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pymobilenet.backends.trace import Layer
from pymobilenet.parity.diff.result import PairRow

TOKEN = re.compile(r"(?:^|[./\[:#])[^./\[:#]*")
"""A part of a path, with the sign before it: ``features``, ``.0``, ``[3]``, ``/Conv``."""


@dataclass(frozen=True)
class Branch:
    """A line of the tree: a group of layers, or one pair of them.

    Attributes:
        number: Of the line, from 0.
        ancestors: The numbers of the groups that it is in, outermost first.
        names: What the names of the group's layers begin with, or the name of the layer, in the
            first and in the second model; empty where a model has none.
        members: The positions of the group's rows among those of the comparison; one for a pair.
        is_group: Whether it is a group.
    """

    number: int
    ancestors: tuple[int, ...]
    names: tuple[str, str]
    members: tuple[int, ...]
    is_group: bool


def branches(rows: Sequence[PairRow]) -> list[Branch]:
    """Return the lines of the tree, in order of execution.

    Args:
        rows: Of a comparison.
    """
    found: list[Branch] = []
    _grow(rows, list(_places(rows)), range(len(rows)), (), found)
    return found


def _grow(
    rows: Sequence[PairRow],
    places: Sequence[tuple[str, ...]],
    members: Sequence[int],
    ancestors: tuple[int, ...],
    found: list[Branch],
    depth: int = 0,
) -> None:
    """Append the lines of some rows, whose places agree in the first `depth` parts."""
    for part, group in itertools.groupby(members, key=lambda i: places[i][depth : depth + 1]):
        inside = tuple(group)
        if len(inside) == 1 or not part:
            for i in inside:
                names = _name(rows[i].first), _name(rows[i].second)
                found.append(Branch(len(found), ancestors, names, (i,), is_group=False))
        elif len(inside) == len(members):
            _grow(rows, places, inside, ancestors, found, depth + 1)
        else:
            number = len(found)
            names = (
                _common([_parts(rows[i].first) for i in inside]),
                _common([_parts(rows[i].second) for i in inside]),
            )
            found.append(Branch(number, ancestors, names, inside, is_group=True))
            _grow(rows, places, inside, (*ancestors, number), found, depth + 1)


def _places(rows: Sequence[PairRow]) -> Iterator[tuple[str, ...]]:
    """Yield the path of each row in the first model.

    A layer that only the second model has is put behind the last one, into the same group.
    """
    last: tuple[str, ...] = ()
    for row in rows:
        if row.first is not None:
            last = _parts(row.first)
            yield last
        else:
            yield (*last[:-1], "")


def _name(layer: Layer | None) -> str:
    return "" if layer is None else layer.name


def _parts(layer: Layer | None) -> tuple[str, ...]:
    return tuple(filter(None, TOKEN.findall(_name(layer))))


def _common(paths: Sequence[tuple[str, ...]]) -> str:
    """Return what all paths begin with, but for those that are empty."""
    parts = zip(*filter(None, paths), strict=False)
    same = itertools.takewhile(lambda each: len(set(each)) == 1, parts)
    return "".join(each[0] for each in same)
