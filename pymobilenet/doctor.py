"""What was found on this machine, and what the backends chose to compute with."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pymobilenet.backends import BACKENDS, backend
from pymobilenet.backends.julia import unavailable
from pymobilenet.backends.julia.runtime import blas, sysimage
from pymobilenet.bench.peak import gemm_peak
from pymobilenet.bench.report import cores, processor

VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE"),
    *("JULIA_NUM_THREADS", "PYTHON_JULIACALL_THREADS", "PYTHON_JULIACALL_HANDLE_SIGNALS"),
)
"""What the environment may decide instead."""


def findings() -> Iterator[tuple[str, str, str]]:
    """(what, finding, remark) for machine, environment, and each backend at hand; the products of
    matrices are measured, which takes a second or two."""
    yield "processor", processor(), f"{cores()} cores for this process"
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name], "set in the environment, and obeyed"
    reason = unavailable()
    for name in BACKENDS:
        if name == "julia" and reason is not None:
            yield name, "unavailable", reason
            continue
        one = backend(name)
        versions = ", ".join(f"{key} {value}" for key, value in one.versions().items())
        threads = ", ".join(f"{count} {kind}" for kind, count in one.threads().items())
        yield name, versions, f"threads: {threads}" if threads else ""
    if reason is None:
        image = sysimage()
        yield (
            "julia's system image",
            image or "its own",
            "" if image else "`pymobilenet sysimage` builds one with which it starts faster",
        )
        found = blas()
        yield (
            "julia's BLAS",
            f"{found['library']}, kernels for {found['core'] or 'an unknown processor'}",
            "one thread for each of Julia's while a model computes",
        )
    peaks = gemm_peak(name for name in BACKENDS if name != "julia" or reason is None)
    best = max(peaks.values())
    for name, gflops in peaks.items():
        slow = "" if gflops > best / 1.5 else _how_to_mend(name, peaks)
        yield f"float32 products, {name}", f"{gflops:.0f} GFLOP/s", slow


def _how_to_mend(name: str, peaks: dict[str, float]) -> str:
    better = max(peaks, key=lambda other: peaks[other])
    hint = (
        " Its kernels may be for another processor: try OPENBLAS_CORETYPE=SkylakeX with AVX-512, "
        "Haswell without"
        if name in ("julia", "numpy")
        else ""
    )
    return f"{better} does {peaks[better] / peaks[name]:.1f} times as many.{hint}"
