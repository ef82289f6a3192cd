"""Checks of the memory and time that a torch file's pickle requires, before `torch.load` reads it.

`torch.load(weights_only=True)` limits which code runs, but not its cost: a pickle of a few bytes
may claim a storage of terabytes, call ``bytearray(2**40)``, copy one long list a million times, or
hash a tuple that doubles sixty times. `pickletools.genops` lists the opcodes; they are run here
with each value replaced by its size, and each global must be one that allocates no more than its
arguments.

Opcodes: torch/_weights_only_unpickler.py.
"""

from __future__ import annotations

import pickletools
import reprlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from pymobilenet.formats.torch_globals import pickled_names

MOST_PICKLE_BYTES = 2**24
"""The most bytes of a pickle. That of a MobileNet's state has some 50 KiB, with optimizer and
schedule some 150."""

GROWTH = 16
"""How many bytes may be copied or hashed for each byte of the pickle."""

_CALL_GROWTH = 4
"""How many bytes a call may return for each byte of its arguments: the ``quopri`` codec returns
three."""

_ITEMSIZE = {
    **{"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2},
    **{"Char": 1, "Byte": 1, "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16},
}
STORAGES = {f"torch {name}Storage": size for name, size in _ITEMSIZE.items()}
"""Global -> bytes of one element."""

_DTYPES = """float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool
complex32 complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"""
GLOBALS = {
    *STORAGES,
    *(f"torch {name}" for name in _DTYPES.split()),
    *("torch Size", "torch device", "torch.nn.parameter Parameter"),
    *("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"),
    *("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"),
    *("collections OrderedDict", "collections Counter", "_codecs encode"),
    *("__builtin__ set", "builtins set", "__builtin__ complex", "builtins complex"),
    "torch.serialization _get_layout",
    *pickled_names(),
}
"""Globals that allocate no more than their arguments, as `pickletools` writes them."""

_UNSUPPORTED = {
    "torch._utils _rebuild_qtensor": "quantized tensors",
    "torch._utils _rebuild_sparse_tensor": "sparse tensors",
    "torch._utils _rebuild_nested_tensor": "nested tensors",
    "torch._utils _rebuild_meta_tensor_no_storage": "meta tensors, which have no values",
    "torch._utils _rebuild_tensor_v3": "tensors of a dtype without arithmetic",
}
"""Global -> the tensors that it builds."""


class Storage(NamedTuple):
    """A storage that the pickle names: its key in the file and its size."""

    key: str
    nbytes: int


class _Cell:
    """A value of the pickle: a constant or the cells of a tuple, and its size in bytes.

    A value that is part of another one must not grow, since the size of the other counts it.
    """

    __slots__ = ("is_part", "size", "value")

    def __init__(self, value: Any, size: int) -> None:
        self.value = value
        self.size = min(size, 2**62)
        self.is_part = False

    def grow(self, items: list[_Cell]) -> None:
        if self.is_part:
            raise ValueError("its pickle changes a value that is already part of another")
        self.size += _size(items)


def storages(stream: BinaryIO) -> dict[str, Storage]:
    """Check one pickle and return the storages that it names, by key.

    Args:
        stream: A stream at the start of the pickle, which is read up to the pickle's end.

    Returns:
        Key of the storage -> storage.

    Raises:
        ValueError: The pickle breaks a rule, which the message states.
    """
    by_key: dict[str, Storage] = {}
    stack: list[_Cell] = []
    marks: list[int] = []
    memo: dict[int, _Cell] = {}
    start, work = stream.tell(), 0
    for name, argument, size in _opcodes(stream, start):
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "GLOBAL":
            _check_global(argument)
            stack.append(_Cell(argument, 1))
        elif name in ("APPENDS", "SETITEMS", "TUPLE"):
            at = marks.pop()
            items, stack[at:] = stack[at:], []
            work += sum(key.size for key in items[::2]) if name == "SETITEMS" else 0
            if name == "TUPLE":
                stack.append(_tuple(items))
            else:
                stack[-1].grow(items)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [_tuple(stack[-count:])]
        elif name in ("APPEND", "SETITEM", "BUILD"):
            count = 2 if name == "SETITEM" else 1
            items, stack[-count:] = stack[-count:], []
            work += items[0].size if name != "APPEND" else 0
            stack[-1].grow(items)
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            work += arguments.size
            stack[-1] = _Cell(None, 64 + _CALL_GROWTH * arguments.size)
        elif name == "BINPERSID":
            storage = _storage(stack[-1])
            if by_key.setdefault(storage.key, storage) != storage:
                raise ValueError(f"storage {storage.key!r} must have one size. Received: two")
            stack[-1] = _Cell(None, 64)
        elif name not in ("PROTO", "STOP"):
            stack.append(_Cell(argument, size))
        if work > GROWTH * (stream.tell() - start) + 2**16:
            raise ValueError("its pickle copies or hashes values much larger than itself")
    return by_key


def _opcodes(stream: BinaryIO, start: int) -> Iterator[tuple[str, Any, int]]:
    """Yield the name of each opcode, its argument and the size of both in bytes."""
    begin = start
    for opcode, argument, _ in pickletools.genops(stream):
        end = stream.tell()
        if end - start > MOST_PICKLE_BYTES:
            raise ValueError(f"its pickle has more than {MOST_PICKLE_BYTES} bytes")
        yield opcode.name, argument, end - begin
        begin = end


def _tuple(items: list[_Cell]) -> _Cell:
    return _Cell(tuple(items), 8 + _size(items))


def _size(items: list[_Cell]) -> int:
    """Return the size of values that become part of another."""
    for item in items:
        item.is_part = True
    return min(2**62, sum(item.size for item in items))


def _check_global(name: str) -> None:
    if name in _UNSUPPORTED:
        raise ValueError(
            f"holds {_UNSUPPORTED[name]}, which are not supported; tensors must be dense"
        )
    if name not in GLOBALS:
        raise ValueError(
            f"names {name.replace(' ', '.')!r:.200}, which no state dict does: it is a whole "
            "pickled model, or other content that would run code; nothing was run. Save the "
            "weights alone: torch.save(model.state_dict(), path)"
        )


def _storage(cell: _Cell) -> Storage:
    """Return the storage of ("storage", type, key, device, number of values[, view])."""
    values = [item.value for item in cell.value] if type(cell.value) is tuple else []
    fits = len(values) in (5, 6) and values[0] == "storage" and values[1] in STORAGES
    if not fits or type(values[2]) is not str or type(values[4]) is not int or values[4] < 0:
        raise ValueError(
            f"must describe its storages as torch does. Received: {reprlib.repr(values)}"
        )
    return Storage(values[2], values[4] * STORAGES[values[1]])
