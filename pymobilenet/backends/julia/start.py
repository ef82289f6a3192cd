"""Find, set up and start Julia.

The environment variables are listed in `pymobilenet.backends.julia`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from pymobilenet.backends.julia.bundle.installed import SET_PROGRAM, chosen_bundle
from pymobilenet.backends.julia.environment import environment_of_start
from pymobilenet.backends.julia.executable import find_julia, record_start, try_new_julia
from pymobilenet.backends.julia.interop import translate_julia_errors
from pymobilenet.backends.julia.project import ensure_julia, remedy
from pymobilenet.backends.julia.signals import SignalHandlers
from pymobilenet.backends.julia.threads import THREADS
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

_start_lock = threading.Lock()
_starter: _Starter | None = None


class _Starter(threading.Thread):
    """The thread that starts Julia, and is Julia's first thread for the life of the process.

    libjulia changes the signal mask of the thread that starts it, and that thread runs Julia's
    event loop: without it, Julia code that prints, sleeps or waits for a task would wait for ever.
    """

    def __init__(self) -> None:
        super().__init__(name="julia", daemon=True)
        self.ended = threading.Event()
        self.handlers = SignalHandlers()
        self.bundle, self.remedy = chosen_bundle(), remedy()
        self.error: BackendUnavailable | None = None
        self._run_event_loop: Callable[[], None] = lambda: None

    def run(self) -> None:
        try:
            self._start()
        except BackendUnavailable as error:
            self.error = error
        except BaseException as error:
            self.error = BackendUnavailable(f"Julia did not start: {error!r}")
            self.error.__cause__ = error
        self.handlers.restore()
        self.ended.set()
        self._run_event_loop()
        if "juliacall" in sys.modules:
            threading.Event().wait()  # an end of Julia's first thread is not supported

    def _start(self) -> None:
        home_problem = problem_of_home()  # before Julia may have created the folder
        with environment_of_start(), warnings.catch_warnings():
            # Both import orders are tested in fresh processes, so the warning does not apply.
            warnings.filterwarnings("ignore", message="torch was imported before juliacall")
            try:
                with _exit_hooks_captured(self._continue_start) as hooks:
                    import juliacall  # noqa: F401
            except ValueError as error:  # an option that juliacall checks
                raise BackendUnavailable(f"Julia was not started: {error}") from error
            except Exception as error:
                advice = home_problem or self.remedy
                raise BackendUnavailable(
                    f"Julia is installed but did not start: {error}. {advice}"
                ) from error
            atexit.register(_end_julia, hooks)
            try:
                import_packages()
                address = evaluate_number("MobileNets.event_loop_address()")
                self._run_event_loop = ctypes.CFUNCTYPE(None)(address)  # releases the GIL
            finally:
                leave_julia()

    def _continue_start(self) -> None:
        """What is done when libjulia has been initialized, before packages are loaded."""
        self.handlers.restore()  # so that a signal that comes from now on reaches Python
        if self.bundle is not None:
            import juliacall

            juliacall.CONFIG["lib"].jl_eval_string(SET_PROGRAM.encode())


def problem_of_home() -> str | None:
    """Return why Julia finds no packages in the user's folder, or None."""
    home = os.environ.get("HOME")
    if home is None or "JULIA_DEPOT_PATH" in os.environ or os.path.isdir(home):
        return None
    return (
        "Julia looks for its packages in the folder .julia of HOME, which must be a folder that "
        f"exists. Received: HOME={home}. Set it, or JULIA_DEPOT_PATH to the folder of the packages"
    )


