"""NumPy's .npz: a zip of .npy members, read without trust and written canonically.

Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html and
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT. What a zip declares and what the header
of a member claims are held against each other and against the file before anything is allocated;
no pickle is read. Written files are the same bytes for the same content: names sorted by their
bytes, stored without compression, dated 1980-01-01.

Metadata is the member ``__metadata__``: the UTF-8 bytes, as uint8, of a JSON object of strings with
sorted keys.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write

METADATA = "__metadata__"

MOST_GROWTH = 20
"""Times its own size that a file may unpack to: deflate gains a tenth on trained weights, and a
thousandfold on the zeros of fresh moments, a few of which are let pass by `SMALL`."""

SMALL = 2**26
"""Bytes any file may unpack to."""

_DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Named arrays, native and in C order, and the metadata of a file (none: empty).

    Raises:
        WeightsError: Not a whole zip of .npy members, or one that claims what it does not hold; the
            message names the member and the rule.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive.infolist(), path)
            tensors = {
                member.filename.removesuffix(".npy"): _member(archive, member, path)
                for member in archive.infolist()
            }
    except WeightsError:
        raise
    except Exception as error:  # a malformed zip can raise nearly anything
        size, kind = path.stat().st_size, type(error).__name__
        raise WeightsError(f"{path} ({size} bytes) is no whole npz file: {kind} {error}") from None
    return tensors, _metadata(tensors.pop(METADATA, None), path)


def write(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write named arrays and metadata, atomically; equal content is equal bytes.

    Raises:
        WeightsError: A dtype that is no number's, a name no member can have, or ``__metadata__``.
    """
    if METADATA in tensors:
        raise WeightsError(f"{METADATA} is the metadata's own name, and cannot be a tensor's")
    for name in tensors:
        _check_name(name, str(path))
    members = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    for name, tensor in members.items():
        if tensor.dtype.name not in _DTYPES:
            raise WeightsError(
                f"{name}: only {', '.join(_DTYPES)} can be written. Received: {tensor.dtype}"
            )
    if metadata:
        text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"))
        members[METADATA] = np.frombuffer(text.encode(), np.uint8)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name in sorted(members, key=str.encode):
            little_endian = members[name].dtype.newbyteorder("<")
            tensor = np.ascontiguousarray(members[name], little_endian).reshape(members[name].shape)
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980-01-01
            member.create_system = 3  # Unix, on every system
            member.file_size = len(header := _header(tensor)) + tensor.nbytes
            with archive.open(member, "w") as stream:
                stream.write(header)
                stream.write(tensor.data)


def _header(tensor: np.ndarray) -> bytes:
    """Magic, version 1.0 and the description, so long that the values begin at a multiple of 64."""
    text = f"{{'descr': '{tensor.dtype.str}', 'fortran_order': False, 'shape': {tensor.shape}, }}"
    length = -(10 + len(text) + 1) % 64 + len(text) + 1
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + text.ljust(length - 1).encode() + b"\n"
    )


def _check(members: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse names and sizes before anything is unpacked."""
    seen: set[str] = set()
    for member in members:
        name = member.orig_filename
        _check_name(name, str(path))
        if not name.endswith(".npy"):
            raise WeightsError(f"{path}: members must be .npy. Received: {name!r}")
        if name in seen:
            raise WeightsError(f"{path}: {name!r} is in it twice")
        if member.flag_bits & 0x1 or member.compress_type not in _METHODS:
            raise WeightsError(f"{path}: {name!r} must be stored or deflated, and not encrypted")
        seen.add(name)
    size = path.stat().st_size
    packed = sum(member.compress_size for member in members)
    if packed > size:
        raise WeightsError(f"{path}: its members overlap: {packed} bytes of them in {size}")
    unpacked, most = sum(member.file_size for member in members), max(SMALL, MOST_GROWTH * size)
    if unpacked > most:
        raise WeightsError(
            f"{path}: {size} bytes may unpack to {most} at most. Received: {unpacked}"
        )


def _check_name(name: str, source: str) -> None:
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise WeightsError(
            f"{source}: names must be relative, without backslash and NUL. Received: {name!r}"
        )


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One array, read after its header has been held against the size the zip declares."""
    name = f"{path}: {member.filename}"
    with archive.open(member) as stream:
        shape, fortran_order, dtype = _read_header(stream, name)
        claimed = stream.tell() + math.prod(shape) * dtype.itemsize
        if claimed != member.file_size:
            raise WeightsError(
                f"{name}: shape {shape} of {dtype} makes {claimed} bytes with the header; the zip "
                f"declares {member.file_size}"
            )
        content = stream.read()
    values = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
    return np.array(values, dtype.newbyteorder("="), order="C")


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype."""
    try:
        read_header = _HEADERS[np.lib.format.read_magic(stream)]
        shape, fortran_order, dtype = read_header(stream)
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # a header is a Python literal, and a malformed one can raise much
        kind = type(error).__name__
        raise WeightsError(f"{name}: must begin as .npy 1.0 or 2.0 does: {kind} {error}") from None
    if dtype.name not in _DTYPES:
        raise WeightsError(f"{name}: dtype must be one of {', '.join(_DTYPES)}. Received: {dtype}")
    if any(size < 0 for size in shape):
        raise WeightsError(f"{name}: sizes must not be negative. Received: {shape}")
    return shape, fortran_order, dtype


def _metadata(member: np.ndarray | None, path: Path) -> dict[str, str]:
    if member is None:
        return {}
    if member.dtype != np.uint8 or member.ndim != 1:
        raise WeightsError(
            f"{path}: {METADATA} must be bytes: uint8 of one axis. Received: {member.dtype} "
            f"{member.shape}"
        )
    try:
        found = json.loads(member.tobytes().decode())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: {METADATA} must be JSON: {error}") from None
    if type(found) is not dict or not all(type(text) is str for text in found.values()):
        raise WeightsError(
            f"{path}: {METADATA} must be an object of strings. Received: {found!r:.80}"
        )
    return found
