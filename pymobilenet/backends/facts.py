"""Statements about what a library does, which can be checked on the installed version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A statement about a library.

    Attributes:
        difference: The name of the known difference that it is a part of.
        library: Such as ``torch`` or ``Flux``.
        statement: What the library does.
        check: Returns whether that is true of the installed version. May raise any error if the
            library has changed.
    """

    difference: str
    library: str
    statement: str
    check: Callable[[], bool]
