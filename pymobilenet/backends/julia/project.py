"""The Julia project of this Python environment, which juliapkg sets up once."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from pymobilenet.backends.julia.bundle.installed import (
    BUNDLE_VARIABLE,
    chosen_bundle,
    chosen_julia,
)
from pymobilenet.backends.julia.environment import check_environment
from pymobilenet.backends.julia.executable import HOW_TO_GET_JULIA, find_julia, unavailable
from pymobilenet.errors import BackendUnavailable
from pymobilenet.machine import cores

LOCK = "pymobilenet.lock"
"""The file in the project that is locked while packages are installed."""

UNFINISHED = "pymobilenet.unfinished"
"""The file in the project that exists while packages are installed. It stays if that is killed."""

IMAGE_THREADS = "JULIA_IMAGE_THREADS"

LOCK_SECONDS = 3.0
"""How long another process that installs is waited for without a message."""


def ensure_julia() -> None:
    """Install Julia and its packages if they are missing.

    Several processes may call this at the same time: one installs, the others wait.

    Raises:
        BackendUnavailable: Julia is not installed and cannot be downloaded, or its packages cannot
            be installed.
    """
    check_environment()
    reason = unavailable()
    if reason is not None:
        hint = HOW_TO_GET_JULIA if chosen_julia() is None else remedy()
        raise BackendUnavailable(f"the Julia backend is unavailable: {reason}. {hint}")
    if is_set_up():
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            _install()
    except Exception as error:
        raise BackendUnavailable(
            f"the Julia packages could not be installed: {error}. The output of Pkg is above. "
            "Check the connection and that the folder can be written, or set PYTHON_JULIACALL_EXE "
            "and PYTHON_JULIACALL_PROJECT to a Julia executable and a project that contains "
            "MobileNets and PythonCall"
        ) from error


def remedy() -> str:
    """Return what may help if the chosen Julia does not start, as a sentence without its dot."""
    if "PYTHON_JULIACALL_EXE" in os.environ:
        return "Set PYTHON_JULIACALL_EXE to a Julia that works, or unset it"
    if chosen_bundle() is not None:
        return f"Unpack the bundle again, or unset {BUNDLE_VARIABLE} to use another Julia"
    return (
        "Run `python -m juliapkg resolve --force` in this environment to set up its packages again"
    )


def julia_executable_and_project() -> tuple[str, str]:
    """Return the paths of the Julia executable and of the project; call `ensure_julia` first."""
    chosen = chosen_julia()
    if chosen is not None:
        return chosen
    import juliapkg

    return juliapkg.executable(), juliapkg.project()


def is_set_up() -> bool:
    """Return whether Julia's packages are installed, without starting Julia.

    Nothing is locked or written, so that the environment may be read-only. What an earlier
    installation has recorded is handed to juliapkg, which then does not look again.
    """
    if chosen_julia() is not None:
        return True
    from juliapkg import deps
    from juliapkg.compat import Version
    from juliapkg.state import STATE

    project = Path(STATE["project"])
    if (project / UNFINISHED).exists() or not (project / "Manifest.toml").is_file():
        return False
    try:
        recorded = deps.can_skip_resolve()
        if not recorded:
            return False
        STATE["executable"], STATE["version"] = (
            recorded["executable"],
            Version.parse(recorded["version"]),
        )
        STATE["libjulia"], STATE["bindir"] = recorded["libjulia"], recorded["bindir"]
    except (OSError, ValueError, TypeError, KeyError):  # the record is damaged
        return False
    STATE["resolved"] = True
    return True


def _install() -> None:
    """Install the packages with juliapkg, after a message that this takes some minutes."""
    import juliapkg
    from filelock import FileLock, Timeout
    from juliapkg.state import STATE

    project = Path(STATE["project"])
    project.mkdir(parents=True, exist_ok=True)
    lock = FileLock(project / LOCK)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        print_status(f"another process sets up the Julia packages in {project}; waiting for it")
        lock.acquire()
    try:
        if is_set_up():
            return
        print_status(
            "first use of the Julia backend in this environment: setting up "
            f"{find_julia() or 'a downloaded Julia'} and compiling MobileNets.jl. "
            "This takes some minutes and happens once. The output of Pkg follows"
        )
        (project / UNFINISHED).touch()
        # Threads that compile one package; Julia's default is half the processors.
        os.environ.setdefault(IMAGE_THREADS, str(cores()))
        juliapkg.resolve(force=True)  # whatever a killed installation has left
        (project / UNFINISHED).unlink()
    finally:
        lock.release()


def print_status(sentence: str) -> None:
    """Print a status line to the standard error."""
    print(f"pymobilenet: {sentence}.", file=sys.stderr, flush=True)  # noqa: T201
