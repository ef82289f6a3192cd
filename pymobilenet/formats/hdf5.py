"""Reading HDF5 files that nobody vouches for: named arrays, and texts beside them.

The HDF5 library follows what a file says: links into other files, shapes of terabytes that no byte
stands behind, compressed data a thousand times as large, filters that it looks for among the
machine's plug-ins. Here only hard links are followed, each object is met once, and a dataset is
read only if it is float32 or float64, lies in the file in one piece, unfiltered, and is as large as
it says. So no more memory is asked for than the file has bytes.

Texts of variable length are not read at all: with a damaged reference to one, HDF5 2.0 can read
without end or beyond its memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pymobilenet.errors import BackendUnavailable, WeightsError

MOST_BYTES = 2**31
"""Of all tensors of a file together: forty times V2 at width 2."""

MOST_TEXT = 64_000
"""Bytes of an attribute, which HDF5 keeps below 64 KiB."""

_DEEPEST = 16

T = TypeVar("T")


def h5py_module() -> Any:
    """The library, which is needed for these files alone.

    Raises:
        BackendUnavailable: It is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise BackendUnavailable(
            "Keras' .h5 files need h5py, which is not installed: pip install pymobilenet[keras]"
        ) from None
    return h5py


def read_file(path: Path, read: Callable[[Any, int], T]) -> T:
    """What `read` makes of the open file and its size in bytes.

    Raises:
        WeightsError: No file, or none that HDF5 can read to the end; whatever `read` refuses.
    """
    h5py = h5py_module()
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    size = path.stat().st_size
    try:
        with h5py.File(path, "r", locking=False) as file:
            return read(file, size)
    except WeightsError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError) as error:
        raise WeightsError(f"{path} ({size} bytes) is no whole HDF5 file: {error}") from None


def arrays(root: Any, size: int) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The names on the way from group `root` to every dataset below it, and its array.

    Args:
        root: A group of the open file, whose size is `size` bytes.

    Raises:
        WeightsError: Names file, object and the rule it breaks.
    """
    room = min(size, MOST_BYTES)
    for parts, dataset in _datasets(root):
        rule = _broken_rule(dataset, size, room)
        if rule:
            raise WeightsError(f"{place(root, *parts)} {rule}")
        array = np.empty(dataset.shape, dataset.dtype.newbyteorder("="))
        if array.size:
            dataset.read_direct(array)
        room -= array.nbytes
        yield parts, array


def follow(group: Any, name: str) -> Any:
    """What `name` is in `group`, unless it leads elsewhere."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py_module().HardLink):
        raise WeightsError(
            f"{place(group, name)} must be in its place. Received: a {type(link).__name__}, which "
            "leads elsewhere"
        )
    return group[name]


def text(item: Any, key: str) -> str | None:
    """An attribute that is one text of fixed length; None where there is no such."""
    if key not in item.attrs:
        return None
    attribute = item.attrs.get_id(key)
    kind = attribute.get_type()
    if attribute.shape != () or kind.get_class() != h5py_module().h5t.STRING:
        return None
    if kind.is_variable_str() or kind.get_size() > MOST_TEXT:
        return None
    return bytes(item.attrs[key]).decode("utf-8", "replace")


def place(root: Any, *parts: str) -> str:
    """File and object, for a message; a long name is cut."""
    name = f"{root.name.rstrip('/')}/{'/'.join(parts)}"
    return f"{root.file.filename}: {name:.200}"


def _datasets(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every dataset below `root` with the names on the way to it, sorted."""
    h5py = h5py_module()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    met = set()
    while waiting:
        parts, item = waiting.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in met or len(parts) > _DEEPEST:
            raise WeightsError(
                f"{place(root, *parts)} must be the one name of an object, at most {_DEEPEST} "
                "groups deep"
            )
        met.add(address)
        if isinstance(item, h5py.Dataset):
            yield parts, item
        elif isinstance(item, h5py.Group):
            names = sorted(item, reverse=True)
            waiting += [((*parts, name), follow(item, name)) for name in names]
        else:
            raise WeightsError(f"{place(root, *parts)} must be a group or a dataset")


def _broken_rule(dataset: Any, size: int, room: int) -> str:
    """The rule that forbids reading a dataset of a file of `size` bytes, or nothing.

    `room` is how many bytes the file and `MOST_BYTES` still leave for tensors.
    """
    h5py = h5py_module()
    h5d, h5t = h5py.h5d, h5py.h5t
    kind, properties = dataset.id.get_type(), dataset.id.get_create_plist()
    floats = (h5t.IEEE_F32LE, h5t.IEEE_F64LE, h5t.IEEE_F32BE, h5t.IEEE_F64BE)
    if not any(kind.equal(known) for known in floats):
        return f"must be float32 or float64. Received: {_type_name(kind)}"
    if dataset.shape is None:
        return "must hold numbers. Received: a null dataspace"
    if properties.get_layout() not in (h5d.CONTIGUOUS, h5d.COMPACT):
        return (
            "must be stored in one piece, as Keras writes it, neither chunked, compressed nor "
            "virtual (h5repack -l CONTI -f NONE rewrites it so)"
        )
    if properties.get_external_count():
        return f"must lie in this file. Received: a link to {properties.get_external(0)[0]!r:.80}"
    claimed, stored = math.prod(dataset.shape) * kind.get_size(), dataset.id.get_storage_size()
    end = (dataset.id.get_offset() or 0) + stored
    if claimed != stored or end > size:
        return f"claims {claimed} bytes. Received: {stored}, up to byte {end} of {size}"
    if claimed > room:
        return f"claims {claimed} bytes, where {room} are left to the tensors of this file"
    return ""


def _type_name(kind: Any) -> str:
    try:
        return str(kind.dtype)
    except TypeError:
        return f"an HDF5 type of {kind.get_size()} bytes"
