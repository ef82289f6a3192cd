"""What a bundle was made from and for, and whether it can be used here."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pymobilenet.strict_json import check_texts

PACKAGES_FOLDER = Path(__file__).parents[4]
"""The folder that holds pymobilenet and MobileNets.jl (``julia`` in a checkout,
``pymobilenet_julia`` in a wheel)."""

CODE = ("Project.toml", "src/**/*.jl", "ext/**/*.jl", "bench/**/*.jl")
"""The files of MobileNets.jl that are used when Julia runs."""


@dataclasses.dataclass(frozen=True)
class BundleInfo:
    """What a bundle was made from and for.

    Attributes:
        pymobilenet: Version.
        code: SHA-256 of MobileNets.jl, see `code_digest`.
        juliacall: Version; PythonCall.jl has the same.
        julia: Version.
        system: ``sys.platform``.
        machine: Architecture, such as ``x86_64``.
        glibc: The oldest version of the C library with which its programs run; "" for any.
        processor: What its code was compiled for, such as ``znver3``.
        folder: Where its packages were compiled.
        libraries: Names of the libraries that it loads and does not hold, separated by blanks.
    """

    pymobilenet: str
    code: str
    juliacall: str
    julia: str
    system: str
    machine: str
    glibc: str
    processor: str
    folder: str
    libraries: str

    @classmethod
    def from_dict(cls, values: Any) -> BundleInfo:
        """Parse what `dataclasses.asdict` has returned.

        Args:
            values: An object of JSON.

        Returns:
            The same values.

        Raises:
            ValueError: A field is missing, unknown, or no text.
        """
        texts = check_texts(values, "info")
        names = {field.name for field in dataclasses.fields(cls)}
        if texts.keys() != names:
            odd = ", ".join(sorted(texts.keys() ^ names))
            raise ValueError(f"info must have the fields {', '.join(sorted(names))}. Odd: {odd}")
        return cls(**texts)

    def problem(self) -> str | None:
        """Return why the bundle cannot be used on this machine, in one sentence, or None."""
        if (self.system, self.machine) != (sys.platform, platform.machine()):
            return (
                f"the bundle is for {self.system} on {self.machine}, and this machine is "
                f"{sys.platform} on {platform.machine()}. Make a bundle on a machine like this one"
            )
        if self.glibc and _numbers(self.glibc) > _numbers(glibc_version()):
            return (
                f"the bundle requires glibc {self.glibc} or later, and this machine has "
                f"{glibc_version() or 'another C library'}. Make a bundle on a machine like this "
                "one, or use a newer system"
            )
        if self.code != code_digest(julia_package()):
            return (
                f"the bundle was made by pymobilenet {self.pymobilenet}, and its Julia code "
                f"differs from that of the installed {metadata.version('pymobilenet')}. Install "
                "the same version, or make the bundle again"
            )
        if self.juliacall != metadata.version("juliacall"):
            return (
                f"the bundle holds PythonCall {self.juliacall}, and the installed juliacall is "
                f"{metadata.version('juliacall')}. Install juliacall=={self.juliacall}, or make "
                "the bundle again"
            )
        return None


def julia_package() -> Path:
    """Return the folder of MobileNets.jl that belongs to this package."""
    return next(PACKAGES_FOLDER.glob("*julia/Project.toml")).parent


def code_digest(package: Path) -> str:
    """Return a SHA-256 of the names and contents of the files of MobileNets.jl.

    Args:
        package: A folder with MobileNets.jl.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in CODE for path in package.glob(pattern)}):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{content}  {path.relative_to(package).as_posix()}\n".encode())
    return digest.hexdigest()


def glibc_version() -> str:
    """Return the version of glibc here, or "" where the C library is another one."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (AttributeError, OSError, ValueError):
        return ""
    return version if name == "glibc" else ""


def processor_features() -> str:
    """Return a SHA-256 of the processor's features, or "" where the system does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(features.encode()).hexdigest()


_GLIBC_VERSION = re.compile(rb"\0GLIBC_(?:(\d+)\.(\d+)(?:\.\d+)?|ABI_DT_RELR)(?=\0)")
_WITH_DT_RELR = (2, 36)
"""The first glibc that loads files with this kind of relocations."""


def required_glibc(paths: list[Path]) -> str:
    """Return the newest version of glibc that a program or library asks for, or "".

    Args:
        paths: Files; only those of the ELF format count.
    """
    newest = (0, 0)
    for path in paths:
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
            content = file.read()
        for match in _GLIBC_VERSION.finditer(content):
            version = (int(match[1]), int(match[2])) if match[1] else _WITH_DT_RELR
            newest = max(newest, version)
    return ".".join(map(str, newest)) if any(newest) else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
