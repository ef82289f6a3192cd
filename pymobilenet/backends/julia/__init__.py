"""The Julia backend: MobileNets.jl, called through juliacall.

All interop between Python and Julia is in this package. Arrays are passed as views of the same
memory in both directions: a NumPy array (N, C, H, W) in C order and a Julia array (W, H, C, N) are
the same bytes, and MobileNets.jl stores every tensor so. Nothing is permuted or copied. A Julia
array stays alive as long as Python holds a view of it.

Environment variables, read when Julia starts. Where one is not set, the default applies:

- ``PYTHON_JULIACALL_THREADS`` or ``JULIA_NUM_THREADS``: number of Julia threads. Default ``auto``,
  one per core.
- ``JULIA_THREAD_SLEEP_THRESHOLD``: nanoseconds for which an idle Julia thread spins before it
  sleeps. Default 1,000,000 (1 ms): with Julia's own default, threads fall asleep between layers.
- ``PYTHON_JULIACALL_HANDLE_SIGNALS``: default ``yes``, because Julia with several threads uses
  SIGSEGV for its safepoints. Python's handler of Ctrl-C is restored after the start.
- ``PYTHON_JULIACALL_OPTIMIZE``: Julia's optimization level, 0 to 3. Default 2; 1 for the command
  ``pymobilenet diff``, which spends most of its time in Julia's compiler.
- ``PYTHON_JULIACALL_EXE`` with ``PYTHON_JULIACALL_PROJECT``: a Julia executable and a project that
  contains MobileNets and PythonCall. No package is then resolved or downloaded.
- ``PYMOBILENET_JULIA_BUNDLE``: the folder of an unpacked bundle (`bundle`), from which Julia and
  all packages are taken.
- ``PYTHON_JULIACALL_SYSIMAGE``: a system image, as built by `sysimage.build_sysimage`.
- ``PYTHON_JULIAPKG_*``: see https://github.com/JuliaPy/pyjuliapkg.
"""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from pymobilenet.backends.base import Backend
from pymobilenet.backends.julia.calls import Calls, Handle
from pymobilenet.backends.julia.executable import HOW_TO_GET_JULIA, status, unavailable
from pymobilenet.backends.julia.interop import translate_julia_errors
from pymobilenet.backends.julia.model import JuliaModel
from pymobilenet.backends.julia.packages import import_optional_packages, load_lazy_package
from pymobilenet.backends.julia.start import start
from pymobilenet.backends.julia.threads import THREADS
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError

__all__ = [
    "HOW_TO_GET_JULIA",
    "JuliaBackend",
    "JuliaModel",
    "load_backend",
    "status",
    "unavailable",
]


EXIT_TIMEOUT_SECONDS = 600.0
"""How long a process waits at its exit for the other processes of a distributed run. The main
process may still be writing its files."""

INTERRUPTED = (130, 143)
"""The statuses of a command that SIGINT or SIGTERM has ended."""

INTERRUPTED_TIMEOUT_SECONDS = 10.0
"""The same for a process that was interrupted."""


