"""Find, set up and start Julia.

The environment variables are listed in `pymobilenet.backends.julia`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import warnings
from typing import Any

from pymobilenet.backends.julia.environment import check_environment, environment_defaults
from pymobilenet.backends.julia.executable import (
    HOW_TO_GET_JULIA,
    SYSIMAGE_VARIABLE,
    check_image,
    find_julia,
    record_start,
    unavailable,
    was_started,
)
from pymobilenet.errors import BackendUnavailable

IMPORT_CODE = """
try
    import {}
    ""
catch error
    sprint(showerror, error)
end
"""
"""Julia code that imports packages and returns the text of the error, or an empty string."""

OPTIONAL_PACKAGE_UUIDS = {
    "CUDA": "052768ef-5323-5732-b1bb-66c8b64840ba",
    "cuDNN": "02a925ec-e4fe-4b08-9a7e-0d78e3d38ccd",
    "MPI": "da04e1cc-30fd-572f-bb4f-1f8673147195",
}
"""Julia packages that are not dependencies: users who need them add them to the project."""


def start() -> Any:
    """Start Julia, or return it if it is running.

    Installs Julia and its packages on first use. Python's handlers of signals stay in place.

    Returns:
        Julia's ``Main`` module.

    Raises:
        BackendUnavailable: Julia is not installed and cannot be downloaded, its packages cannot be
            installed, or it does not start.
    """
    ensure_julia()
    if "juliacall" not in sys.modules:
        _check_image()
    interrupt_handler = signal.getsignal(signal.SIGINT)
    mask = (
        signal.pthread_sigmask(signal.SIG_BLOCK, [])
        if hasattr(signal, "pthread_sigmask")
        else set()
    )
    with environment_defaults(), warnings.catch_warnings():
        # Both import orders are tested in fresh processes, so the warning does not apply.
        warnings.filterwarnings("ignore", message="torch was imported before juliacall")
        try:
            import juliacall
        except ValueError as error:  # an option that juliacall checks
            raise BackendUnavailable(f"Julia was not started: {error}") from error
        except Exception as error:
            raise BackendUnavailable(
                f"Julia is installed but did not start: {error}. Run `python -m juliapkg resolve "
                "--force` in this environment to set up its packages again"
            ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt_handler)
        if hasattr(signal, "pthread_sigmask"):  # Julia blocks the signals that end a process
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return juliacall.Main


def _check_image() -> None:
    """Try the system image of the environment in another process, unless it has worked before."""
    image, path = os.environ.get(SYSIMAGE_VARIABLE), find_julia()
    if image and path is not None and not was_started(path):
        check_image(path, image)


def ensure_julia() -> None:
    """Install Julia and its packages if they are missing.

    Raises:
        BackendUnavailable: Julia is not installed and cannot be downloaded, or its packages cannot
            be installed.
    """
    check_environment()
    reason = unavailable()
    if reason is not None:
        raise BackendUnavailable(f"the Julia backend is unavailable: {reason}. {HOW_TO_GET_JULIA}")
    _resolve()


def julia_executable_and_project() -> tuple[str, str]:
    """Return the paths of the Julia executable and of the project; call `ensure_julia` first."""
    if "PYTHON_JULIACALL_EXE" in os.environ:
        return os.environ["PYTHON_JULIACALL_EXE"], os.environ.get("PYTHON_JULIACALL_PROJECT", "")
    import juliapkg

    return juliapkg.executable(), juliapkg.project()


def import_packages() -> None:
    """Import MobileNets.jl, and with it the precompiled conversions of PythonCall.

    A failed import is not retried, because Julia regards a package whose ``__init__`` has failed
    as loaded.

    Raises:
        BackendUnavailable: MobileNets.jl is not in the project or does not load.
    """
    import juliacall

    error = _import("MobileNets, LinearAlgebra")
    if error:
        raise BackendUnavailable(
            f"Julia started, but MobileNets.jl could not be loaded: {error}. The project "
            f"{juliacall.CONFIG['project']} must contain MobileNets and PythonCall"
        )
    record_start(find_julia() or juliacall.CONFIG["exepath"])


def import_optional_packages(names: tuple[str, ...], option: str) -> None:
    """Import Julia packages that users add to the project themselves.

    Args:
        names: Keys of `OPTIONAL_PACKAGE_UUIDS`.
        option: The option that requires them, as the error message quotes it.

    Raises:
        BackendUnavailable: A package does not load. The message says how to add it.
    """
    import juliacall

    error = _import(", ".join(names))
    if error:
        commands = ", ".join(
            f"`python -m juliapkg add {name} --uuid {OPTIONAL_PACKAGE_UUIDS[name]}`"
            for name in names
        )
        raise BackendUnavailable(
            f"{option} requires {' and '.join(names)} in the project "
            f"{juliacall.CONFIG['project']}. Run {commands}, then `python -m juliapkg resolve`. "
            f"Received: {error}"
        )


def _import(names: str) -> str:
    """Import packages into ``Main``; return the text of the error, or an empty string.

    Calls libjulia directly, because ``Main.seval`` would have to be compiled for this one call.
    """
    import juliacall

    lib = juliacall.CONFIG["lib"]
    lib.jl_string_ptr.argtypes, lib.jl_string_ptr.restype = [ctypes.c_void_p], ctypes.c_char_p
    return lib.jl_string_ptr(lib.jl_eval_string(IMPORT_CODE.format(names).encode())).decode()


def is_set_up() -> bool:
    """Return whether Julia's packages are installed, without starting Julia."""
    if "PYTHON_JULIACALL_EXE" in os.environ:
        return True
    import juliapkg

    with contextlib.redirect_stdout(sys.stderr):
        return bool(juliapkg.resolve(dry_run=True))


def _resolve() -> None:
    """Install missing packages with juliapkg, after a message that this takes some minutes."""
    if "PYTHON_JULIACALL_EXE" in os.environ:
        return
    import juliapkg

    with contextlib.redirect_stdout(sys.stderr):
        try:
            if juliapkg.resolve(dry_run=True):
                return
            print_status(
                "first use of the Julia backend in this environment: setting up "
                f"{find_julia() or 'a downloaded Julia'} and compiling MobileNets.jl. "
                "This takes some minutes and happens once. The output of Pkg follows"
            )
            juliapkg.resolve()
        except Exception as error:
            raise BackendUnavailable(
                f"the Julia packages could not be installed: {error}. The output of Pkg is above. "
                "Check the connection, or set PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT "
                "to a Julia executable and a project that contains MobileNets and PythonCall"
            ) from error


def print_status(sentence: str) -> None:
    """Print a status line to the standard error."""
    print(f"pymobilenet: {sentence}.", file=sys.stderr, flush=True)  # noqa: T201
