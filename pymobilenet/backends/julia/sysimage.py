"""Build a system image with the dependencies of MobileNets.jl, so that Julia starts faster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pymobilenet.backends.julia.executable import SYSIMAGE_VARIABLE
from pymobilenet.backends.julia.project import ensure_julia, julia_executable_and_project
from pymobilenet.errors import BackendUnavailable, ConfigError

PACKAGES_FOLDER = Path(__file__).parents[3]
"""The folder that holds pymobilenet and MobileNets.jl (``julia`` in a checkout,
``pymobilenet_julia`` in a wheel)."""

START_CODE = "from pymobilenet import backend; backend('julia')"


def build_sysimage(path: Path) -> None:
    """Build a system image, and precompile MobileNets.jl for it. Takes about ten minutes.

    Julia's output goes to the standard error.

    Args:
        path: The file to write, usually ``.so``, ``.dylib`` or ``.dll``.

    Raises:
        ConfigError: The folder of `path` does not exist, or `path` is a folder.
        BackendUnavailable: Julia is not available, the build failed, or Julia does not start with
            the image.
    """
    image = path.absolute()
    if path.is_dir() or not image.parent.is_dir():
        raise ConfigError(
            f"the system image must be a file in an existing folder. Received: {path}"
        )
    ensure_julia()
    executable, project = julia_executable_and_project()
    script = next(PACKAGES_FOLDER.glob("*julia/build_sysimage.jl"))
    julia = [executable, "--startup-file=no", f"--project={project}", str(script), str(image)]
    _run(
        julia,
        "the system image could not be built. Building requires a C compiler (gcc or clang on "
        "PATH) and PackageCompiler, which is downloaded from Julia's registry once",
    )
    _run(
        [sys.executable, "-c", START_CODE],
        f"{image} was built, but Julia does not start with it",
        {SYSIMAGE_VARIABLE: str(image)},
    )


def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    """Run a command with its output on the standard error; raise if its exit status is not 0."""
    process = subprocess.run(command, stdout=sys.stderr, env=os.environ | (environment or {}))
    if process.returncode:
        raise BackendUnavailable(
            f"{failure}. Its output is above. Exit status: {process.returncode}"
        )
