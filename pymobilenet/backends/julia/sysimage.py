"""A system image of what MobileNets.jl rests on: Julia then starts with Flux loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pymobilenet.backends.julia.start import ensure_julia, installed
from pymobilenet.errors import BackendUnavailable, ConfigError

VARIABLE = "PYTHON_JULIACALL_SYSIMAGE"
"""juliacall's: the image that Julia is started with."""

PACKAGES = Path(__file__).parents[3]
"""Where pymobilenet is, and MobileNets.jl beside it: `julia` in a checkout, else as in a wheel."""

FIRST_USE = "from pymobilenet import backend; backend('julia')"


def build_sysimage(path: Path) -> None:
    """Build a system image at `path`, and compile MobileNets.jl for it; takes some ten minutes.

    What Julia says goes to the standard error.

    Raises:
        ConfigError: the folder does not exist.
        BackendUnavailable: there is no Julia, or it could not build the image or start with it.
    """
    image = path.absolute()
    if path.is_dir() or not image.parent.is_dir():
        raise ConfigError(
            f"a system image must be a file in a folder that exists. Received: {path}"
        )
    ensure_julia()
    executable, project = installed()
    script = next(PACKAGES.glob("*julia/build_sysimage.jl"))
    julia = [executable, "--startup-file=no", f"--project={project}", str(script), str(image)]
    _run(
        julia,
        "no system image was built. It takes a C compiler (gcc or clang on PATH) and, once, "
        "PackageCompiler from Julia's registry",
    )
    _run(
        [sys.executable, "-c", FIRST_USE],
        f"{image} was built, but Julia does not start with it",
        {VARIABLE: str(image)},
    )


def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    """Run a command with what it prints on the standard error."""
    done = subprocess.run(command, stdout=sys.stderr, env=os.environ | (environment or {}))
    if done.returncode:
        raise BackendUnavailable(f"{failure}. What it said is above; status {done.returncode}")
