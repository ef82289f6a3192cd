"""Messages for the user."""

from __future__ import annotations

import sys
from collections.abc import Callable

Notify = Callable[[str], object]
"""A function that is called with a message for the user."""


def print_to_stderr(message: str) -> None:
    """Print a message to the standard error, and flush it.

    Args:
        message: One line.
    """
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
