"""The record of a known difference between frameworks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """A known difference.

    Attributes:
        name: Such as ``kernel flip``.
        kinds: The kinds of layers that it concerns.
        explanation: What differs, in one sentence.
        source: Where this is documented or discussed.
        torch: What to write in torch.
        flux: What to write in Flux.
        is_general: Whether it only says which values differ: tried after all others.
    """

    name: str
    kinds: tuple[str, ...]
    explanation: str
    source: str
    torch: str
    flux: str
    is_general: bool = False
