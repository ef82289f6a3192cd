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
from typing import Any, NamedTuple

from pymobilenet.backends.julia.bundle.installed import SET_PROGRAM, chosen_bundle
from pymobilenet.backends.julia.environment import environment_of_start
from pymobilenet.backends.julia.executable import find_julia, record_start, try_new_julia
from pymobilenet.backends.julia.libjulia import evaluate_number, evaluate_text
from pymobilenet.backends.julia.packages import import_packages
from pymobilenet.backends.julia.project import ensure_julia, remedy
from pymobilenet.backends.julia.signals import SignalHandlers
from pymobilenet.backends.julia.sysimage import use_installed_sysimage
from pymobilenet.backends.julia.threads import THREADS
from pymobilenet.errors import BackendUnavailable


class RunningJulia(NamedTuple):
    """A Julia that has loaded MobileNets.jl.

    Attributes:
        main: Julia's ``Main`` module, through juliacall.
        call_address: The address of the C function of julia/src/c_calls.jl.
        operations: The names of its operations, in the order of their numbers.
    """

    main: Any
    call_address: int
    operations: tuple[str, ...]


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
        self.julia: RunningJulia
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
                self.julia = _load_mobilenets()
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


def start() -> RunningJulia:
    """Start Julia, or return it if it is running. Any thread may call this.

    Installs Julia and its packages on first use. Python's signal handlers stay in place, and an
    interrupt while Julia starts is a KeyboardInterrupt; the start goes on in its own thread.

    Returns:
        Julia with MobileNets.jl loaded.

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
                use_installed_sysimage()
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
    return _starter.julia


def _load_mobilenets() -> RunningJulia:
    """Load MobileNets.jl, in the thread that has started Julia.

    libjulia is called directly: juliacall would compile conversions for each of these calls.
    """
    import juliacall

    import_packages()
    address = evaluate_number("MobileNets.c_call_address()")
    names = evaluate_text("MobileNets.c_operation_names()")
    return RunningJulia(juliacall.Main, address, tuple(names.split(",")))


def _adopt_running_julia() -> RunningJulia:
    """Use a Julia that the program has started by importing juliacall in the main thread."""
    import juliacall

    if not hasattr(juliacall, "Main"):
        raise BackendUnavailable("juliacall was imported, but has not started Julia")
    julia = _load_mobilenets()
    if threading.current_thread() is threading.main_thread():
        leave_julia()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED_BY_JULIA)
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))
    return julia


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
