"""What a torch file claims to hold, found out without torch, without running or allocating it.

torch's files are pickles that call functions to make tensors; `torch.load` restricts which, and
believes their arguments. This reader knows only the opcodes and the functions a state dict needs,
calls none of them, and holds every claim (the size of a storage, the extent of a tensor in it)
against the bytes the file has. Only a file that passes is given to `torch.load`.

Formats: torch/serialization.py, `_save` (a zip of ``data.pkl`` and one record for each storage) and
`_legacy_save` (five pickles, then the storages); torch/_weights_only_unpickler.py for the opcodes.
"""

from __future__ import annotations

import io
import math
import pickle
import reprlib
import zipfile
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from pymobilenet.errors import WeightsError

MOST_PICKLE_BYTES = 2**24
"""The pickle of a MobileNet's state has some 50 KiB, with optimizer and schedule some 150."""

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


def outline(content: bytes) -> Any:
    """The object in a torch file, with a `Claim` in place of each tensor and dicts as they are.

    Raises:
        WeightsError: Anything that is not what `torch.save` makes of dicts of tensors, numbers and
            text; the rule, without the name of the file.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(content)) and content.startswith(b"PK"):
            return _of_zip(content)
        return _of_legacy(content)
    except WeightsError:
        raise
    except Exception as error:  # a malformed file can raise nearly anything
        raise WeightsError(
            "truncated, or not a state dict as torch.save writes one: "
            f"{type(error).__name__} {reprlib.repr(str(error))}"
        ) from None


def _of_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes: dict[str, int] = {}
        for record in archive.infolist():
            if record.filename in sizes:
                raise WeightsError(f"the record {record.filename!r} is in it twice")
            if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 0x1:
                raise WeightsError(f"the record {record.filename!r} must be stored, as torch does")
            sizes[record.filename] = record.file_size
        if sum(sizes.values()) > len(content):
            raise WeightsError(
                f"its records overlap: {sum(sizes.values())} bytes in {len(content)}"
            )
        pickles = [name for name in sizes if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError(f"must hold one data.pkl. Received: {pickles}")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in sizes:
            raise WeightsError(
                "a TorchScript archive, which is a program; load it with torch.jit.load and save "
                "its state_dict()"
            )
        if sizes[pickles[0]] > MOST_PICKLE_BYTES:
            raise WeightsError(
                f"{pickles[0]} has {sizes[pickles[0]]} bytes; {MOST_PICKLE_BYTES} at most"
            )
        reader = _Reader(archive.read(pickles[0]))
        found = reader.load()
    for storage in reader.storages.values():
        held = sizes.get(f"{folder}data/{storage.key}")
        if held != storage.nbytes:
            raise WeightsError(
                f"storage {storage.key!r} claims {storage.nbytes} bytes; the file holds {held or 0}"
            )
    return found


def _of_legacy(content: bytes) -> Any:
    """Magic number, protocol and system, then the object and its storages' keys, as pickles."""
    reader = _Reader(content)
    if reader.load() != _MAGIC or reader.load() != _PROTOCOL:
        raise WeightsError("a pickle that torch.save did not write")
    reader.load()
    found = reader.load()
    keys = reader.load()
    if type(keys) is not list or sorted(keys) != sorted(reader.storages):
        raise WeightsError(
            f"its list of storages names others than its tensors: {reprlib.repr(keys)}"
        )
    left = memoryview(content)[reader.position :]
    for key in keys:
        storage = reader.storages[key]
        if int.from_bytes(left[:8], "little") != storage.length:
            raise WeightsError(f"storage {key!r} claims {storage.length} values, and holds others")
        if len(left) < 8 + storage.nbytes:
            raise WeightsError(
                f"storage {key!r} claims {storage.nbytes} bytes; {len(left)} are left"
            )
        left = left[8 + storage.nbytes :]
    return found


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

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch/serialization.py, MAGIC_NUMBER


def _check_keys(keys: list[Any]) -> None:
    """Keys are hashed, and tuples of tuples of tuples can take for ever."""
    for key in keys:
        if type(key) not in (str, int):
            raise WeightsError(f"keys must be text or whole. Received: {reprlib.repr(key)}")


# The reader in Python, not the one in C: it keeps its memo in a dict (a single opcode makes the
# one in C allocate gigabytes), and its table of opcodes can be cut down.
class _Reader(pickle._Unpickler):
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
