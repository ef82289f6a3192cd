"""The time of each kind of kernel of MobileNets.jl, from samples of Julia's profiler."""

from __future__ import annotations

import subprocess

from pymobilenet.backends.julia.bundle.info import julia_package
from pymobilenet.backends.julia.project import ensure_julia, julia_executable_and_project
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import JuliaError


def kernel_seconds(
    job: str, config: MobileNetConfig, batch_size: int, threads: int
) -> dict[str, float]:
    """Measure a job in a process of Julia alone, since the profiler's signals would end Python.

    Args:
        job: ``train``, a step of Adam, or ``predict``, a call of a frozen model. In float32.
        config: The config of the model.
        batch_size: Number of images.
        threads: Number of Julia's threads.

    Returns:
        Kind of kernel, of `pymobilenet.bench.roofline.KINDS` -> seconds of a run, each thread
        having its part of them; and ``total``, those of the whole run.

    Raises:
        BackendUnavailable: Julia or its packages are not installed.
        JuliaError: Julia fails.
    """
    ensure_julia()
    executable, project = julia_executable_and_project()
    script = julia_package() / "bench" / "kernel_seconds.jl"
    arguments = [str(script), job, config.to_json(), str(batch_size)]
    options = ["--startup-file=no", f"--project={project}", f"--threads={threads}"]
    done = subprocess.run([executable, *options, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise JuliaError(f"Julia: {done.stderr.strip()[-2000:]}")
    lines = [line.split() for line in done.stdout.splitlines()]
    return {kind: float(seconds) for kind, seconds in lines}
