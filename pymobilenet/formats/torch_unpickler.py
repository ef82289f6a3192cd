"""The restricted reader of torch's pickles: a `Claim` for each tensor, and nothing is called.

It knows only the opcodes and the functions that a state dict needs, and calls none of them.

Format: torch/_weights_only_unpickler.py for the opcodes, torch/_utils.py for the functions.
"""

from __future__ import annotations

import io
import math
import pickle
import reprlib
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from pymobilenet.errors import WeightsError

# fmt: off
_OPCODES = (
    pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
    pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.EMPTY_DICT, pickle.EMPTY_LIST,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.SETITEM,
    pickle.SETITEMS, pickle.APPEND, pickle.APPENDS, pickle.BINPUT, pickle.LONG_BINPUT,
    pickle.BINGET, pickle.LONG_BINGET, pickle.BINPERSID, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD,
)
# fmt: on

_STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
"""Name in torch -> dtype, bytes of one value."""


class Storage(NamedTuple):
    key: str
    dtype: str
    itemsize: int
    length: int

    @property
    def nbytes(self) -> int:
        return self.itemsize * self.length


class Claim(NamedTuple):
    """A tensor as the file describes it."""

    dtype: str
    shape: tuple[int, ...]


class _Call:
    """A global: it can be called by REDUCE, and nothing else."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise WeightsError("sets the state of a global")


class _Kind(NamedTuple):
    """A class of storages: what its global stands for."""

    dtype: str
    itemsize: int


class _Dict(dict[Any, Any]):
    """An OrderedDict, whose attributes (torch keeps ``_metadata`` there) are not read here."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise WeightsError(f"a dict can have _metadata alone. Received: {reprlib.repr(state)}")


def _dict(pairs: Any = ()) -> _Dict:
    if type(pairs) not in (tuple, list, dict) or pairs:
        raise WeightsError("a dict must be made empty, and then filled")
    return _Dict()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> Claim:
    """torch._utils._rebuild_tensor_v2: a view of a storage, which must lie within it."""
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise WeightsError("a tensor must be a storage, an offset, a shape and strides")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise WeightsError(
            "a tensor's offset, shape and strides must be whole numbers, one stride for each axis. "
            f"Received: {reprlib.repr((offset, shape, strides))}"
        )
    count = math.prod(shape)
    end = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1
    if count > storage.length or (count and end > storage.length):
        raise WeightsError(
            f"a tensor of shape {reprlib.repr(shape)}, strides {reprlib.repr(strides)} and offset "
            f"{offset} exceeds its storage {storage.key!r} of {storage.length} values"
        )
    return Claim(storage.dtype, shape)


def _parameter(tensor: Any, *_rest: Any) -> Claim:
    if type(tensor) is not Claim:
        raise WeightsError(f"a parameter must be a tensor. Received: {type(tensor).__name__}")
    return tensor


def _shape(numbers: Any) -> tuple[Any, ...]:
    return tuple(numbers)


_GLOBALS = {
    ("collections", "OrderedDict"): _Call(_dict),
    ("torch", "Size"): _Call(_shape),
    ("torch._utils", "_rebuild_parameter"): _Call(_parameter),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    **{("torch", name): _Kind(*kind) for name, kind in _STORAGES.items()},
}

_UNFIT = {
    "torch.ComplexFloatStorage": "complex",
    "torch.ComplexDoubleStorage": "complex",
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta (without values)",
    "torch._utils._rebuild_tensor_v3": "of a dtype without arithmetic",
}
"""Global -> what tensors made by it are, and no MobileNet's are."""


def _check_keys(keys: list[Any]) -> None:
    """Keys are hashed, and tuples of tuples of tuples can take for ever."""
    for key in keys:
        if type(key) not in (str, int):
            raise WeightsError(f"keys must be text or whole. Received: {reprlib.repr(key)}")


# The reader in Python, not the one in C: it keeps its memo in a dict (a single opcode makes the
# one in C allocate gigabytes), and its table of opcodes can be cut down.
class TorchUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = {
        code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES
    }

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        super().__init__(self._file, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        self.stack: list[Any]

    @property
    def position(self) -> int:
        return self._file.tell()

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    dispatch |= {pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems}

    def find_class(self, module: str, name: str) -> Any:
        whole = f"{module}.{name}"
        if whole in _UNFIT:
            raise WeightsError(f"holds tensors that are {_UNFIT[whole]}; they must be dense floats")
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise WeightsError(
                f"names {whole!r:.200}, which no state dict does: it is a whole pickled model, or "
                "something else that would run code; nothing was run. Save the weights alone: "
                "torch.save(model.state_dict(), path)"
            ) from None

    def persistent_load(self, pid: Any) -> Storage:
        """("storage", kind, key, device, number of values[, None])."""
        fits = type(pid) is tuple and len(pid) in (5, 6) and pid[0] == "storage"
        if not fits or type(pid[1]) is not _Kind or pid[5:] not in ((), (None,)):
            raise WeightsError(
                f"a storage must be described as torch does. Received: {reprlib.repr(pid)}"
            )
        key, count = pid[2], pid[4]
        if type(key) is not str or type(count) is not int or count < 0:
            raise WeightsError(f"a storage needs a key and a size. Received: {reprlib.repr(pid)}")
        storage = Storage(key, *pid[1], count)
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsError(f"storage {key!r} is described in two ways")
        return storage
