"""The exchange file: safetensors, written canonically.

Format: https://github.com/huggingface/safetensors (README, "Format"): eight bytes of header
length, a JSON header, the tensors' bytes. The format leaves the order of names, tensors and
padding open, and the library's writer lets the metadata's order vary between processes. Here
equal content means equal bytes, in Python and in Julia:

- tensors lie in order of falling item size, then of name (in bytes), without gaps;
- the header has ``__metadata__`` first with its keys sorted, then the tensors in that order, each
  with the keys dtype, shape, data_offsets; no spaces between; ASCII with ``\\u`` escapes;
- the header is padded with spaces to a multiple of eight bytes.

Metadata: ``format_version``, ``config`` and ``versions``, and what else the writer was given, each
a JSON text with sorted keys.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.formats.safetensors_header import DTYPES, Entry, read_header
from pymobilenet.strict_json import parse_object
from pymobilenet.weights.state import State, check_state, slots_of

FORMAT_VERSION = "1"

_DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "uint8": "U8"}


@dataclass(frozen=True)
class WeightsFile:
    """What a weight file holds: config, state, the writer's library versions, other metadata."""

    config: MobileNetConfig
    state: State
    versions: dict[str, str]
    metadata: dict[str, str]

    @property
    def dtype(self) -> np.dtype:
        return self.state["classifier.weight"].dtype


def encode(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The length and the header of the canonical file, without the tensors' bytes.

    Raises:
        WeightsError: A dtype other than float64, float32, int64 and uint8, or a tensor named
            __metadata__.
    """
    if "__metadata__" in tensors:
        raise WeightsError("__metadata__ is the header's own name, and cannot be a tensor's")
    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        if tensor.dtype.name not in _DTYPES:
            raise WeightsError(
                f"{name}: only {', '.join(_DTYPES)} can be written. Received: {tensor.dtype}"
            )
        header[name] = {
            "dtype": _DTYPES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_tensors(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write any named tensors and metadata as a canonical safetensors file, atomically."""
    header = encode(tensors, metadata)
    with atomic_write(path) as file:
        file.write(header)
        for name in _order(tensors):
            little_endian = tensors[name].dtype.newbyteorder("<")
            file.write(np.ascontiguousarray(tensors[name], little_endian).data)


def read_tensors(path: str | Path, mmap: bool = False) -> tuple[State, dict[str, str]]:
    """Read any safetensors file: tensors and metadata.

    bfloat16, which NumPy has not, becomes float32, which holds all its values. Nothing is allocated
    for a tensor before the file is found to hold it.

    With `mmap` the arrays lie in the file itself, where its alignment allows, and are read-only.
    The file must not shrink while they are in use; a new one of its name does no harm.

    Raises:
        WeightsError: The file is missing, or breaks a rule of the format, or a tensor's dtype is
            none of NumPy's; the message names it and the rule.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            entries, metadata = read_header(file, size)
            held = _mapped if mmap else _copied
            return {entry.name: _tensor(held(file, entry), entry) for entry in entries}, metadata
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} ({size} bytes) is no whole safetensors file: {error}") from None


def _copied(file: BinaryIO, entry: Entry) -> np.ndarray:
    """The bytes of the next tensor of the file."""
    return np.frombuffer(bytearray(file.read(entry.end - entry.begin)), np.uint8)


def _mapped(file: BinaryIO, entry: Entry) -> np.ndarray:
    """The same, in the file itself."""
    start, size = file.tell(), entry.end - entry.begin
    file.seek(size, os.SEEK_CUR)
    mapped = np.memmap(file, np.uint8, "r", start, size) if size else np.empty(0, np.uint8)
    file.seek(start + size)
    aligned = start % np.dtype(DTYPES[entry.dtype]).itemsize == 0
    return np.asarray(mapped) if aligned else np.array(mapped)


def _tensor(data: np.ndarray, entry: Entry) -> np.ndarray:
    values = data.view(DTYPES[entry.dtype])
    if entry.dtype == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if entry.dtype == "BOOL":  # any byte but 0 is true
        values = values != 0
    return values.reshape(entry.shape)


def write_weights(
    path: str | Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    versions: Mapping[str, str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model's state, checked first, with what is needed to build the model again."""
    dtype = state["classifier.weight"].dtype if "classifier.weight" in state else "float32"
    check_state(config, state, dtype, slots_of(state), source=str(path))
    canonical = {
        "format_version": FORMAT_VERSION,
        "config": config.to_json(),
        "versions": json.dumps(dict(versions), sort_keys=True, separators=(",", ":")),
    }
    write_tensors(path, state, {**(metadata or {}), **canonical})


def read_weights(path: str | Path, mmap: bool = False) -> WeightsFile:
    """Read a model's state and config; everything is checked before it is returned.

    `mmap` as in `read_tensors`.

    Raises:
        WeightsError: Not a weight file of this format, or a tensor missing, left over, misshapen,
            wrongly typed or not finite. Each is named.
    """
    tensors, metadata = read_tensors(path, mmap)
    if metadata.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path}: metadata format_version must be {FORMAT_VERSION!r}, as pymobilenet writes it."
            f" Received: {metadata.get('format_version')!r}"
        )
    try:
        config = MobileNetConfig.from_json(metadata.pop("config", ""))
        versions = parse_object(metadata.pop("versions", "{}"))
    except ValueError as error:
        raise WeightsError(f"{path}: metadata: {error}") from None
    del metadata["format_version"]
    dtype = np.asarray(tensors.get("classifier.weight", np.float32(0))).dtype
    if dtype not in (np.float32, np.float64):
        raise WeightsError(
            f"{path}: classifier.weight must be float32 or float64. Received: {dtype}"
        )
    check_state(config, tensors, dtype, slots_of(tensors), source=str(path))
    return WeightsFile(config, tensors, versions, metadata)


def _order(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Tensor names as they lie in the file."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name.encode()))
