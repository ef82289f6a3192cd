"""Something that one model does differently from the other, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymobilenet.backends.trace import Layer
from pymobilenet.parity.diff.diagnosis import Diagnosis


@dataclass(frozen=True)
class Fault:
    """Something that one model does differently from the other.

    Attributes:
        first: The layer of the first model, or None where it has none.
        second: Its counterpart.
        diagnosis: The known difference that explains it, or None.
        words: For a fault of the structure, what differs; it decides no verdict.
        error: For a layer that differs on the same inputs, the relative error.
        is_hidden: Whether the layers agree on the same inputs, so that the difference is in an
            operation before them that is not recorded as a layer.
        place: Where it is, if that is no pair of layers.
    """

    first: Layer | None
    second: Layer | None
    diagnosis: Diagnosis | None = None
    words: str = ""
    error: float = 0.0
    is_hidden: bool = False
    place: str = ""

    @property
    def name(self) -> str:
        """The name of the known difference, ``structure``, or ``unknown``."""
        if self.diagnosis is not None:
            return self.diagnosis.difference.name
        return "structure" if self.words else "unknown"

    @property
    def location(self) -> str:
        """The names of the layers, or where else it is."""
        layers = [layer for layer in (self.first, self.second) if layer is not None]
        return self.place or " / ".join(dict.fromkeys(layer.name for layer in layers))

    @property
    def cause(self) -> str:
        """What is the same for faults that are one mistake made in many layers; maybe empty."""
        if self.words:
            return self.words if self.first is not None and self.second is not None else ""
        return "" if self.diagnosis is None else f"{self.name}: {self.diagnosis.what}"

    def describe(self, first_name: str, second_name: str) -> list[str]:
        """Return lines that say what differs, and what to write instead.

        Args:
            first_name: The name of the first model.
            second_name: The name of the other.
        """
        layers = [str(layer) for layer in (self.first, self.second) if layer is not None]
        place = self.place or " / ".join(layers)
        if self.words:
            return [*self._describe_structure(place, first_name, second_name), *self._repair()]
        if self.diagnosis is None and self.is_hidden:
            return [
                f"{place}: differs by {self.error:.1e} in the whole model and not alone: the cause "
                "is an operation before it that is not recorded as a layer"
            ]
        if self.diagnosis is None:
            return [
                f"{place}: differs by {self.error:.1e} on the same inputs; no known difference "
                "explains it"
            ]
        owner = first_name if self.second is None and self.first is not None else second_name
        name = self.diagnosis.difference.name
        return [f"{place}: {name}: in {owner}, {self.diagnosis.what}", *self._repair()]

    def _describe_structure(self, place: str, first_name: str, second_name: str) -> list[str]:
        name = "" if self.diagnosis is None else f"{self.diagnosis.difference.name}: "
        if self.place or None not in (self.first, self.second):
            return [f"{place}: {name}{self.words}"]
        owner, lacks = (first_name, second_name) if self.first else (second_name, first_name)
        return [f"{self.first or self.second} of {owner}: {name}{lacks} {self.words}"]

    def _repair(self) -> list[str]:
        """Return what to write in both languages."""
        if self.diagnosis is None:
            return []
        difference = self.diagnosis.difference
        return [f"    torch: {difference.torch}", f"    Flux:  {difference.flux}"]


NAMED_PLACES = 3
"""How many further layers with one fault the text names; JSON and HTML list them all."""


def grouped_lines(faults: Sequence[Fault], first_name: str, second_name: str) -> list[list[str]]:
    """Return the lines on each cause of faults: those with the same cause are described together.

    Args:
        faults: In order.
        first_name: The name of the first model.
        second_name: The name of the other.
    """
    groups: dict[str, list[Fault]] = {}
    for index, fault in enumerate(faults):
        groups.setdefault(fault.cause or str(index), []).append(fault)
    found = []
    for fault, *others in groups.values():
        lines = fault.describe(first_name, second_name)
        if others:
            named = [each.first.name for each in others[:NAMED_PLACES] if each.first is not None]
            places = ", ".join(named or [each.location for each in others[:NAMED_PLACES]])
            rest = ", ..." if len(others) > NAMED_PLACES else ""
            lines.append(f"    and {len(others)} more: {places}{rest}")
        found.append(lines)
    return found
