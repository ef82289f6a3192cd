"""The list of all files of a bundle, with the SHA-256 of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from pymobilenet.backends.julia.bundle.info import BundleInfo
from pymobilenet.strict_json import excerpt, parse_object

FORMAT_VERSION = 1

MAX_FILES = 500_000
"""Limit for the files of a bundle. Julia and the packages of this project have about 10,000."""

MAX_BYTES = 64 << 30
"""Limit for the sum of their sizes. The libraries of CUDA take 10 GB."""

TOP_FOLDERS = ("julia", "depot", "project", "licences")
"""Julia itself; packages, artifacts and compiled code; the project; lists of licences."""


@dataclasses.dataclass(frozen=True)
class BundleFile:
    """A regular file.

    Attributes:
        path: In the bundle, separated by "/".
        size: Bytes.
        sha256: Of its content, hexadecimal.
        executable: Whether it may be run.
    """

    path: str
    size: int
    sha256: str
    executable: bool


@dataclasses.dataclass(frozen=True)
class BundleLink:
    """A symbolic link.

    Attributes:
        path: In the bundle, separated by "/".
        target: Relative to the folder of `path`; inside the bundle.
    """

    path: str
    target: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    Attributes:
        info: What it was made from and for.
        files: In the order of the archive.
        links: Symbolic links, which are not in the archive itself.
    """

    info: BundleInfo
    files: tuple[BundleFile, ...]
    links: tuple[BundleLink, ...]

    @property
    def size(self) -> int:
        """The sum of the sizes of the files, in bytes."""
        return sum(file.size for file in self.files)

    def to_json(self) -> bytes:
        """Return the manifest as JSON, always the same bytes."""
        values = {"format_version": FORMAT_VERSION} | dataclasses.asdict(self)
        return json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Parse what `to_json` has returned.

        Args:
            content: UTF-8.

        Returns:
            The manifest, whose files and links may be created.

        Raises:
            ValueError: Not such a manifest, or files that may not be created: a path or the target
                of a link outside of the bundle, a path twice or through a link, too many bytes.
        """
        values = parse_object(content)
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ValueError(
                f"format_version must be {FORMAT_VERSION}. Received: {excerpt(version)}"
            )
        if values.keys() != {"info", "files", "links"}:
            raise ValueError(f"must have info, files and links. Received: {excerpt(list(values))}")
        manifest = cls(
            BundleInfo.from_dict(values["info"]),
            tuple(_file(value) for value in _list(values["files"], "files")),
            tuple(_link(value) for value in _list(values["links"], "links")),
        )
        if manifest.size > MAX_BYTES:
            raise ValueError(f"must hold at most {MAX_BYTES} bytes. Received: {manifest.size}")
        _check_tree(manifest)
        return manifest


def digest_line(manifest: bytes, name: str) -> bytes:
    """Return a line in the format of ``sha256sum``.

    Args:
        manifest: The bytes of the manifest.
        name: Its name.
    """
    return f"{hashlib.sha256(manifest).hexdigest()}  {name}\n".encode()


def _list(values: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"{name} must be a list of objects. Received: {excerpt(values)}")
    if len(values) > MAX_FILES:
        raise ValueError(f"{name} must be at most {MAX_FILES}. Received: {len(values)}")
    return values


def _file(values: dict[str, Any]) -> BundleFile:
    types = {name: type(value) for name, value in values.items()}
    if types != {"path": str, "size": int, "sha256": str, "executable": bool}:
        raise ValueError(
            f"a file must have path, size, sha256 and executable. Received: {excerpt(values)}"
        )
    file = BundleFile(**values)
    _check_path(file.path)
    if file.size < 0 or re.fullmatch(r"[0-9a-f]{64}", file.sha256) is None:
        raise ValueError(f"size or sha256 is invalid. Received: {excerpt(values)}")
    return file


def _link(values: dict[str, Any]) -> BundleLink:
    types = {name: type(value) for name, value in values.items()}
    if types != {"path": str, "target": str}:
        raise ValueError(f"a link must have path and target. Received: {excerpt(values)}")
    link = BundleLink(**values)
    _check_path(link.path)
    return link


def _check_path(path: str) -> None:
    parts = path.split("/")
    has_controls = any(char < " " or char == "\x7f" for char in path)
    is_outside = parts[0] not in TOP_FOLDERS or any(part in ("", ".", "..") for part in parts)
    if has_controls or is_outside or len(parts) < 2 or len(path.encode()) > 1024:
        raise ValueError(
            f"a path must be in one of the folders {', '.join(TOP_FOLDERS)}, without . and .. and "
            f"control characters. Received: {excerpt(path)}"
        )


def _check_tree(manifest: Manifest) -> None:
    """Check that every path can be created, and that every link stays inside."""
    links = {link.path for link in manifest.links}
    paths = [file.path for file in manifest.files] + [link.path for link in manifest.links]
    present = set(paths)
    if len(present) < len(paths):
        twice, _ = Counter(paths).most_common(1)[0]
        raise ValueError(f"a path must appear once. Received twice: {excerpt(twice)}")
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    if clash := folders & present:
        raise ValueError(
            f"a file or link must not be a folder too. Received: {excerpt(min(clash))}"
        )
    for link in manifest.links:
        target = posixpath.join(posixpath.dirname(link.path), link.target)
        way = {posixpath.normpath(str(folder)) for folder in PurePosixPath(target).parents}
        is_present = posixpath.normpath(target) in present | folders - {"."}
        if link.target.startswith("/") or way & links or not is_present:
            raise ValueError(
                f"a link must point to a file or folder of the bundle. Received: "
                f"{excerpt(link.path)} -> {excerpt(link.target)}"
            )
