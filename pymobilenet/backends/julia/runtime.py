"""What the running Julia reports of itself, and the peers that benchmarks run in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia import JuliaBackend
from pymobilenet.backends.julia.interop import translated
from pymobilenet.backends.julia.model import JuliaModel
from pymobilenet.errors import BackendUnavailable


def bench_peers(
    function: str, model: Model, images: np.ndarray, labels: np.ndarray
) -> Callable[[], Any]:
    """A job of julia/bench/peers.jl, which one call without arguments runs."""
    one = running_backend()
    assert isinstance(model, JuliaModel)
    with translated():
        run = getattr(_peers(one), function)(model.model, one.wrap(images), one.wrap(labels))
    kept = images, labels
    return lambda: (run(), kept)


def has_metalhead() -> bool:
    """Whether the Julia project holds Metalhead.jl."""
    with translated():
        return bool(_peers(running_backend()).has_metalhead())


def allocated() -> int:
    """Bytes that Julia has allocated since it was started."""
    with translated():
        return int(running_backend().main.Base.gc_bytes())


@functools.cache
def _peers(one: JuliaBackend) -> Any:
    return one.main.include(f"{one.main.pkgdir(one.julia)}/bench/peers.jl")


def blas() -> dict[str, str]:
    """What multiplies Julia's matrices: library, core whose kernels it chose, threads."""
    one = running_backend()
    with translated():
        found = one.julia.blas_report()
        names = [str(name) for name in one.main.propertynames(found)]
        return {name: str(getattr(found, name)) for name in names}


def sysimage() -> str | None:
    """The system image that Julia was started with; None if it is Julia's own."""
    import juliacall

    running_backend()
    return juliacall.CONFIG["opt_sysimage"]


def running_backend() -> JuliaBackend:
    """The backend, with its Julia started."""
    from pymobilenet.backends import backend

    one = backend("julia")
    assert isinstance(one, JuliaBackend)
    return one


def backend_with_jld2() -> JuliaBackend:
    """The backend, with the package loaded that MobileNets.jl needs for ``.jld2`` files."""
    import juliacall

    one = running_backend()
    try:
        one.main.seval("import JLD2")
    except juliacall.JuliaError as error:
        raise BackendUnavailable(
            f"JLD2.jl could not be loaded: {error}. Add it to the project "
            f"{juliacall.CONFIG['project']}: `juliapkg.add` in Python, or `Pkg.add` in Julia"
        ) from error
    return one
