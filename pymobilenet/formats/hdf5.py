"""Checks of an HDF5 file before h5py reads its arrays and attributes.

What h5py lacks is a bound: it follows links into other files, allocates shapes of terabytes that
no bytes in the file back, decompresses data to a thousand times its size and loads filter plug-ins.
Here only hard links are followed, each object is read once, and a dataset is read only if it is
float32 or float64, contiguous, unfiltered and as large as it claims. Memory is bounded by the size
of the file.

Strings of variable length are not read: with a damaged reference to one, HDF5 2.0 can read without
end or out of bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pymobilenet.errors import BackendUnavailable, WeightsError

MOST_BYTES = 2**31
"""The most bytes of all tensors of a file together: forty times V2 at width 2."""

MOST_TEXT = 64_000
"""The most bytes of an attribute, which HDF5 limits to 64 KiB."""

_MOST_DEPTH = 16
"""The most groups around a dataset."""

T = TypeVar("T")


def h5py_module() -> Any:
    """Import and return h5py, which only these files require.

    Raises:
        BackendUnavailable: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise BackendUnavailable(
            "Keras' .h5 files need h5py, which is not installed: pip install pymobilenet[keras]"
        ) from None
    return h5py


def read_file(path: Path, read: Callable[[Any, int], T]) -> T:
    """Call `read` with the open file and its size in bytes, and return its result.

    Args:
        path: The file.
        read: A function of the `h5py.File` and the size.

    Raises:
        WeightsError: The file is missing or not HDF5, or `read` raises one.
        BackendUnavailable: h5py is not installed.
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
        raise WeightsError(f"{path} ({size} bytes) is not an HDF5 file: {error}") from None


def arrays(root: Any, size: int) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Yield each dataset below a group.

    Args:
        root: A group of the open file.
        size: The size of the file in bytes, which bounds what is allocated.

    Yields:
        The names of the groups and the dataset below `root`; and the array, float32 or float64.

    Raises:
        WeightsError: A dataset breaks a rule. The message names the file, the dataset and the rule.
    """
    available = min(size, MOST_BYTES)
    for names, dataset in _datasets(root):
        rule = _broken_rule(dataset, size, available)
        if rule:
            raise WeightsError(f"{location(root, *names)} {rule}")
        array = np.empty(dataset.shape, dataset.dtype.newbyteorder("="))
        if array.size:
            dataset.read_direct(array)
        available -= array.nbytes
        yield names, array


def follow(group: Any, name: str) -> Any:
    """Return a member of a group, if the link to it is a hard link.

    Args:
        group: A group of the open file.
        name: The name of the member.

    Raises:
        WeightsError: The link is a soft link or a link into another file.
    """
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py_module().HardLink):
        raise WeightsError(
            f"{location(group, name)} must be a member of its group, not a link to another place. "
            f"Received: a {type(link).__name__}"
        )
    return group[name]


def text(item: Any, key: str) -> str | None:
    """Return an attribute that is one string of fixed length, or None if there is none.

    Args:
        item: A group or a dataset of the open file.
        key: The name of the attribute.
    """
    if key not in item.attrs:
        return None
    attribute = item.attrs.get_id(key)
    kind = attribute.get_type()
    if attribute.shape != () or kind.get_class() != h5py_module().h5t.STRING:
        return None
    if kind.is_variable_str() or kind.get_size() > MOST_TEXT:
        return None
    return bytes(item.attrs[key]).decode("utf-8", "replace")


def location(root: Any, *parts: str) -> str:
    """Return "file: object" for a message; the object's name is cut to 200 characters.

    Args:
        root: A group of the open file.
        *parts: The names on the way from `root` to the object.
    """
    name = f"{root.name.rstrip('/')}/{'/'.join(parts)}"
    return f"{root.file.filename}: {name:.200}"


def _datasets(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each dataset below `root` with its path of names, sorted."""
    h5py = h5py_module()
    pending: list[tuple[tuple[str, ...], Any]] = [((), root)]
    visited_addresses = set()
    while pending:
        names, item = pending.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in visited_addresses or len(names) > _MOST_DEPTH:
            raise WeightsError(
                f"{location(root, *names)} must be the only name of its object, at most "
                f"{_MOST_DEPTH} groups deep"
            )
        visited_addresses.add(address)
        if isinstance(item, h5py.Dataset):
            yield names, item
        elif isinstance(item, h5py.Group):
            members = sorted(item, reverse=True)
            pending += [((*names, member), follow(item, member)) for member in members]
        else:
            raise WeightsError(f"{location(root, *names)} must be a group or a dataset")


def _broken_rule(dataset: Any, size: int, available: int) -> str:
    """Return the rule that forbids reading a dataset of a file of `size` bytes, or "".

    `available` is the number of bytes that the file and `MOST_BYTES` leave for further tensors.
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
    if claimed > available:
        return f"claims {claimed} bytes, where {available} are left for the tensors of this file"
    return ""


def _type_name(kind: Any) -> str:
    try:
        return str(kind.dtype)
    except TypeError:
        return f"an HDF5 type of {kind.get_size()} bytes"
