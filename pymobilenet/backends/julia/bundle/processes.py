"""The processes that make and try a bundle: Julia's scripts, and Python with the backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from pymobilenet.backends.julia.bundle.info import julia_package
from pymobilenet.backends.julia.bundle.installed import BUNDLE_VARIABLE, InstalledBundle
from pymobilenet.errors import BackendUnavailable

START_CODE = "from pymobilenet import backend; backend('julia')"

LAST_LINES = 10
"""Lines of the output of a process that failed which the error quotes."""

CHOICES = (
    *("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT", "PYTHON_JULIACALL_SYSIMAGE"),
    *("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH", "JULIA_PROJECT", BUNDLE_VARIABLE),
)
"""Environment variables that choose another Julia or other packages."""


def without_choices() -> dict[str, str]:
    """Return the environment without what chooses Julia or packages."""
    return {name: value for name, value in os.environ.items() if name not in CHOICES}


def run_julia(
    julia: InstalledBundle | tuple[str, str],
    script: str,
    *arguments: str,
    environment: Mapping[str, str],
    failure: str,
) -> str:
    """Run a script of ``julia/bundle``; what it writes to the standard error is shown.

    Args:
        julia: A bundle, or executable and project.
        script: The name of the script.
        arguments: Of the script.
        environment: Of the process.
        failure: What it means if the script fails.

    Returns:
        Its standard output.

    Raises:
        BackendUnavailable: Julia does not run, or the script fails.
    """
    if isinstance(julia, InstalledBundle):
        julia = julia.executable, julia.project
    executable, project = julia
    path = julia_package() / "bundle" / script
    command = [executable, "--startup-file=no", f"--project={project}", str(path), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
    except OSError as error:
        raise BackendUnavailable(f"{failure}: {executable} does not run ({error})") from None
    if done.returncode:
        raise BackendUnavailable(
            f"{failure}. The output of Julia is above. Exit status: {done.returncode}"
        )
    return done.stdout.decode(errors="replace").strip()


def relocate(bundle: InstalledBundle, folders: Mapping[str, str]) -> None:
    """Tell the compiled packages of a bundle where their sources are.

    Args:
        bundle: The bundle.
        folders: Where sources were when they were compiled -> where they are or will be.

    Raises:
        BackendUnavailable: Julia does not run.
    """
    run_julia(
        bundle,
        "relocate.jl",
        str(bundle.folder),
        *(path for pair in folders.items() for path in pair),
        environment={**without_choices(), **bundle.environment()},
        failure="Julia of the bundle does not work on this machine",
    )


def start_backend(environment: Mapping[str, str], hint: str = "") -> None:
    """Start the Julia backend in a fresh Python.

    Args:
        environment: Of the process; it chooses Julia.
        hint: What may help if it does not start.

    Raises:
        BackendUnavailable: It does not start; with the end of its output.
    """
    done = subprocess.run(
        [sys.executable, "-c", START_CODE],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        raise BackendUnavailable(
            f"Julia does not start from the bundle (status {done.returncode}){hint}. Its output "
            "ends with:\n" + "\n".join(lines)
        )


def uncompiled(bundle: InstalledBundle, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Find the packages of a bundle that Julia would compile again on this machine.

    Args:
        bundle: The bundle.
        environment: Of the process.

    Returns:
        The name of this processor, and the names of the packages.

    Raises:
        BackendUnavailable: Julia does not run.
    """
    output = run_julia(
        bundle, "check.jl", environment=environment, failure="Julia of the bundle does not work"
    )
    processor, *packages = output.split()
    return processor, packages


def check_processor(bundle: InstalledBundle) -> None:
    """Check that the compiled code of a bundle can be used on this processor.

    Args:
        bundle: The bundle.

    Raises:
        BackendUnavailable: It cannot, and Julia would compile for minutes.
    """
    processor, packages = uncompiled(bundle, {**without_choices(), **bundle.environment()})
    if packages:
        made_for = bundle.info().processor
        raise BackendUnavailable(
            f"the compiled code in {bundle.folder} is for {made_for}, and cannot be used on this "
            f"processor, {processor} (packages: {', '.join(packages)}). Make the bundle again with "
            "JULIA_CPU_TARGET for several processors, such as "
            "JULIA_CPU_TARGET='generic;haswell,clone_all;skylake-avx512,clone_all'"
        )
