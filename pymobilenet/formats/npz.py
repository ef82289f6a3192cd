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

import itertools
import json
import operator
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.formats.zip_members import check_name, members, require, unpacked
from pymobilenet.strict_json import check_texts, parse_object, shown

METADATA = "__metadata__"

MOST_AXES = 64
"""NumPy's limit."""

_MAGIC = b"\x93NUMPY"
_DTYPES = {
    name: np.dtype(name)
    for name in ("b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
}
"""NumPy's name of a dtype, without the byte order."""

_HEADER = re.compile(
    r"\{(?:\s*'(?:descr|fortran_order|shape)'\s*:\s*(?:'[^']*'|True|False|\([0-9, ]*\))\s*,?){3}"
    r"\s*\}\s*",
    re.ASCII,
)
"""A header as NumPy writes it, its three fields in any order."""


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Named arrays, native and in C order, and the metadata of a file (none: empty).

    Raises:
        WeightsError: Not a whole zip of .npy members, or one that claims what it does not hold; the
            message names the member and the rule.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    content = path.read_bytes()
    try:
        return _read(content)
    except ValueError as error:
        size = len(content)
        raise WeightsError(f"{path} ({size} bytes) is no whole npz file: {error}") from None


def _read(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    tensors = {}
    for member in members(content):
        name = member.name
        require(name.endswith(".npy"), f"members must be .npy. Received: {name!r}")
        tensors[name.removesuffix(".npy")] = _array(unpacked(content, member), name)
    text = tensors.pop(METADATA, np.empty(0, np.uint8))
    rule = f"{METADATA} must be bytes: uint8 of one axis. Received: {text.ndim} of {text.dtype}"
    require(text.dtype == np.uint8 and text.ndim == 1, rule)
    found = parse_object(text.tobytes()) if text.size else {}
    return tensors, check_texts(found, METADATA)


def write(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write named arrays and metadata, atomically; equal content is equal bytes.

    Raises:
        WeightsError: A dtype that is no number's, a name no member can have, or ``__metadata__``.
    """
    if METADATA in tensors:
        raise WeightsError(f"{METADATA} is the metadata's own name, and cannot be a tensor's")
    for name in tensors:
        try:
            check_name(name)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}") from None
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    for name, tensor in arrays.items():
        known = [dtype.name for dtype in _DTYPES.values()]
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
    """Magic, version 1.0 and the description, so long that the values begin at a multiple of 64."""
    text = f"{{'descr': '{tensor.dtype.str}', 'fortran_order': False, 'shape': {tensor.shape}, }}"
    length = -(10 + len(text) + 1) % 64 + len(text) + 1
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + text.ljust(length - 1).encode() + b"\n"
    )


def _array(content: bytes, name: str) -> np.ndarray:
    """The array of an .npy file, after its header has been held against its bytes."""
    start = content[:6]
    rule = f"{name} must begin as .npy does. Received: {start.hex()}"
    require(start == _MAGIC and len(content) >= 10, rule)
    version = f"{content[6]}.{content[7]}"
    require(version in ("1.0", "2.0"), f"{name} must be .npy 1.0 or 2.0. Received: {version}")
    begin = 10 if version == "1.0" else 12
    end = begin + int.from_bytes(content[8:begin], "little")
    require(begin <= end <= len(content), "it ends early")
    dtype, fortran_order, shape = _described(content[begin:end].decode("latin-1"), name)
    described = f"{name}: shape {shown(shape)} of {dtype.str[1:]}"
    products = list(itertools.accumulate((dtype.itemsize, *shape), operator.mul))
    require(max(products) < 2**63, f"{described} has more bytes than 64 bits count")
    held = len(content) - end
    require(products[-1] == held, f"{described} needs {products[-1]} bytes, it holds {held}")
    values = np.frombuffer(content, dtype, offset=end)
    values = values.reshape(shape, order="F" if fortran_order else "C")
    return np.array(values, dtype.newbyteorder("="), order="C")


def _described(header: str, name: str) -> tuple[np.dtype, bool, tuple[int, ...]]:
    """dtype, whether in Fortran order, and shape in the header of an .npy file."""
    whole = header.isascii() and _HEADER.fullmatch(header) is not None
    received = f"Received: {header[:80]!r}"
    require(whole, f"{name} must have a header as NumPy writes it. {received}")
    order = re.search(r"'fortran_order'\s*:\s*(True|False)", header)
    sizes = re.search(r"'shape'\s*:\s*\(([0-9, ]*)\)", header)
    rule = f"{name}: fortran_order and shape must be there, once. {received}"
    if order is None or sizes is None:
        raise ValueError(rule)
    descr = re.search(r"'descr'\s*:\s*'([<>|=])([a-z][0-9])'", header)
    if descr is None or descr[2] not in _DTYPES:
        names = ", ".join(_DTYPES)
        raise ValueError(f"{name}: dtype must be one of {names}. {received}")
    parts = [part.strip() for part in sizes[1].split(",") if part]
    counts = [int(part) if part.isdigit() and len(part) < 20 else -1 for part in parts]
    fits = all(0 <= count < 2**63 for count in counts)
    require(fits, f"{name}: shape must be whole numbers. Received: ({sizes[1]:.80})")
    rule = f"{name} has {len(counts)} axes; at most {MOST_AXES} are allowed"
    require(len(counts) <= MOST_AXES, rule)
    return np.dtype(descr[1] + descr[2]), order[1] == "True", tuple(counts)
