"""What reports say of the machine and of this process: processor, cores, system, memory."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def processor() -> str:
    """Return the processor's name, or an empty text if the system does not provide it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


SPIN_COUNT = "10000"
"""How often a waiting thread of GNU's OpenMP looks for work before it sleeps. Its default,
300,000, is milliseconds, in which it takes a core from the thread that it waits for if other
programs use the cores: steps of torch then took 16 times as long. See docs/speed.md."""


def limit_spinning() -> None:
    """Set GOMP_SPINCOUNT to `SPIN_COUNT` for torch, unless the user has chosen how threads wait.

    The variable is read when GNU's OpenMP is loaded, with torch: no effect if torch was imported
    before.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def cores() -> int:
    """Return how many cores this process may use, or the machine has where that is unknown."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resident_bytes() -> int | None:
    """Return the resident set of this process: its memory that is in RAM, shared pages included.

    It is read from /proc; where there is none (macOS) it is asked of ``ps``, which takes some
    milliseconds. Memory of a GPU and of other processes is not counted.

    Returns:
        The present value in bytes; None where the system has neither /proc nor ``ps``.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    try:
        return 1024 * int(subprocess.run(command, capture_output=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_machine() -> str:
    """Return processor, cores, operating system and Python in one line."""
    name = processor() or platform.machine()
    return (
        f"{name}, {cores()} cores for this process, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def cache_bytes() -> int | None:
    """Return the size of the largest caches of the processors, together; None if it is unknown.

    Read from /sys, which only Linux has. A virtual machine reports the whole cache of its host.
    """
    caches = {}  # (level, the processors that share the cache) -> bytes
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level, shared, size = (
                (folder / name).read_text().strip() for name in ("level", "shared_cpu_list", "size")
            )
        except OSError:
            continue
        if size.endswith("K"):
            caches[int(level), shared] = 1024 * int(size[:-1])
    last = max((level for level, _ in caches), default=0)
    return sum(size for (level, _), size in caches.items() if level == last) or None


def available_bytes() -> int | None:
    """Return how much memory new arrays can take without swapping; None if it is unknown.

    Read from /proc and, for the limit of a container, from /sys: only Linux has them.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable"))
    free = 1024 * int(kilobytes)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        return free if limit.strip() == "max" else min(free, int(limit) - int(used))
    except OSError:
        return free
