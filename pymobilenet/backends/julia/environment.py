"""Check the environment variables that Julia reads at its start, and set defaults.

libjulia ends the whole process, past any ``except``, when it cannot parse an option.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pymobilenet.backends.julia.bundle.installed import BUNDLE_VARIABLE, chosen_bundle
from pymobilenet.errors import BackendUnavailable

SLEEP_THRESHOLD = "1000000"
"""Nanoseconds for which an idle Julia thread spins before it sleeps. With Julia's default, 16,000,
threads fall asleep between two layers, and waking a virtual processor takes longer than many
layers."""

MAX_HEAP_SIZE_HINT = 4 << 30
"""Largest default, in bytes, of the heap size at which Julia's garbage collector becomes
aggressive: it does not see the memory that torch and NumPy use in the same process."""

HEAP_SHARE = 4
"""The default hint is at most this fraction (1/4) of the memory that the process may use."""

HOME_VARIABLE = "JULIA_STACKTRACE_CONTRACT_HOMEDIR"
"""0 for an account without a home folder, where Julia would throw when it prints a stack trace."""

_THREADS = (r"(auto|[1-9][0-9]{0,2})(,(auto|[1-9][0-9]{0,2}))?", "auto, or 1 to 999")
_RULES = {
    "PYTHON_JULIACALL_THREADS": _THREADS,
    "JULIA_NUM_THREADS": _THREADS,
    "JULIA_NUM_GC_THREADS": (r"[1-9][0-9]{0,2}(,[01])?", "1 to 999"),
    "PYTHON_JULIACALL_HEAP_SIZE_HINT": (
        r"(?=.*[1-9])[0-9]{1,15}(\.[0-9]{1,15})?[kKmMgGtT]?",
        "a positive number of bytes with or without K, M, G or T after it, such as 2G",
    ),
    "PYTHON_JULIACALL_HANDLE_SIGNALS": (r"yes|no", "yes or no"),
    "JULIA_THREAD_SLEEP_THRESHOLD": (r"[0-9]{1,18}|infinite", "nanoseconds, or infinite"),
}
"""Variable -> (pattern, what a value must be)."""

_CGROUP_FILES = ("memory.max", "memory.high", "memory.limit_in_bytes")
_UNLIMITED = 1 << 60
"""Bytes; version 1 of cgroups writes a number near 2^63 where there is no limit."""


def check_environment() -> None:
    """Check the variables that Julia reads, before it is started.

    Raises:
        BackendUnavailable: A value that libjulia would refuse; the message names variable, value
            and rule.
    """
    for name, (pattern, rule) in _RULES.items():
        value = os.environ.get(name)
        if value is not None and re.fullmatch(pattern, value) is None:
            raise BackendUnavailable(f"{name} must be {rule}. Received: {value!r}. Unset or fix it")
    executable, project = (
        os.environ.get(f"PYTHON_JULIACALL_{name}") for name in ("EXE", "PROJECT")
    )
    if (executable is None) != (project is None):
        present = "EXE" if project is None else "PROJECT"
        raise BackendUnavailable(
            "PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT must be set together: a Julia "
            "executable, and a project that contains MobileNets and PythonCall. "
            f"Received: only PYTHON_JULIACALL_{present}={executable or project}"
        )
    if chosen_bundle() is not None and "PYTHON_JULIACALL_SYSIMAGE" in os.environ:
        raise BackendUnavailable(
            f"{BUNDLE_VARIABLE} and PYTHON_JULIACALL_SYSIMAGE must not be set together: the "
            "compiled packages of a bundle are for its own Julia. Unset one of them"
        )


@contextlib.contextmanager
def environment_of_start() -> Iterator[None]:
    """Set what juliacall and Julia read when they start; restore the environment after.

    That is the chosen bundle, and defaults for what is not set. `HOME_VARIABLE` is not restored.
    """
    defaults = {
        # The extension copies Julia's output to a notebook by tasks of Julia, which call Python.
        # They run in Julia's first thread, which does not hold Python's lock.
        "PYTHON_JULIACALL_AUTOLOAD_IPYTHON_EXTENSION": "no",
        "PYTHON_JULIACALL_HANDLE_SIGNALS": "yes",
        "PYTHON_JULIACALL_HEAP_SIZE_HINT": str(heap_size_hint()),
        "JULIA_THREAD_SLEEP_THRESHOLD": SLEEP_THRESHOLD,
    }
    if "JULIA_NUM_THREADS" not in os.environ:
        defaults["PYTHON_JULIACALL_THREADS"] = "auto"
    if not _has_home():
        os.environ.setdefault(HOME_VARIABLE, "0")
    bundle = chosen_bundle()
    changes = {name: value for name, value in defaults.items() if name not in os.environ}
    changes |= bundle.environment() if bundle is not None else {}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def heap_size_hint() -> int:
    """Return the default heap size hint in bytes."""
    return min(MAX_HEAP_SIZE_HINT, memory_limit() // HEAP_SHARE)


def memory_limit(root: Path = Path("/")) -> int:
    """Return the memory, in bytes, that this process may use: of the machine, or of its cgroups.

    Args:
        root: Of the file system, for tests.
    """
    limits = [_machine_memory()]
    for folder in _cgroup_folders(root):
        for name in _CGROUP_FILES:
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))
    return min((limit for limit in limits if 0 < limit < _UNLIMITED), default=MAX_HEAP_SIZE_HINT)


def _machine_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return MAX_HEAP_SIZE_HINT * HEAP_SHARE


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """The folders of this process's cgroups and of those above them."""
    mount = root / "sys/fs/cgroup"
    yield mount
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = mount / "memory" if "memory" in controllers.split(",") else mount
            if controllers and base == mount:
                continue
            own = base / path.lstrip("/")
            yield from (own, *(parent for parent in own.parents if parent.is_relative_to(base)))
