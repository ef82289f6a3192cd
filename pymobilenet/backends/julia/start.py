"""Find, set up and start Julia.

The environment variables are listed in `pymobilenet.backends.julia`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import warnings
from typing import Any

from pymobilenet.backends.julia.environment import environment_defaults
from pymobilenet.backends.julia.executable import (
    SYSIMAGE_VARIABLE,
    check_image,
    find_julia,
    record_start,
    was_started,
)
from pymobilenet.backends.julia.project import ensure_julia
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
