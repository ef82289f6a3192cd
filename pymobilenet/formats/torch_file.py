"""Files of `torch.save`, read by `torch.load(weights_only=True, mmap=True)`.

`torch.load` lacks a bound on memory: it allocates the sizes that a file claims. Before it runs,
`pymobilenet.formats.torch_pickle` checks the pickle and this module checks the zip. Zips are then
mapped, so that tensors are views of the file, and tensors are copied only if they fit in its size.

Formats: torch/serialization.py, `_save` (a zip of ``data.pkl`` and one record for each storage) and
`_legacy_save` (five pickles, then the storages).
"""

from __future__ import annotations

import io
import reprlib
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.formats import torch_pickle, zip_checks
from pymobilenet.formats.torch_globals import SAFE

_HALVES = (torch.float16, torch.bfloat16)


def load_object(path: str | Path) -> Any:
    """Check a file and return the result of `torch.load(path, weights_only=True)`, on the CPU.

    In addition to the types that torch allows, those of `torch_globals.SAFE` are read.

    Args:
        path: A file of `torch.save`.

    Returns:
        The object in the file. Tensors in a zip are views of the mapped file.

    Raises:
        WeightsError: The file is missing, damaged or not torch's, names code, or claims more than
            it holds. The message names the file and the rule.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    try:
        (_check_zip if is_zip else _check_legacy)(path)
    except (ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # a malformed file can raise nearly anything
        raise WeightsError(
            f"{path}: truncated, or not as torch.save writes files: {type(error).__name__} "
            f"{reprlib.repr(str(error))}"
        ) from None
    # torch reads a path with this suffix as safetensors, whatever its content is
    is_mapped = is_zip and path.suffix != ".safetensors"
    source = path if is_mapped else io.BytesIO(path.read_bytes())
    added = [each for each in SAFE if each not in torch.serialization.get_safe_globals()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(added):
            warnings.simplefilter("ignore")
            content = torch.load(
                source,
                map_location=_not_resizable,  # type: ignore[arg-type]  # takes an UntypedStorage
                weights_only=True,
                mmap=is_mapped,
            )
        _check_dicts(content)
        return content
    except Exception as error:  # a malformed file can raise nearly anything
        text = str(error).rpartition("WeightsUnpickler error: ")[2].strip() or repr(error)
        raise WeightsError(f"{path}: torch.load raises {text.splitlines()[0]:.200}") from None


def to_arrays(tensors: Mapping[str, torch.Tensor], path: str | Path) -> dict[str, np.ndarray]:
    """Copy tensors into C-contiguous arrays; float16 and bfloat16 become float32.

    Args:
        tensors: Name -> dense tensor on the CPU, as `load_object` returns them.
        path: The file of the tensors, whose size bounds the copies.

    Returns:
        Name -> array of the same shape, in the order of `tensors`.

    Raises:
        WeightsError: A tensor is not dense or not real, reaches out of its storage, or shares
            values so that the copies would be larger than the file.
    """
    size, total = Path(path).stat().st_size, 0
    plain = {name: torch.Tensor.detach(tensor) for name, tensor in tensors.items()}
    for name, tensor in plain.items():
        total += tensor.numel() * tensor.element_size()
        rule = _broken_rule(tensor)
        if rule:
            raise WeightsError(f"{path}: {name:.200} {rule}")
    if total > size:
        raise WeightsError(
            f"{path}: its tensors share values: copied, they have {total} bytes; the file has "
            f"{size}"
        )
    return {name: _array(tensor) for name, tensor in plain.items()}


def write(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a state dict, atomically, for ``load_state_dict(torch.load(path), strict=True)``.

    Args:
        path: The file to write.
        tensors: Name -> array of any dtype that torch has, in the order of the state dict.
        metadata: Text by name. It is stored in the state dict's attribute
            ``_metadata["pymobilenet"]``, which modules ignore.
    """
    weights = OrderedDict(
        (name, torch.from_numpy(np.array(tensor, tensor.dtype.newbyteorder("="), order="C")))
        for name, tensor in tensors.items()
    )
    weights._metadata = {"pymobilenet": dict(sorted(metadata.items()))}  # type: ignore[attr-defined]
    with atomic_write(path) as file:
        torch.save(weights, file)


