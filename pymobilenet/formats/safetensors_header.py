"""What a safetensors file says it holds, checked before any of it is read.

The limits of the format (https://github.com/huggingface/safetensors, README, "Format"): a header of
at most 100 MB that begins with '{', no name twice, metadata of strings, tensors whose bytes fill
the file without gap or overlap. MobileNets.jl holds files to the same rules in the same words.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any, BinaryIO, NamedTuple

from pymobilenet.strict_json import check_texts, parse_object, shown

MOST_HEADER = 100_000_000
"""Bytes of the header; the format's own limit."""

MOST_AXES = 64
"""NumPy's limit on the axes of an array; the format has none."""

DTYPES = {
    **{"BOOL": "|u1", "U8": "|u1", "I8": "|i1"},
    **{"U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2"},
    **{"U32": "<u4", "I32": "<i4", "F32": "<f4"},
    **{"U64": "<u8", "I64": "<i8", "F64": "<f8"},
}
"""The types that are read -> what NumPy takes their bytes for."""

_FIELDS = ("dtype", "shape", "data_offsets")


class Entry(NamedTuple):
    """A tensor as the header describes it; `begin` and `end` count from the end of the header."""

    begin: int
    end: int
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_header(file: BinaryIO, size: int) -> tuple[list[Entry], dict[str, str]]:
    """The tensors of a file of `size` bytes in the order they lie in, and its metadata.

    Raises:
        ValueError: The rule that the file breaks.
    """
    _require(size >= 8, "the eight bytes of the header's length are missing")
    length = int.from_bytes(file.read(8), "little")
    _require(
        length <= MOST_HEADER, f"a header of {length} bytes; at most {MOST_HEADER} are allowed"
    )
    _require(length <= size - 8, f"a header of {length} bytes does not fit in the file")
    text = file.read(length)
    first = f"byte {text[0]}" if text else "no byte"
    _require(text.startswith(b"{"), f"the header must begin with '{{'. Received: {first}")
    header = parse_object(text)
    metadata = check_texts(header.pop("__metadata__", {}), "__metadata__")
    entries = sorted(_entry(name, fields) for name, fields in header.items())
    end = 0
    for entry in entries:
        rule = f"it must be {end}, without gap or overlap"
        _require(entry.begin == end, f"{entry.name} begins at byte {entry.begin}; {rule}")
        end = entry.end
    held = size - 8 - length
    _require(end == held, f"the tensors need {end} bytes, the file holds {held}")
    return entries, metadata


def _entry(name: str, fields: Any) -> Entry:
    given = isinstance(fields, dict) and all(field in fields for field in _FIELDS)
    rule = f"{name} must have dtype, shape and data_offsets. Received: {shown(fields)}"
    _require(given, rule)
    dtype, shape, span = (fields[field] for field in _FIELDS)
    known = isinstance(dtype, str) and dtype in DTYPES
    names = ", ".join(DTYPES)
    _require(known, f"{name}: dtype must be one of {names}. Received: {shown(dtype)}")
    rule = f"{name}: shape must be whole numbers, at least 0. Received: {shown(shape)}"
    _require(_are_counts(shape), rule)
    rule = f"{name} has {len(shape)} axes; at most {MOST_AXES} are allowed"
    _require(len(shape) <= MOST_AXES, rule)
    rule = f"{name}: data_offsets must be two whole numbers. Received: {shown(span)}"
    _require(_are_counts(span) and len(span) == 2, rule)
    described = f"{name} of {dtype} {shown(shape)}"
    # from the left, as other readers multiply: a 0 at the end does not undo an overflow
    products = list(itertools.accumulate((int(DTYPES[dtype][-1]), *shape), operator.mul))
    _require(max(products) < 2**63, f"{described} has more bytes than 64 bits count")
    claimed = span[1] - span[0]
    rule = f"{described} has {products[-1]} bytes, its data_offsets {claimed}"
    _require(products[-1] == claimed, rule)
    return Entry(span[0], span[1], name, dtype, tuple(shape))


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def _require(rule: bool, message: str) -> None:
    if not rule:
        raise ValueError(message)
