"""Make a bundle from the Julia backend of this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pymobilenet.backends.julia.bundle.archive import SUFFIXES, is_archive_name, write_archive
from pymobilenet.backends.julia.bundle.copying import (
    copy_julia,
    copy_package,
    copy_whole,
    entries_below,
    set_times,
)
from pymobilenet.backends.julia.bundle.info import (
    BundleInfo,
    code_digest,
    julia_package,
    required_glibc,
)
from pymobilenet.backends.julia.bundle.installed import InstalledBundle, chosen_bundle
from pymobilenet.backends.julia.bundle.manifest import BundleFile, BundleLink, Manifest
from pymobilenet.backends.julia.bundle.processes import (
    relocate,
    run_julia,
    start_backend,
    uncompiled,
    without_choices,
)
from pymobilenet.backends.julia.project import (
    ensure_julia,
    julia_executable_and_project,
    print_status,
)
from pymobilenet.errors import BackendUnavailable, ConfigError

DEPOT_FOLDERS = ("artifacts", "compiled", "dev", "environments", "packages")
"""What a bundle has of a depot: no registries, logs and locks."""

HAS_SOURCES = ("julia", "package")
"""Kinds of `Part`."""

_LICENCE = re.compile(r"(?i)(un)?licen[cs]e|copying|notice|thirdparty")
_GLIBC = re.compile(r"(ld-linux|linux-vdso|lib(c|m|dl|rt|pthread|resolv|util|anl)[-.])")
"""Libraries of glibc, which every machine has of its own."""


class Part(NamedTuple):
    """A line of ``stage.jl``: something that the bundle holds."""

    kind: str
    name: str
    version: str
    source: str
    place: str


def make_bundle(path: Path) -> tuple[Manifest, str]:
    """Make a bundle: copy Julia and its packages, and pack them.

    The compiled code is that of this machine; with ``JULIA_CPU_TARGET``, everything is compiled
    again for the processors that it names. Words on what is done go to the standard error.

    Args:
        path: The file to write: ``.tar``, ``.tar.gz`` or ``.tgz``.

    Returns:
        The list of its files, and the SHA-256 of that list.

    Raises:
        ConfigError: The folder of `path` does not exist, or its name ends otherwise.
        BackendUnavailable: Julia is not available, or its packages do not compile in the bundle.
        OSError: The disk is full, or the folder of `path` is read-only.
    """
    target = path.absolute()
    if not is_archive_name(target) or target.is_dir() or not target.parent.is_dir():
        raise ConfigError(
            f"a bundle must be a file in an existing folder whose name ends with "
            f"{', '.join(SUFFIXES)}. Received: {path}"
        )
    if sys.platform == "win32":
        raise BackendUnavailable("bundles are made and used on Linux and macOS")
    ensure_julia()
    with _staging_folder(target.parent) as folder:
        parts = _copy_parts(folder)
        staged = InstalledBundle(folder)
        environment = {**without_choices(), **staged.environment()}
        environment["JULIA_PYTHONCALL_EXE"] = sys.executable
        print_status("compiling what has to be compiled again. The output of Pkg follows")
        libraries = run_julia(
            staged, "compile.jl", environment=environment, failure="the packages do not compile"
        )
        print_status("starting Julia from the copy")
        start_backend(environment)
        processor, stale = uncompiled(staged, environment)
        if stale:
            raise BackendUnavailable(f"Julia does not take what it compiled: {', '.join(stale)}")
        _remove_leftovers(folder / "depot")
        _write_licences(folder, parts)
        set_times(folder)
        info = BundleInfo(
            pymobilenet=metadata.version("pymobilenet"),
            code=code_digest(folder / _part(parts, "MobileNets").place),
            juliacall=_part(parts, "PythonCall").version,
            julia=_part(parts, "julia").version,
            system=sys.platform,
            machine=platform.machine(),
            glibc=required_glibc(
                [entry for entry in entries_below(folder) if not entry.is_symlink()]
            ),
            processor=os.environ.get("JULIA_CPU_TARGET", processor),
            folder=str(folder),
            libraries=" ".join(_foreign_libraries(libraries, folder)),
        )
        if info.libraries:
            print_status(
                "this Julia loads libraries that the bundle does not hold, and that other machines "
                f"need too: {info.libraries}. Julia from julialang.org has its own"
            )
        manifest = list_files(folder, info)
        print_status(f"packing {len(manifest.files)} files, {manifest.size >> 20} MB, into {path}")
        return manifest, write_archive(target, folder, manifest)


def list_files(folder: Path, info: BundleInfo) -> Manifest:
    """Return the manifest of the files and links in a folder.

    Args:
        folder: Searched with its folders.
        info: What they were made from.

    Raises:
        BackendUnavailable: A name or a link that a bundle cannot have.
    """
    files, links = [], []
    for entry in entries_below(folder):
        name = entry.relative_to(folder).as_posix()
        if entry.is_symlink():
            links.append(BundleLink(name, os.readlink(entry)))
            continue
        with entry.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        status = entry.stat()
        files.append(BundleFile(name, status.st_size, digest, bool(status.st_mode & 0o100)))
    manifest = Manifest(info, tuple(files), tuple(links))
    try:
        return Manifest.from_json(manifest.to_json())
    except ValueError as error:
        raise BackendUnavailable(f"Julia and its packages do not fit a bundle: {error}") from None


@contextlib.contextmanager
def _staging_folder(parent: Path) -> Iterator[Path]:
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix=".pymobilenet-bundle-", dir=parent)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_parts(folder: Path) -> list[Part]:
    """Copy Julia, the packages of the project and their artifacts; return what was copied."""
    executable, project = julia_executable_and_project()
    chosen = chosen_bundle()
    environment = {**os.environ, **(chosen.environment() if chosen else {})}
    print_status(f"listing the packages of {project} and their compiled code")
    output = run_julia(
        (executable, project),
        "stage.jl",
        str(folder),
        environment=environment,
        failure=f"the packages of {project} could not be listed",
    )
    parts = [Part(*line.split("\0")) for line in output.splitlines()]
    package = _part(parts, "MobileNets")
    if code_digest(Path(package.source)) != code_digest(julia_package()):
        raise BackendUnavailable(
            f"the project {project} holds another MobileNets.jl ({package.source}) than this "
            f"pymobilenet ({julia_package()}). Set the packages up again with `python -m juliapkg "
            "resolve --force`"
        )
    packages = sum(part.kind == "package" for part in parts)
    print_status(f"copying Julia {_part(parts, 'julia').version} and {packages} packages")
    copy = {
        "julia": copy_julia,
        "package": copy_package,
        "artifact": copy_whole,
        "compiled": copy_whole,
    }
    for part in {part.place: part for part in parts}.values():
        copy[part.kind](Path(part.source), folder / part.place)
    set_times(folder)
    moved = [part for part in parts if part.kind in HAS_SOURCES]
    moved.sort(key=lambda part: len(part.source), reverse=True)  # a folder before those around it
    relocate(InstalledBundle(folder), {part.source: str(folder / part.place) for part in moved})
    return parts


def _part(parts: list[Part], name: str) -> Part:
    for part in parts:
        if part.name == name and part.kind in HAS_SOURCES:
            return part
    raise BackendUnavailable(f"the Julia project must contain {name}, which it does not")


def _remove_leftovers(depot: Path) -> None:
    """Remove what compilation has left beside its results."""
    for entry in depot.iterdir():
        if entry.name not in DEPOT_FOLDERS:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for entry in (depot / "compiled").rglob("*.pidfile"):
        entry.unlink()


def _write_licences(folder: Path, parts: list[Part]) -> None:
    """List the packages of the bundle and the files with their licences."""
    (folder / "licences").mkdir()
    lines = [f"pymobilenet {metadata.version('pymobilenet')}: MIT"]
    for part in parts:
        found = sorted((folder / part.place).glob("*"))
        names = [f"{part.place}/{one.name}" for one in found if _LICENCE.match(one.name)]
        if part.kind in HAS_SOURCES or names:
            lines.append(f"{part.name} {part.version}: {', '.join(names) or 'no file'}")
    (folder / "licences" / "packages.txt").write_text("\n".join(lines) + "\n")


def _foreign_libraries(paths: str, folder: Path) -> list[str]:
    """The names of libraries that are neither in the bundle nor of glibc, sorted."""
    libraries = [Path(path) for path in paths.splitlines() if os.path.isabs(path)]
    outside = {path.name for path in libraries if not path.is_relative_to(folder)}
    return sorted(name for name in outside if _GLIBC.match(name) is None)
