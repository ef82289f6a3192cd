"""Unpack a bundle where it will be used, and start Julia from it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pymobilenet.backends.julia.bundle.archive import open_archive
from pymobilenet.backends.julia.bundle.info import BundleInfo
from pymobilenet.backends.julia.bundle.installed import (
    BUNDLE_VARIABLE,
    InstalledBundle,
    write_record,
)
from pymobilenet.backends.julia.bundle.processes import (
    check_processor,
    relocate,
    start_backend,
    without_choices,
)
from pymobilenet.errors import BackendUnavailable, ConfigError

Progress = Callable[[str, int], Callable[[], object]]


def use_bundle(
    path: Path, folder: Path, progress: Progress, sha256: str | None = None
) -> InstalledBundle:
    """Unpack a bundle into a folder and start Julia from it, without network.

    The folder appears when all is there and was checked. It is removed again if Julia does not
    start.

    Args:
        path: A file of `make.make_bundle`.
        folder: A new or empty folder; it can be made read-only afterwards, and not be moved.
        progress: Called with a title and a number of steps; returns what is called after each.
        sha256: The SHA-256 of the manifest, as printed where the bundle was made; None for any.

    Returns:
        The bundle, which the environment variable `BUNDLE_VARIABLE` chooses by its folder.

    Raises:
        ConfigError: `path` is not a file, or `folder` is not a folder that can be used.
        BackendUnavailable: The bundle is not for this machine or this pymobilenet, was changed, or
            Julia does not start from it.
        OSError: The folder cannot be written.
    """
    if sys.platform == "win32":
        raise BackendUnavailable("bundles are made and used on Linux and macOS")
    location = Path(os.path.realpath(folder))
    _check_location(location, folder)
    temporary = None
    try:
        with open_archive(path) as archive:
            if sha256 is not None and archive.digest != sha256.lower():
                raise BackendUnavailable(
                    f"{path} is another bundle: the SHA-256 of its manifest is {archive.digest}, "
                    f"not {sha256}. Nothing was unpacked"
                )
            info = archive.manifest.info
            if reason := info.problem():
                raise BackendUnavailable(f"{path}: {reason}")
            temporary = Path(tempfile.mkdtemp(prefix=".pymobilenet-bundle-", dir=location.parent))
            unpacked = temporary / "bundle"
            unpacked.mkdir()
            size = archive.manifest.size >> 20
            advance = progress(f"unpacking {size} MB", len(archive.manifest.files))
            archive.unpack(unpacked, advance)
        relocate(InstalledBundle(unpacked), {info.folder: str(location)})
        write_record(unpacked, info, location)
        os.sync()
        unpacked.rename(location)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    bundle = InstalledBundle(location)
    try:
        advance = progress("starting Julia", 1)
        try_bundle(bundle, info)
        advance()
    except BaseException:
        shutil.rmtree(location, ignore_errors=True)
        raise
    return bundle


def try_bundle(bundle: InstalledBundle, info: BundleInfo) -> None:
    """Start the Julia backend from a bundle in a process of its own.

    Args:
        bundle: The bundle.
        info: Of the bundle.

    Raises:
        BackendUnavailable: It does not start, or would compile packages first.
    """
    environment = {**without_choices(), BUNDLE_VARIABLE: str(bundle.folder)}
    check_processor(bundle)
    hint = f". It needs these libraries of the machine: {info.libraries}" if info.libraries else ""
    start_backend(environment, hint)


def _check_location(location: Path, folder: Path) -> None:
    if location.exists() and not (location.is_dir() and not any(location.iterdir())):
        raise ConfigError(f"the folder must be new or empty. Received: {folder}")
    if not location.parent.is_dir():
        raise ConfigError(f"the folder must be in an existing folder. Received: {folder}")
    name = str(location)
    if os.pathsep in name or not name.isprintable():
        raise ConfigError(
            f"the path of the folder must have no {os.pathsep}, which separates the folders of "
            f"JULIA_DEPOT_PATH, and no control characters. Received: {name!r}"
        )
