"""Copy what a bundle holds into one folder, without links that leave it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pymobilenet.backends.julia.bundle.archive import MTIME

JULIA_PARTS = (
    *("bin/julia", "etc/julia", "lib*/libjulia*", "lib*/julia", "libexec/julia"),
    *("share/julia", "LICENSE*", "THIRDPARTY*"),
)
"""Patterns of what belongs to Julia in its folder, which may be shared, as /usr is."""

UNUSED = ("test", "docs", ".git", ".github", "benchmark", "benchmarks", "examples")
"""Folders of a package, and of Julia's standard library, that are not used when Julia runs."""


def copy_julia(source: Path, target: Path) -> None:
    """Copy Julia itself.

    Args:
        source: Its folder, which has ``bin/julia``.
        target: A new folder.
    """
    root = source.resolve()
    parts = [part for pattern in JULIA_PARTS for part in sorted(root.glob(pattern))]
    copies: dict[Path, Path] = {}
    for part in parts:
        _copy(part, target / part.relative_to(root), parts, copies)
    unused = [target / "share" / "julia" / "test"]
    unused += [path for name in UNUSED for path in target.glob(f"share/julia/stdlib/*/*/{name}")]
    for folder in unused:
        shutil.rmtree(folder, ignore_errors=True)
    _remove_dangling_links(target)


def copy_package(source: Path, target: Path) -> None:
    """Copy a package without the folders of `UNUSED`.

    Args:
        source: Its folder.
        target: A new folder.
    """
    parts = [part for part in sorted(source.resolve().iterdir()) if part.name not in UNUSED]
    for part in parts:
        _copy(part, target / part.name, parts, {})


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file or folder.

    Args:
        source: The file or folder.
        target: A new path.
    """
    root = source.resolve()
    _copy(root, target, [root], {})


def set_times(folder: Path) -> None:
    """Give all files the time that they will have when they are unpacked.

    Args:
        folder: Searched with its folders.
    """
    for path in entries_below(folder):
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)


def entries_below(folder: Path) -> Iterator[Path]:
    """Yield the files and symbolic links below a folder, sorted.

    Args:
        folder: Searched with its folders; links are not followed.

    Yields:
        Their paths.
    """
    for parent, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in sorted(files + links))


def _copy(source: Path, target: Path, parts: Sequence[Path], copies: dict[Path, Path]) -> None:
    """Copy a file or folder.

    A link to something that is copied too is a link again; what another link points to is copied
    once. A link to nothing is left out.

    Args:
        source: What is copied.
        target: A new path.
        parts: All that is copied, without links in their paths.
        copies: What links point to and where it was copied; extended.
    """
    if source.is_symlink():
        real = Path(os.path.realpath(source))
        linked = os.path.relpath(real, source.parent)
        if not any(real.is_relative_to(part) for part in parts):
            linked = os.path.relpath(copies.setdefault(real, target), target.parent)
        if real.exists() and linked != target.name:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(linked)
            return
    if source.is_dir():
        for entry in sorted(source.iterdir()):
            _copy(entry, target / entry.name, parts, copies)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if source.stat().st_mode & 0o111 else 0o644)


def _remove_dangling_links(folder: Path) -> None:
    for path in list(entries_below(folder)):
        if path.is_symlink() and not path.exists():
            path.unlink()
