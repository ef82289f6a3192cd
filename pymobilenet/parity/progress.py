"""How a comparison tells the steps that it takes."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int], Callable[[], None]]
"""Receives the title of a part of the work and its number of steps, and returns the function to
call after each step."""


def no_progress(_title: str, _total: int) -> Callable[[], None]:
    """Return a function that does nothing: the default `Progress`."""
    return lambda: None
