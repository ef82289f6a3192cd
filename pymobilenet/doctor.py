"""The environment report: machine, libraries, threads, and the speed of matrix products."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pymobilenet.backends import BACKENDS, backend, why_unavailable
from pymobilenet.backends.julia.bundle.installed import BUNDLE_VARIABLE
from pymobilenet.backends.julia.runtime import blas, sysimage
from pymobilenet.bench.peak import gemm_peak
from pymobilenet.machine import cores, processor

ENVIRONMENT_VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS"),
    *("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE"),
    *("JULIA_NUM_THREADS", "PYTHON_JULIACALL_THREADS", "PYTHON_JULIACALL_HANDLE_SIGNALS"),
    BUNDLE_VARIABLE,
)
"""Environment variables that change what the backends compute with."""


def environment_report() -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the report on machine, environment, and each available backend.

    The speed of matrix products is measured, which takes a second or two.

    Yields:
        What is reported, its value, and a remark.
    """
    yield "processor", processor(), f"{cores()} cores for this process"
    for name in ENVIRONMENT_VARIABLES:
        if name in os.environ:
            yield name, os.environ[name], "set in the environment"
    reasons = {name: why_unavailable(name) for name in BACKENDS}
    for name, reason in reasons.items():
        if reason is not None:
            yield name, "unavailable", reason
            continue
        loaded = backend(name)
        versions = ", ".join(f"{key} {value}" for key, value in loaded.versions().items())
        threads = ", ".join(f"{count} {kind}" for kind, count in loaded.threads().items())
        yield name, versions, f"threads: {threads}" if threads else ""
    if reasons["julia"] is None:
        image = sysimage()
        yield (
            "Julia system image",
            image or "Julia's own",
            ""
            if image or BUNDLE_VARIABLE in os.environ
            else "`pymobilenet sysimage` builds one with which Flux is loaded faster",
        )
        library = blas()
        yield (
            "Julia BLAS",
            f"{library['library']}, kernels for {library['core'] or 'an unknown processor'}",
            "one BLAS thread for each Julia thread while a model computes",
        )
    peaks = gemm_peak(name for name, reason in reasons.items() if reason is None)
    if "julia" in peaks:  # a model computes on all Julia threads, each with one BLAS thread
        counts = backend("julia").threads()
        peaks["julia"] *= counts["julia"] / counts["blas"]
    best = max(peaks.values())
    for name, gflops in peaks.items():
        remark = "" if gflops > best / 1.5 else _slow_remark(name, peaks)
        yield f"float32 matrix products, {name}", f"{gflops:.0f} GFLOP/s", remark


def _slow_remark(name: str, peaks: dict[str, float]) -> str:
    fastest = max(peaks, key=lambda other: peaks[other])
    hint = (
        " Its kernels may be for another processor: try OPENBLAS_CORETYPE=SkylakeX with AVX-512, "
        "Haswell without"
        if name in ("julia", "numpy")
        else ""
    )
    return f"{fastest} is {peaks[fastest] / peaks[name]:.1f} times as fast.{hint}"
