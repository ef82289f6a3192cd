"""Finding, setting up and starting Julia; the package tells what the environment decides."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymobilenet.errors import BackendUnavailable

DOWNLOAD_HOST = "julialang-s3.julialang.org"
CONNECT_SECONDS = 3

SLEEP_THRESHOLD = "1000000"
"""Nanoseconds for which a Julia thread waits awake for work. Julia's own 16,000 are over between
two layers, and waking a virtual processor takes longer than many a layer."""

HEAP_SIZE_HINT = "4G"
"""Where Julia begins to collect eagerly: it does not see what torch and NumPy take beside it."""

HOW_TO_GET_JULIA = (
    "Install Julia 1.10 or later from https://julialang.org/downloads and have `julia` on PATH, "
    "or connect to the internet once: it is then downloaded by itself"
)


IMPORT = """
try
    import {}
    ""
catch error
    sprint(showerror, error)
end
"""
"""Gives the text of the error, empty where there is none."""

UUIDS = {
    "CUDA": "052768ef-5323-5732-b1bb-66c8b64840ba",
    "cuDNN": "02a925ec-e4fe-4b08-9a7e-0d78e3d38ccd",
    "MPI": "da04e1cc-30fd-572f-bb4f-1f8673147195",
}
"""Julia packages that users who need them add to the project themselves."""


def start() -> Any:
    """Start Julia and return its Main module, with the settings explained at the top."""
    ensure_julia()
    interrupt = signal.getsignal(signal.SIGINT)
    with _environment_defaults(), warnings.catch_warnings():
        # Tested in both orders in fresh processes; the warning cannot be acted on after the fact.
        warnings.filterwarnings("ignore", message="torch was imported before juliacall")
        try:
            import juliacall
        except Exception as error:
            raise BackendUnavailable(
                f"Julia was found but did not start: {error}. Running `python -m juliapkg resolve "
                "--force` in this environment sets up its packages again"
            ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return juliacall.Main


def ensure_julia() -> None:
    """Have Julia and its packages set up; raises `BackendUnavailable` if that cannot be."""
    reason = unavailable()
    if reason is not None:
        raise BackendUnavailable(f"the Julia backend cannot be had: {reason}. {HOW_TO_GET_JULIA}")
    _resolve()


def installed() -> tuple[str, str]:
    """Executable and project of what `ensure_julia` has set up."""
    names = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
    if names[0] in os.environ:
        return os.environ[names[0]], os.environ.get(names[1], "")
    import juliapkg

    return juliapkg.executable(), juliapkg.project()


def import_packages() -> None:
    """Load MobileNets.jl, and with it PythonCall's conversions, precompiled.

    libjulia's own function does it: `Main.seval` would be compiled for this one call. What failed
    is not tried again, since Julia takes a package whose `__init__` failed for loaded.
    """
    import juliacall

    error = _import("MobileNets, LinearAlgebra")
    if error:
        raise BackendUnavailable(
            f"Julia started, but MobileNets.jl could not be loaded: {error}. The project "
            f"{juliacall.CONFIG['project']} must hold it, and PythonCall"
        )


def import_added(names: tuple[str, ...], use: str) -> None:
    """Load packages of `UUIDS`, or say what they are needed for and how to get them."""
    import juliacall

    error = _import(", ".join(names))
    if error:
        how = ", ".join(f"`python -m juliapkg add {name} --uuid {UUIDS[name]}`" for name in names)
        raise BackendUnavailable(
            f"{use} needs {' and '.join(names)} in the project {juliacall.CONFIG['project']}: "
            f"{how}, then `python -m juliapkg resolve`. Received: {error}"
        )


def _import(names: str) -> str:
    """Import packages into Main; the text of what went wrong, empty if nothing did."""
    import juliacall

    lib = juliacall.CONFIG["lib"]
    lib.jl_string_ptr.argtypes, lib.jl_string_ptr.restype = [ctypes.c_void_p], ctypes.c_char_p
    return lib.jl_string_ptr(lib.jl_eval_string(IMPORT.format(names).encode())).decode()


def _resolve() -> None:
    """Let juliapkg install what is missing, and say so before it takes its minutes."""
    if "PYTHON_JULIACALL_EXE" in os.environ:
        return
    import juliapkg

    with contextlib.redirect_stdout(sys.stderr):
        try:
            if juliapkg.resolve(dry_run=True):
                return
            say(
                "first use of the Julia backend in this environment: setting up "
                f"{found_julia() or 'a Julia that is downloaded now'} and compiling MobileNets.jl. "
                "This takes some minutes, once; what is done follows"
            )
            juliapkg.resolve()
        except Exception as error:
            raise BackendUnavailable(
                f"the Julia packages could not be installed: {error}. What Pkg said stands above. "
                "Check the connection, or set PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT "
                "to a Julia and a project that has MobileNets and PythonCall"
            ) from error


@contextlib.contextmanager
def _environment_defaults() -> Iterator[None]:
    """Settings juliacall reads when it is imported; the environment is left as it was."""
    defaults = {
        "PYTHON_JULIACALL_HANDLE_SIGNALS": "yes",
        "PYTHON_JULIACALL_HEAP_SIZE_HINT": HEAP_SIZE_HINT,
        "JULIA_THREAD_SLEEP_THRESHOLD": SLEEP_THRESHOLD,
    }
    if "JULIA_NUM_THREADS" not in os.environ:
        defaults["PYTHON_JULIACALL_THREADS"] = "auto"
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def unavailable() -> str | None:
    """Why no Julia can be had: none is installed and none can be downloaded. None if one can."""
    if found_julia() is not None or "juliacall" in sys.modules:
        return None
    if os.environ.get("PYTHON_JULIAPKG_OFFLINE") == "yes":
        return "no Julia is installed, and PYTHON_JULIAPKG_OFFLINE=yes forbids downloading one"
    try:
        socket.create_connection((DOWNLOAD_HOST, 443), CONNECT_SECONDS).close()
    except OSError as error:
        return f"no Julia is installed, and {DOWNLOAD_HOST} cannot be reached ({error})"
    return None


def found_julia() -> str | None:
    """The Julia that is there already: told by the environment, set up before, or on PATH."""
    from juliapkg.state import STATE

    told = os.environ.get("PYTHON_JULIACALL_EXE") or STATE["override_executable"]
    if told:
        return told
    downloaded = Path(STATE["install"]) / "bin" / "julia"
    return shutil.which("julia") or shutil.which("juliaup") or shutil.which(downloaded)


def say(sentence: str) -> None:
    print(f"pymobilenet: {sentence}.", file=sys.stderr, flush=True)  # noqa: T201
