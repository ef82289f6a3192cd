"""Where sentences for people go."""

from __future__ import annotations

import sys
from collections.abc import Callable

Notify = Callable[[str], object]
"""Takes a sentence that people should read."""


def print_to_stderr(message: str) -> None:
    """Print a message to the error output at once."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
