"""System images with the dependencies of MobileNets.jl, with which Flux is loaded faster.

An image in the Julia project of this Python environment is used by every start, as long as the
project has the packages that it was built with.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from pymobilenet.backends.julia.bundle.installed import chosen_julia
from pymobilenet.backends.julia.executable import SYSIMAGE_VARIABLE
from pymobilenet.backends.julia.project import (
    ensure_julia,
    julia_executable_and_project,
    print_status,
)
from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.files import atomic_write

PACKAGES_FOLDER = Path(__file__).parents[3]
"""The folder that holds pymobilenet and MobileNets.jl (``julia`` in a checkout,
``pymobilenet_julia`` in a wheel)."""

SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")

RECORD = "pymobilenet-sysimage.json"
"""The file in the project that says with which Julia and packages its image was built."""

START_CODE = "from pymobilenet import backend; backend('julia')"


def use_installed_sysimage() -> None:
    """Choose the image of the project by `SYSIMAGE_VARIABLE`, if there is one.

    Does nothing if the user has chosen an image, a Julia or a bundle. An image for other packages
    or another Julia is not used, which is said.
    """
    if SYSIMAGE_VARIABLE in os.environ or chosen_julia() is not None:
        return
    executable, project = julia_executable_and_project()
    image = _installed_image(project)
    if not image.is_file():
        return
    try:
        recorded = json.loads((image.parent / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        recorded = None
    if recorded == _identity(executable, project):
        os.environ[SYSIMAGE_VARIABLE] = str(image)
    else:
        print_status(
            f"{image} is for other packages or another Julia and is not used; `pymobilenet "
            "sysimage` builds it again"
        )


def build_sysimage(path: Path | None = None) -> Path:
    """Build a system image, and precompile MobileNets.jl for it. Takes ten to twenty minutes.

    Julia's output goes to the standard error.

    Args:
        path: The file to write, usually ``.so``, ``.dylib`` or ``.dll``. By default in the project
            of this Python environment, where `use_installed_sysimage` finds it.

    Returns:
        The file.

    Raises:
        ConfigError: The folder of `path` does not exist, or `path` is a folder.
        BackendUnavailable: Julia is not available, the build failed, or Julia does not start with
            the image.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise ConfigError(
            f"the system image must be a file in an existing folder. Received: {path}"
        )
    ensure_julia()
    executable, project = julia_executable_and_project()
    image = _installed_image(project) if path is None else path.absolute()
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
    if path is None:
        with atomic_write(image.parent / RECORD) as file:
            file.write(json.dumps(_identity(executable, project), sort_keys=True).encode())
    return image


def _installed_image(project: str) -> Path:
    return Path(project) / f"pymobilenet-sysimage{SUFFIX}"


def _identity(executable: str, project: str) -> dict[str, str]:
    """What an image depends on: the file of Julia, and the versions of all packages."""
    status = os.stat(executable)
    manifest = (Path(project) / "Manifest.toml").read_bytes()
    return {
        "julia": f"{Path(executable).resolve()} {status.st_size} {status.st_mtime_ns}",
        "manifest": hashlib.sha256(manifest).hexdigest(),
    }


def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    """Run a command with its output on the standard error; raise if its exit status is not 0."""
    process = subprocess.run(command, stdout=sys.stderr, env=os.environ | (environment or {}))
    if process.returncode:
        raise BackendUnavailable(
            f"{failure}. Its output is above. Exit status: {process.returncode}"
        )