def start() -> Any:
    """Start Julia, or return it if it is running. Any thread may call this.

    Installs Julia and its packages on first use. Python's signal handlers stay in place, and an
    interrupt while Julia starts is a KeyboardInterrupt; the start goes on in its own thread.

    Returns:
        Julia's ``Main`` module.

    Raises:
        BackendUnavailable: Julia is not installed and cannot be downloaded, its packages cannot be
            installed, or it does not start.
    """
    global _starter
    THREADS.check()
    with _start_lock:
        was_running, THREADS.is_started = THREADS.is_started, True  # a fork from here on is refused
        try:
            if _starter is None and "juliacall" in sys.modules:
                return _adopt_running_julia()
            if _starter is None:
                ensure_julia()
                try_new_julia()
                _starter = _Starter()
                _starter.start()
        except BaseException:
            THREADS.is_started = was_running
            raise
    _starter.ended.wait()
    if _starter.error is not None:
        raise _starter.error
    import juliacall

    objects = vars(juliacall).values()
    THREADS.immortal_in_forks += [one for one in objects if isinstance(one, juliacall.ValueBase)]
    record_start(find_julia() or juliacall.CONFIG["exepath"])
    return juliacall.Main


def _adopt_running_julia() -> Any:
    """Use a Julia that the program has started by importing juliacall in the main thread."""
    import juliacall

    if not hasattr(juliacall, "Main"):
        raise BackendUnavailable("juliacall was imported, but has not started Julia")
    import_packages()
    if threading.current_thread() is threading.main_thread():
        leave_julia()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED_BY_JULIA)
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))
    return juliacall.Main


_BLOCKED_BY_JULIA = {signal.SIGINT, signal.SIGTERM} | {
    getattr(signal, name) for name in ("SIGQUIT", "SIGUSR1") if hasattr(signal, name)
}
"""``sigwait_sigs`` of Julia's src/signals-unix.c."""


def leave_julia() -> None:
    """Tell Julia's garbage collector not to wait for this thread, which has started Julia.

    A later call of a C function of Julia's, as juliacall's types make, enters Julia and leaves it
    again. ``jl_eval_string`` does not.
    """
    ctypes.PYFUNCTYPE(ctypes.c_int8)(evaluate_number("cglobal(:jl_gc_safe_enter)"))()


def evaluate_number(code: str) -> int:
    """Return the value of Julia code, in the thread that has started Julia.

    Calls libjulia directly: juliacall would compile conversions for this one call.

    Args:
        code: An expression that is a whole number or an address.

    Raises:
        BackendUnavailable: Julia throws an error, since another version of a package is loaded.
    """
    import juliacall

    lib = juliacall.CONFIG["lib"]
    lib.jl_unbox_int64.argtypes, lib.jl_unbox_int64.restype = [ctypes.c_void_p], ctypes.c_int64
    value = lib.jl_eval_string(f"Int64({code})".encode())
    if not value:
        raise BackendUnavailable(f"{code} is not in the project {juliacall.CONFIG['project']}")
    return lib.jl_unbox_int64(value)


@contextlib.contextmanager
def _exit_hooks_captured(initialized: Callable[[], None]) -> Iterator[list[Callable[[], None]]]:
    """Take over what a block registers with `atexit`.

    juliacall's hook ends Julia whatever is running, and in forks too. It is registered when
    libjulia has been initialized; `initialized` is called then, before packages are loaded.
    """
    hooks: list[Callable[[], None]] = []
    register = atexit.register

    def capture(function: Callable[[], None]) -> Callable[[], None]:
        if threading.current_thread() is starter:
            initialized()
            hooks.append(function)
            return function
        return register(function)

    starter = threading.current_thread()
    atexit.register = capture  # type: ignore[assignment]
    try:
        yield hooks
    finally:
        atexit.register = register  # type: ignore[assignment]


def _end_julia(hooks: list[Callable[[], None]]) -> None:
    """End Julia with the process, unless calls are still running or this is a fork."""
    if THREADS.close():
        for hook in reversed(hooks):
            hook()


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


def import_optional_packages(names: tuple[str, ...], option: str) -> None:
    """Import Julia packages that users add to the project themselves.

    Args:
        names: Keys of `OPTIONAL_PACKAGE_UUIDS`.
        option: The option that requires them, as the error message quotes it.

    Raises:
        BackendUnavailable: A package does not load. The message says how to add it.
    """
    import juliacall

    with translate_julia_errors():
        error = str(juliacall.Main.seval(IMPORT_CODE.format(", ".join(names))))
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
