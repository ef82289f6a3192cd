r"""safetensors files: read by the library of that name, written canonically.

The `safetensors` library (0.8) accepts a tensor's name twice, ``null`` metadata and a space before
the header; it copies every tensor; and its NumPy interface lacks bfloat16: the code here rejects
the former, maps the file, and reads bfloat16. Its writer orders the metadata at random; here equal
content means equal bytes, in Python and in Julia:

- tensors are in order of decreasing item size, then of name (in bytes), without gaps;
- the header has ``__metadata__`` first with its keys sorted, then the tensors in that order, each
  with the keys dtype, shape, data_offsets; without spaces; in ASCII with ``\u`` escapes;
- the header is padded with spaces to a multiple of eight bytes.

Files whose metadata have both ``format_version`` and ``config`` have ``tensors_sha256`` too: the
SHA-256, in hex, of all bytes after the header. Readers compare it where it is present.

Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pymobilenet import metadata_keys as keys
from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.strict_json import check_texts, excerpt, parse_object

METADATA = "__metadata__"

_MODEL_KEYS = {keys.FORMAT_VERSION, keys.CONFIG}
"""The metadata keys of a file that has a digest."""

_WRITTEN = {"float64": "F64", "float32": "F32", "int64": "I64", "uint8": "U8"}
"""NumPy's name of each dtype that `write` supports -> the format's name."""

_READ = {
    **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2"},
    **{"BF16": "<u2", "U32": "<u4", "I32": "<i4", "F32": "<f4"},
    **{"U64": "<u8", "I64": "<i8", "F64": "<f8"},
}
"""The format's name of each dtype that `read` supports -> NumPy's code for its bytes."""


def read(path: str | Path, mmap: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the tensors and the metadata of any safetensors file.

    bfloat16, which NumPy lacks, becomes float32, which represents all its values.

    Args:
        path: The file.
        mmap: Return read-only views of the mapped file, except for bfloat16 and for tensors that
            are not aligned to their item size. The file must not shrink while they are in use;
            another file may replace it.

    Returns:
        Name -> array, in the order of the header, and the metadata (empty if the file has none).

    Raises:
        WeightsError: The file is missing, breaks a rule of the format or has a dtype that NumPy
            lacks. The message names the file and the rule.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    size = path.stat().st_size
    try:
        with safe_open(path, framework="np") as file:  # checks all of the header
            start, header = _header(path)
            metadata = check_texts(header.pop(METADATA, {}), METADATA)
            for name, entry in header.items():
                if entry["dtype"] not in _READ:
                    raise ValueError(
                        f"{name}: dtype must be one of {', '.join(_READ)}. "
                        f"Received: {entry['dtype']}"
                    )
            content = np.memmap(path, np.uint8, "r")
            _check_digest(content[start:], metadata)
            return {
                name: _array(content, start, entry)
                if mmap or entry["dtype"] == "BF16"
                else file.get_tensor(name)
                for name, entry in header.items()
            }, metadata
    except (SafetensorError, ValueError, OSError) as error:
        raise WeightsError(f"{path} ({size} bytes) is not a safetensors file: {error}") from None


def write(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write named tensors and metadata as a canonical safetensors file, atomically.

    Args:
        path: The file to write.
        tensors: Name -> array of float64, float32, int64 or uint8.
        metadata: Text by name.

    Raises:
        WeightsError: A tensor is not float64, float32, int64 or uint8, or is named __metadata__.
    """
    little_endian = {
        name: np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        for name, tensor in tensors.items()
    }
    if metadata.keys() >= _MODEL_KEYS:
        metadata = {**metadata, keys.DIGEST: digest(little_endian)}
    header = encode(tensors, metadata)
    with atomic_write(path) as file:
        file.write(header)
        for name in _order(tensors):
            file.write(little_endian[name].data)


def encode(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the length and the header of the canonical file, without the tensors' bytes.

    Raises:
        WeightsError: As `write`.
    """
    if METADATA in tensors:
        raise WeightsError(f"a tensor must not be named {METADATA}, which names the metadata")
    header: dict[str, object] = {}
    if metadata:
        header[METADATA] = dict(sorted(metadata.items()))
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        if tensor.dtype.name not in _WRITTEN:
            raise WeightsError(
                f"{name}: only {', '.join(_WRITTEN)} can be written. Received: {tensor.dtype}"
            )
        header[name] = {
            "dtype": _WRITTEN[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256, in hex, of the bytes of tensors in the file's order.

    Args:
        tensors: Name -> array, little-endian and C-contiguous.
    """
    sha256 = hashlib.sha256()
    for name in _order(tensors):
        sha256.update(tensors[name].reshape(-1).data)
    return sha256.hexdigest()


def _check_digest(content: np.ndarray, metadata: dict[str, str]) -> None:
    """Compare the digest of a file that has one, and remove it from `metadata`.

    Args:
        content: The bytes of the tensors.
        metadata: Of the file.

    Raises:
        ValueError: The bytes are not those that were written.
    """
    if not metadata.keys() >= _MODEL_KEYS | {keys.DIGEST}:
        return
    expected, received = metadata.pop(keys.DIGEST), hashlib.sha256(content.data).hexdigest()
    if received != expected:
        raise ValueError(
            f"the SHA-256 of its tensors must be that of the metadata, {excerpt(expected)}. "
            f"Received: {received}. The file was damaged after it was written: copy it from its "
            "source again"
        )


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return where the tensors' bytes begin, and the header, which the library has checked.

    Raises:
        ValueError: The header does not begin with ``{`` or has a name twice.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length)
    if not text.startswith(b"{"):
        raise ValueError(f"the header must begin with '{{'. Received: {text[:1]!r}")
    return 8 + length, parse_object(text)


def _array(content: np.ndarray, start: int, entry: Mapping[str, Any]) -> np.ndarray:
    """Return one tensor as a view of the file, or a copy where a view is not possible.

    Args:
        content: The bytes of the file.
        start: Where the tensors' bytes begin.
        entry: The tensor's dtype, shape and data_offsets.
    """
    begin, end = (start + offset for offset in entry["data_offsets"])
    dtype = np.dtype(_READ[entry["dtype"]])
    data = np.asarray(content[begin:end])
    values = (data if begin % dtype.itemsize == 0 else data.copy()).view(dtype)
    if entry["dtype"] == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(entry["shape"])


def _order(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Return the tensors' names in the order of the file."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name.encode()))
