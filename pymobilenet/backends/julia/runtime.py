"""Queries to the running Julia, and the benchmark peers that run in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia import JuliaBackend
from pymobilenet.backends.julia.interop import translate_julia_errors
from pymobilenet.backends.julia.model import JuliaModel


def bench_peers(
    function: str, model: Model, images: np.ndarray, labels: np.ndarray
) -> Callable[[], Any]:
    """Prepare a benchmark of ``julia/bench/peers.jl``.

    Args:
        function: The name of a function in that file.
        model: A `JuliaModel`.
        images: (N, C, H, W), of the model's dtype.
        labels: (N,), int64.

    Returns:
        A function without arguments that runs the benchmarked code once.

    Raises:
        JuliaError: The Julia function throws.
    """
    julia_backend = running_backend()
    assert isinstance(model, JuliaModel)
    with translate_julia_errors():
        prepare = getattr(_peers_module(julia_backend), function)
        run = prepare(model.model, julia_backend.wrap(images), julia_backend.wrap(labels))
    keep_alive = images, labels
    return lambda: (run(), keep_alive)


def has_metalhead() -> bool:
    """Return whether the Julia project contains Metalhead.jl."""
    with translate_julia_errors():
        return bool(_peers_module(running_backend()).has_metalhead())


def allocated() -> int:
    """Return the number of bytes that Julia has allocated since its start."""
    with translate_julia_errors():
        return int(running_backend().main.Base.gc_bytes())


@functools.cache
def _peers_module(julia_backend: JuliaBackend) -> Any:
    main = julia_backend.main
    return main.include(f"{main.pkgdir(julia_backend.julia)}/bench/peers.jl")


def blas() -> dict[str, str]:
    """Return Julia's BLAS library, the processor its kernels are for, and its threads.

    Returns:
        The fields of ``MobileNets.blas_report()``, as text: ``library``, ``core``, ``threads``.
    """
    julia_backend = running_backend()
    with translate_julia_errors():
        report = julia_backend.julia.blas_report()
        names = [str(name) for name in julia_backend.main.propertynames(report)]
        return {name: str(getattr(report, name)) for name in names}


def sysimage() -> str | None:
    """Return the path of the custom system image in use, or None for Julia's default image."""
    running_backend()
    import juliacall  # after the start, which sets its options

    return juliacall.CONFIG["opt_sysimage"]


def running_backend() -> JuliaBackend:
    """Return the Julia backend, and start Julia if it is not running.

    Raises:
        BackendUnavailable: Julia or its packages are not installed or do not load.
    """
    from pymobilenet.backends import backend

    julia_backend = backend("julia")
    assert isinstance(julia_backend, JuliaBackend)
    return julia_backend


def backend_with(*packages: str) -> JuliaBackend:
    """Return the Julia backend with packages loaded that are loaded only where they are needed.

    Args:
        *packages: ``Flux``, which models of Flux and Lux require, or ``JLD2``, which ``.jld2``
            files require.

    Raises:
        BackendUnavailable: Julia is not available, or a package is not in its project.
    """
    julia_backend = running_backend()
    for package in packages:
        julia_backend.load_package(package)
    return julia_backend