def _not_resizable(storage: torch.UntypedStorage, _location: str) -> torch.UntypedStorage:
    """Return a storage on the CPU that no tensor can enlarge."""
    if not storage.resizable():
        return storage
    return torch.from_numpy(np.zeros(storage.nbytes(), np.uint8)).untyped_storage()


def _check_zip(path: Path) -> None:
    """Check that a zip's records are stored and that its pickle names storages of their sizes.

    Raises:
        ValueError: The rule that the file breaks.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        size = path.stat().st_size
        _check_directory(file, size)
        records = zip_checks.records(archive, size, size, (zip_checks.STORED,))
        sizes = {record.filename: record.file_size for record in records}
        folder = records[0].filename.partition("/")[0] if records else ""
        if f"{folder}/constants.pkl" in sizes:
            raise ValueError(
                "a TorchScript archive, which is a program; load it with torch.jit.load and save "
                "its state_dict()"
            )
        if sizes.get(f"{folder}/data.pkl", size) > torch_pickle.MOST_PICKLE_BYTES:
            raise ValueError(f"must hold {folder}/data.pkl of at most 16 MiB")
        storages = torch_pickle.storages(io.BytesIO(archive.read(f"{folder}/data.pkl")))
    for storage in storages.values():
        stored = sizes.get(f"{folder}/data/{storage.key}")
        if stored != storage.nbytes:
            raise ValueError(
                f"storage {storage.key!r:.200} claims {storage.nbytes} bytes; the file holds "
                f"{stored or 0}"
            )


def _check_directory(file: BinaryIO, size: int) -> None:
    """Check that the zip's directory ends where the file ends, so that all readers agree on it.

    Raises:
        ValueError: There are bytes between the directory and the end of the file.
    """
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    length, offset = struct.unpack("<LL", tail[-10:-2])
    end, follows = size - 22, True
    if tail[-42:-38] == b"PK\6\7":  # the locator of a directory of 64 bits
        end = size - 98
        length, offset = struct.unpack("<QQ", tail[40:56])
        follows = struct.unpack("<Q", tail[-34:-26])[0] == end
    if tail[-22:-18] != b"PK\5\6" or not follows or offset + length != end:
        raise ValueError("its zip directory must end where the file ends, as torch writes it")


def _check_legacy(path: Path) -> None:
    """Check that the five pickles of a legacy file name no more storage than follows them.

    Raises:
        ValueError: The rule that the file breaks.
    """
    content = io.BytesIO(path.read_bytes())
    storages = [torch_pickle.storages(content) for _ in range(5)]
    remaining = len(content.getbuffer()) - content.tell()
    claimed = sum(storage.nbytes for storage in storages[3].values())
    if any(storages[:3]) or storages[4] or claimed > remaining:
        raise ValueError(f"its storages claim {claimed} bytes; {remaining} are left in the file")


def _check_dicts(content: Any) -> None:
    """Check that no dict has attributes that hide its methods.

    Raises:
        ValueError: One has another attribute than ``_metadata``, which state dicts have.
    """
    pending, visited = [content], set()
    while pending:
        value = pending.pop()
        if id(value) in visited or not isinstance(value, (dict, list, tuple)):
            continue
        visited.add(id(value))
        attributes = set(getattr(value, "__dict__", ())) - {"_metadata"}
        if attributes:
            raise ValueError(
                f"a dict must have no attribute but _metadata. Received: {sorted(attributes)}"
            )
        pending += dict.values(value) if isinstance(value, dict) else value


def _broken_rule(tensor: Any) -> str:
    """Return the rule that forbids copying a tensor, or ""."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return "must be a dense tensor"
    if tensor.dtype.is_complex:
        return f"must not be complex. Received: {tensor.dtype}"
    sizes, strides = tensor.shape, tensor.stride()
    last = sum((n - 1) * stride for n, stride in zip(sizes, strides, strict=True))
    values = tensor.untyped_storage().nbytes() // tensor.element_size()
    offset = tensor.storage_offset()
    if tensor.numel() and (min(strides, default=0) < 0 or not 0 <= offset + last < values):
        return f"reaches out of its storage of {values} values. Its shape: {tuple(sizes)}"
    return ""


def _array(tensor: torch.Tensor) -> np.ndarray:
    values = tensor.float() if tensor.dtype in _HALVES else tensor
    return np.array(values.numpy(), order="C")
