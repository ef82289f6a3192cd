"""MobileNets.jl through juliacall: all interop between Python and Julia is in this package.

Arrays are passed as views of the same memory, in both directions. A NumPy array (N, C, H, W) in C
order and a Julia array (W, H, C, N) are the same bytes, and MobileNets.jl stores every tensor so;
nothing is permuted or copied. A Julia array stays alive as long as Python holds a view of it.

Environment variables, read when Julia starts (those not set are chosen here):

- ``PYTHON_JULIACALL_THREADS`` or ``JULIA_NUM_THREADS``: Julia threads. Default ``auto``, one for
  each core.
- ``JULIA_THREAD_SLEEP_THRESHOLD``: nanoseconds for which a Julia thread waits awake for work.
  Default a millisecond: by Julia's own default threads fall asleep between two layers.
- ``PYTHON_JULIACALL_HANDLE_SIGNALS``: default ``yes``, because several Julia threads need the
  SIGSEGV of their safepoints; Ctrl-C is given back to Python afterwards.
- ``PYTHON_JULIACALL_EXE`` with ``PYTHON_JULIACALL_PROJECT``: a Julia and a project that holds
  MobileNets and PythonCall; nothing is resolved or downloaded then.
- ``PYTHON_JULIACALL_SYSIMAGE``: a system image, as `sysimage.build_sysimage` makes one.
- ``PYTHON_JULIAPKG_*``: see https://github.com/JuliaPy/pyjuliapkg.
"""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pymobilenet.backends.base import Backend
from pymobilenet.backends.julia.interop import translated
from pymobilenet.backends.julia.model import JuliaModel
from pymobilenet.backends.julia.start import (
    HOW_TO_GET_JULIA,
    found_julia,
    import_added,
    import_packages,
    start,
    unavailable,
)
from pymobilenet.config import MobileNetConfig

__all__ = [
    "HOW_TO_GET_JULIA",
    "JuliaBackend",
    "JuliaModel",
    "load_backend",
    "status",
    "unavailable",
]


LAST_SECONDS = 600.0
"""How long a process that ends waits for the others that train with it: the first still writes."""


class JuliaBackend(Backend):
    """The running Julia; one for each process, since Julia can only be started once.

    Options of `build` and `load`: ``kernels``, "fast" or "reference" (NNlib's convolutions, slow);
    ``device``, "cpu" or "cuda", where Flux's own layers compute; ``distributed``, whether this
    process is one of several that mpiexec has started and that train together.
    """

    name = "julia"
    options = ("kernels", "device", "distributed")

    def __init__(self) -> None:
        self.main = main = start()
        import_packages()
        self.julia = main.MobileNets
        self.element_types = {
            np.dtype("float32"): main.Float32,
            np.dtype("float64"): main.Float64,
            np.dtype("int64"): main.Int64,
            np.dtype("uint8"): main.UInt8,
        }
        self._array_at = self.julia.array_at
        self._processes: Any = None

    def versions(self) -> dict[str, str]:
        with translated():
            found = self.julia.versions()
            return {str(name): str(found[name]) for name in found}

    def threads(self) -> dict[str, int]:
        with translated():
            return {
                "julia": int(self.main.Threads.nthreads()),
                "blas": int(self.main.LinearAlgebra.BLAS.get_num_threads()),
            }

    def product(self, a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        left, right = self.wrap(a), self.wrap(b)
        multiply, kept = getattr(self.main, "*"), (a, b)
        return lambda: (multiply(left, right), kept)

    def join_processes(self) -> Any:
        """All processes that mpiexec has started, MobileNets.jl's `Processes`; they meet once."""
        if self._processes is None:
            import_added(("MPI",), "distributed=True")
            with translated():
                self._processes = self.julia.join_processes()
            atexit.register(self._part)
        return self._processes

    def _part(self) -> None:
        """End together with the other processes, or end them all, if they do not come or this one
        has failed: MPI itself would wait for them for ever, and they for this one.
        """
        mpi, has_failed = self.main.MPI, hasattr(sys, "last_value")
        met = mpi.Ibarrier(mpi.COMM_WORLD)
        deadline = time.monotonic() + (0 if has_failed else LAST_SECONDS)
        while not mpi.Test(met):
            if time.monotonic() > deadline:
                mpi.Abort(mpi.COMM_WORLD, 1)
            time.sleep(0.02)

    def workspace(self, model: Any, device: str) -> Any:
        """Where MobileNets.jl's `model` computes; elsewhere than on the CPU, on CUDA.jl's GPU."""
        with translated():
            if device == "cpu":
                return self.julia.Workspace()
            return self.julia.DeviceWorkspace(model, device)

    def new_dict(self) -> Any:
        """An empty ``Dict{String,Array}``."""
        return self.main.Dict[self.main.String, self.main.Array]()

    def wrap(self, array: np.ndarray) -> Any:
        """A Julia `Array` over the memory of a C-contiguous NumPy array, its axes reversed.

        The NumPy array has to be kept alive while Julia uses it.
        """
        kind, address = self.element_types[array.dtype], array.ctypes.data
        return self._array_at(kind, address, array.shape[::-1])

    def _new(
        self, config: MobileNetConfig, dtype: np.dtype, device: str = "cpu", **options: Any
    ) -> JuliaModel:
        if device == "cuda":  # before processes meet: each of them then takes a GPU of its own
            import_added(("CUDA", "cuDNN"), "device='cuda'")
        return JuliaModel(self, config, dtype, device=device, **options)


def status() -> str:
    found = found_julia()
    if found is not None:
        return f"available ({found})"
    reason = unavailable()
    return (
        f"unavailable: {reason}. {HOW_TO_GET_JULIA}"
        if reason
        else "available after a download, once"
    )


def load_backend() -> JuliaBackend:
    return JuliaBackend()
