"""A bundle that is unpacked in a folder, and the environment variable that chooses it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from pymobilenet.backends.julia.bundle.info import BundleInfo
from pymobilenet.files import read_text_file
from pymobilenet.strict_json import excerpt, parse_object

BUNDLE_VARIABLE = "PYMOBILENET_JULIA_BUNDLE"
"""The environment variable with the folder of the bundle that the Julia backend uses."""

RECORD = "installed.json"
"""The file of the folder that says what the bundle is and where it was unpacked."""

SET_PROGRAM = 'push!(Core.ARGS, joinpath(dirname(Base.active_project()), "start.jl"))'
"""Julia code for a start from a bundle, before PythonCall is loaded. PythonCall runs a file of the
folder in which it was compiled, as the last argument of Julia; the first one is the program."""

FIRST_WITH_RELATIVE_PATHS = (1, 11)
"""The first Julia whose compiled packages can be moved."""


@dataclasses.dataclass(frozen=True)
class InstalledBundle:
    """A bundle in a folder.

    Attributes:
        folder: The folder, an absolute path.
    """

    folder: Path

    @property
    def executable(self) -> str:
        """The path of Julia."""
        return str(self.folder / "julia" / "bin" / "julia")

    @property
    def project(self) -> str:
        """The path of the Julia project."""
        return str(self.folder / "project")

    def info(self) -> BundleInfo:
        """Return what the bundle was made from and for.

        Raises:
            OSError: The folder cannot be read.
            ValueError: It is not a folder of a bundle.
        """
        return self._record()[1]

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which juliacall starts Julia."""
        depots = (self.folder / "depot", self.folder / "julia" / "share" / "julia")
        return {
            "PYTHON_JULIACALL_EXE": self.executable,
            "PYTHON_JULIACALL_PROJECT": self.project,
            "JULIA_DEPOT_PATH": os.pathsep.join(map(str, depots)),
        }

    def problem(self) -> str | None:
        """Return why the bundle cannot be used, in one clause, or None."""
        try:
            location, info = self._record()
            version = tuple(map(int, info.julia.split(".")[:2]))
        except (OSError, ValueError) as error:
            return f"{self.folder} is not a folder of `pymobilenet bundle --use` ({error})"
        if reason := info.problem():
            return f"{self.folder}: {reason}"
        if version < FIRST_WITH_RELATIVE_PATHS and not _is_same(location, self.folder):
            return (
                f"{self.folder} was unpacked as {location}, and compiled packages of Julia "
                f"{info.julia} cannot be moved. Unpack the bundle in its place with `pymobilenet "
                "bundle --use`"
            )
        return None

    def _record(self) -> tuple[Path, BundleInfo]:
        record = parse_object(read_text_file(self.folder / RECORD))
        folder = record.get("folder")
        if not isinstance(folder, str):
            raise ValueError(f"{RECORD} must name the folder. Received: {excerpt(folder)}")
        return Path(folder), BundleInfo.from_dict(record.get("info"))


def write_record(folder: Path, info: BundleInfo, location: Path) -> None:
    """Write what `InstalledBundle.problem` reads.

    Args:
        folder: Where the bundle is while it is unpacked.
        info: Of the bundle.
        location: Where it will be.
    """
    record = {"folder": str(location), "info": dataclasses.asdict(info)}
    (folder / RECORD).write_text(json.dumps(record, sort_keys=True, indent=1))


def chosen_bundle() -> InstalledBundle | None:
    """Return the bundle of the environment, or None.

    ``PYTHON_JULIACALL_EXE`` with ``PYTHON_JULIACALL_PROJECT`` is another choice, which comes first.
    """
    folder = os.environ.get(BUNDLE_VARIABLE)
    if not folder or "PYTHON_JULIACALL_EXE" in os.environ:
        return None
    return InstalledBundle(Path(folder).absolute())


def chosen_julia() -> tuple[str, str] | None:
    """Return executable and project that the environment chooses, or None."""
    if "PYTHON_JULIACALL_EXE" in os.environ:
        return os.environ["PYTHON_JULIACALL_EXE"], os.environ.get("PYTHON_JULIACALL_PROJECT", "")
    bundle = chosen_bundle()
    return None if bundle is None else (bundle.executable, bundle.project)


def _is_same(location: Path, folder: Path) -> bool:
    try:
        return location.samefile(folder)
    except OSError:
        return False