class JuliaBackend(Backend):
    """The running Julia. There is one per process, because Julia can be started only once.

    Options of `build` and `load`:

    - ``kernels``: "fast", or "reference" for NNlib's convolutions, which are slow.
    - ``device``: "cpu", or "cuda" to compute with Flux's own layers on a GPU.
    - ``distributed`` (bool): whether this process is one of several that mpiexec has started and
      that train one model together.

    Attributes:
        main: Julia's ``Main`` module.
        calls: The C function of MobileNets.jl.
    """

    name = "julia"
    options = ("kernels", "device", "distributed")

    def __init__(self) -> None:
        self.main, address, operations = start()
        self.calls = Calls(address, operations)
        THREADS.immortal_in_forks.append(self.main)
        self._loaded: set[str] = set()
        self._processes: tuple[int, int, Handle] | None = None
        self._exit_status: Any = None

    @cached_property
    def julia(self) -> Any:
        """The module ``MobileNets``, through juliacall."""
        return self._immortal(self.main.MobileNets)

    @cached_property
    def element_types(self) -> dict[np.dtype, Any]:
        """NumPy dtype -> Julia type."""
        names = {"float32": "Float32", "float64": "Float64", "int64": "Int64", "uint8": "UInt8"}
        return {
            np.dtype(dtype): self._immortal(getattr(self.main, name))
            for dtype, name in names.items()
        }

    @cached_property
    def _array_at(self) -> Any:
        return self._immortal(self.julia.array_at)

    @staticmethod
    def _immortal(julia_object: Any) -> Any:
        THREADS.immortal_in_forks.append(julia_object)
        return julia_object

    def load_package(self, name: str) -> None:
        """Load a package of the project that is loaded only where it is needed.

        Args:
            name: One of `LAZY_PACKAGES`.

        Raises:
            BackendUnavailable: It is not in the project, or does not load.
        """
        if name not in self._loaded:
            load_lazy_package(name)
            self._loaded.add(name)

    def versions(self) -> dict[str, str]:
        """Return the versions of Julia and of the packages that compute, by name."""
        with translate_julia_errors():
            versions = self.julia.versions()
            return {str(name): str(versions[name]) for name in versions}

    def threads(self) -> dict[str, int]:
        """Return the numbers of Julia and BLAS threads."""
        with translate_julia_errors():
            return {
                "julia": int(self.main.Threads.nthreads()),
                "blas": int(self.main.LinearAlgebra.BLAS.get_num_threads()),
            }

    def product(self, a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        """Return a function that multiplies two square matrices in Julia.

        Args:
            a: (n, n), float32 or float64.
            b: The same shape and dtype.
        """
        left, right = self.wrap(a), self.wrap(b)
        multiply, keep_alive = getattr(self.main, "*"), (a, b)
        return lambda: (multiply(left, right), keep_alive)

    def join_processes(self) -> tuple[int, int, Handle]:
        """Initialize MPI and return the group of processes that mpiexec has started.

        The first call waits for the other processes; later calls return the same object.

        Returns:
            Their number, the rank of this process, and a ``Processes`` of MobileNets.jl.

        Raises:
            BackendUnavailable: MPI.jl is not in the Julia project.
            JuliaError: mpiexec has not started this process, or has started only one.
        """
        if self._processes is None:
            self.load_package("Flux")
            import_optional_packages(("MPI",), "distributed=True")
            with translate_julia_errors():
                group = self.julia.join_processes()
                handle = self.calls.handle(int(self.julia.c_handle(group)))
                self._processes = int(group.count), int(group.rank), handle
            self._record_exit_status()
            atexit.register(self._leave_processes)
        return self._processes

    def object(self, handle: Handle | None) -> Any:
        """Return the Julia object of a handle, through juliacall."""
        with translate_julia_errors():
            return None if handle is None else self.julia.object_of(handle.number)

    def _leave_processes(self) -> None:
        """Wait at exit for the other processes; abort all if they do not arrive in time.

        A process that ends with an exception or a status other than 0 aborts the others, at once
        or, where it was interrupted and the others may be saving, after some seconds. Without this,
        MPI would let the remaining processes wait for ever.
        """
        mpi = self.main.MPI
        barrier = mpi.Ibarrier(mpi.COMM_WORLD)
        deadline = time.monotonic() + self._exit_timeout()
        while not mpi.Test(barrier):
            if time.monotonic() > deadline:
                mpi.Abort(mpi.COMM_WORLD, 1)
            time.sleep(0.02)

    def _exit_timeout(self) -> float:
        if self._exit_status in INTERRUPTED:
            return INTERRUPTED_TIMEOUT_SECONDS
        has_failed = hasattr(sys, "last_value") or self._exit_status not in (None, 0)
        return 0.0 if has_failed else EXIT_TIMEOUT_SECONDS

    def _record_exit_status(self) -> None:
        """Record what `sys.exit` is called with: Python tells no exit handler the status."""
        sys_exit = sys.exit

        def record_and_exit(status: Any = None, /) -> NoReturn:
            self._exit_status = status
            sys_exit(status)

        sys.exit = record_and_exit

    def new_dict(self) -> Any:
        """Return an empty ``Dict{String,Array}``."""
        return self.main.Dict[self.main.String, self.main.Array]()

    def wrap(self, array: np.ndarray) -> Any:
        """Return a Julia ``Array`` over the memory of a NumPy array, with its axes reversed.

        The caller must keep the NumPy array alive while Julia uses it.

        Args:
            array: C-contiguous; float32, float64, int64 or uint8.
        """
        element_type, address = self.element_types[array.dtype], array.ctypes.data
        return self._array_at(element_type, address, array.shape[::-1])

    def _new(
        self, config: MobileNetConfig, dtype: np.dtype, device: str = "cpu", **options: Any
    ) -> JuliaModel:
        if device == "cuda":  # before MPI is initialized, so that each process takes its own GPU
            import_optional_packages(("CUDA", "cuDNN"), "device='cuda'")
        return JuliaModel(self, config, dtype, device=device, **options)


def load_backend(isolated: bool = False, **options: Any) -> Backend:
    """Return the backend, after starting Julia.

    Args:
        isolated: Whether Julia runs in a process of its own.
        **options: Of `isolated.IsolatedBackend`; only with `isolated`.

    Raises:
        ConfigError: An option without `isolated`, or an unknown one.
        BackendUnavailable: Julia or its packages are not installed or do not load.
    """
    if isolated:
        from pymobilenet.backends.julia.isolated import OPTIONS, IsolatedBackend

        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ConfigError(
                f"an option must be one of isolated, {', '.join(OPTIONS)}. Received: {unknown[0]}"
            )
        return IsolatedBackend(**options)
    if options:
        raise ConfigError(
            f"{', '.join(options)} requires isolated=True: Julia runs once in a process, as the "
            "environment says"
        )
    return JuliaBackend()
