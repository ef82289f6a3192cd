"""NumPy's .npz files: read by `numpy.load(allow_pickle=False)`, written canonically.

`numpy.load` lacks a bound on memory: it allocates the shape that a member's header claims before it
reads the values, and unpacks as many bytes as the zip declares. Both are checked before, by
`numpy.lib.format` and `pymobilenet.formats.zip_checks`. `numpy.savez` dates its members and writes
them in the order of the arguments; here equal content means equal bytes: names sorted by their
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
from pymobilenet.formats import zip_checks
from pymobilenet.strict_json import check_texts, parse_object

METADATA = "__metadata__"

MOST_GROWTH = 20
"""The largest ratio of unpacked bytes to the size of a file: deflate removes a tenth of trained
weights and 99.9% of the zeros of new moments, for which `SMALL` allows some more."""

SMALL = 2**26
"""Bytes to which a file of any size may unpack."""

_DTYPES = {
    np.dtype(code): code
    for code in ("b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
}

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of an npz file.

    Args:
        path: The file.

    Returns:
        Name -> array in C order with native byte order, and the metadata (empty if the file has
        none).

    Raises:
        WeightsError: The file is missing, is not a zip of .npy members of numbers, or claims more
            than it holds. The message names the file and the rule.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    size = path.stat().st_size
    try:
        tensors = _arrays(path, size)
        text = tensors.pop(METADATA, np.empty(0, np.uint8))
        if text.dtype != np.uint8 or text.ndim != 1:
            raise ValueError(
                f"{METADATA} must be bytes: uint8 of one axis. Received: {text.ndim} of "
                f"{text.dtype}"
            )
        values = parse_object(text.tobytes()) if text.size else {}
        return tensors, check_texts(values, METADATA)
    except Exception as error:  # a malformed zip can raise nearly anything
        raise WeightsError(f"{path} ({size} bytes) is not an npz file: {error!s:.400}") from None


def write(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write named arrays and metadata, atomically; equal content gives equal bytes.

    Args:
        path: The file to write.
        tensors: Name -> array of booleans, integers or floats.
        metadata: Text by name.

    Raises:
        WeightsError: A dtype is not supported, or a name is not possible in a zip or is
            ``__metadata__``.
    """
    if METADATA in tensors:
        raise WeightsError(f"a tensor must not be named {METADATA}, which names the metadata")
    for name in tensors:
        try:
            _check_name(name)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}") from None
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    for name, tensor in arrays.items():
        known = [dtype.name for dtype in _DTYPES]
        if tensor.dtype.name not in known:
            raise WeightsError(
                f"{name}: only {', '.join(known)} can be written. Received: {tensor.dtype}"
            )
    if metadata:
        text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"))
        arrays[METADATA] = np.frombuffer(text.encode(), np.uint8)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name in sorted(arrays, key=str.encode):
            little_endian = arrays[name].dtype.newbyteorder("<")
            tensor = np.ascontiguousarray(arrays[name], little_endian).reshape(arrays[name].shape)
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980-01-01
            member.create_system = 3  # Unix, on every system
            member.file_size = len(header := _header(tensor)) + tensor.nbytes
            with archive.open(member, "w") as stream:
                stream.write(header)
                stream.write(tensor.data)


def _header(tensor: np.ndarray) -> bytes:
    """Return an .npy 1.0 header, padded so that the values begin at a multiple of 64 bytes."""
    text = f"{{'descr': '{tensor.dtype.str}', 'fortran_order': False, 'shape': {tensor.shape}, }}"
    length = -(10 + len(text) + 1) % 64 + len(text) + 1
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + text.ljust(length - 1).encode() + b"\n"
    )


def _arrays(path: Path, size: int) -> dict[str, np.ndarray]:
    """Return the arrays of all members, each after its header has been checked.

    Raises:
        ValueError: The rule that the file breaks.
        zipfile.BadZipFile: It is not a zip.
    """
    most = max(SMALL, MOST_GROWTH * size)
    methods = (zip_checks.STORED, zip_checks.DEFLATED)
    tensors = {}
    with zipfile.ZipFile(path) as archive:
        for record in zip_checks.records(archive, size, most, methods):
            name = record.filename
            _check_name(name)
            if not name.isascii() and not record.flag_bits & 0x800:
                raise ValueError(f"names must be UTF-8. Received: {name!r:.200}")
            if not name.endswith(".npy"):
                raise ValueError(f"members must be .npy. Received: {name!r:.200}")
            with archive.open(record) as stream:
                _check_array(stream, record.file_size, name)
                stream.seek(0)
                array = np.load(stream, allow_pickle=False)
                native = array.dtype.newbyteorder("=")
                tensors[name.removesuffix(".npy")] = np.array(array, native, order="C")
    return tensors


def _check_array(stream: IO[bytes], size: int, name: str) -> None:
    """Check that the header of an .npy file of `size` bytes describes what follows it."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name:.200} must be .npy 1.0 or 2.0. Received: {version}")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.newbyteorder("=") not in _DTYPES or dtype.names or dtype.subdtype:
        names = ", ".join(_DTYPES.values())
        raise ValueError(f"{name:.200}: dtype must be one of {names}. Received: {dtype!s:.80}")
    claimed, stored = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != stored or min(shape, default=0) < 0:
        raise ValueError(
            f"{name:.200} of shape {shape!s:.80} and {dtype} must have {claimed} bytes. "
            f"Received: {stored}"
        )


def _check_name(name: str) -> None:
    """Raise an error for a name that would be a path out of a folder."""
    if name.startswith("/") or {"\\", "\0"} & set(name) or ".." in name.split("/"):
        raise ValueError(
            f"names must be relative, without backslash and NUL. Received: {name!r:.200}"
        )
