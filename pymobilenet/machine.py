"""What a report says of the machine: its processor, its cores, its operating system."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name, or an empty text if the system does not provide it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cores() -> int:
    """Return how many cores this process may use, or the machine has where that is unknown."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> str:
    """Return processor, cores, operating system and Python in one line."""
    name = processor() or platform.machine()
    return (
        f"{name}, {cores()} cores for this process, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )
