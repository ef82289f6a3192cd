"""An unpickler for the official CIFAR pickles, which supports only their content.

The files of `cifar-100-python` and `cifar-10-batches-py` were written by Python 2, protocol 2: a
dict of strings, integers, lists and one uint8 array. `pickle.Unpickler` reads them with a
`find_class` that knows the four globals of a NumPy array and calls neither NumPy nor anything else
on the pickle's behalf: inert objects describe an array, which is built here after checks. `pickle`
does not bound memory and time, so `pickletools` lists the opcodes before.

Source of the layout: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pymobilenet.errors import DataError

MAX_BYTES = 256 * 2**20
"""More than a file may hold. The largest official one, `train`, has 155 MB."""

MAX_TUPLES = 32
"""The official files have 6. Tuples of tuples that double are hashed for as long as 2^depth."""

_NAMES = (
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 SHORT_BINSTRING BINSTRING "
    "BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS "
    "APPEND APPENDS BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL REDUCE BUILD"
)
_OPCODES = frozenset(_NAMES.split())


def load_pickle(path: Path) -> dict[str, Any]:
    """Return the dict in an official CIFAR pickle.

    Its values are str, int, lists of them, and uint8 arrays of two axes (read-only).

    Args:
        path: The file.

    Raises:
        DataError: a file that is too large, truncated or malformed, that names any other global
            (the message names it), holds an array of another dtype, or is no dict with str keys.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: {size} bytes; an official pickle has at most {MAX_BYTES}")
    try:
        pickled = path.read_bytes()
        _check_opcodes(pickled)
        content = _Unpickler(pickled).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a malformed pickle can raise nearly anything
        raise DataError(
            f"{path} ({size} bytes): truncated, or not a pickle as the official ones are: "
            f"{type(error).__name__} {error}"
        ) from error
    if type(content) is not dict or not all(type(key) is str for key in content):
        raise DataError(f"{path}: must hold a dict with str keys. Received: {type(content)}")
    return {
        key: value.array(path, key) if type(value) is _Array else value
        for key, value in content.items()
    }


def _check_opcodes(pickled: bytes) -> None:
    """Refuse what makes `pickle` allocate or compute more than a pickle's size.

    Raises:
        ValueError: An opcode that no official file has; a place in the memo beyond those that were
            filled, up to which `pickle` would allocate; too many tuples.
    """
    tuples = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"opcode {opcode.name}")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and (argument or 0) > count:
            raise ValueError(f"place {argument} in a memo of at most {count}")
        tuples += opcode.name.startswith("TUPLE")
        if tuples > MAX_TUPLES:
            raise ValueError(f"more than {MAX_TUPLES} tuples")


class _Unpickler(pickle.Unpickler):
    """Reads a checked pickle; `find_class` admits the globals of a uint8 array."""

    def __init__(self, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled), encoding="latin1")
        self._encodable = len(pickled)
        self._globals = {**_GLOBALS, ("_codecs", "encode"): _Inert(self._encode)}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._globals[module, name]
        except KeyError:
            raise DataError(
                f"names the global {module}.{name}, which no official CIFAR file does"
            ) from None

    def _encode(self, text: Any, encoding: Any) -> bytes:
        if type(text) is not str or encoding != "latin1":
            raise DataError(f"bytes must be encoded as latin1. Received: {reprlib.repr(encoding)}")
        self._encodable -= len(text)
        if self._encodable < 0:
            raise DataError("encodes more bytes than the file has")
        return text.encode("latin1")


class _Inert:
    """What the pickle sees of a global: it can at most be called, with checked arguments."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise DataError("sets the state of a global")


class _Dtype:
    """Stands for numpy.dtype('uint8')."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or state[1:5] != ("|", None, None, None):
            raise DataError(f"dtype state must be that of uint8. Received: {reprlib.repr(state)}")


class _Array:
    """Stands for a numpy.ndarray until its state has been read and checked."""

    __slots__ = ("_bytes", "_order", "_shape")

    def __init__(self) -> None:
        self._shape: tuple[int, int] = (0, 0)
        self._bytes = b""
        self._order: Literal["C", "F"] = "C"

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran_order, content = state
        if type(dtype) is not _Dtype or type(content) not in (str, bytes):
            raise DataError("arrays must be uint8, given by their bytes")
        if type(shape) is not tuple or len(shape) != 2 or not all(type(n) is int for n in shape):
            raise DataError(f"arrays must have two axes. Received: shape {reprlib.repr(shape)}")
        self._bytes = content.encode("latin1") if type(content) is str else content
        self._shape = shape
        self._order = "F" if fortran_order else "C"

    def array(self, path: Path, key: str) -> np.ndarray:
        rows, columns = self._shape
        if rows < 0 or columns < 0 or rows * columns != len(self._bytes):
            raise DataError(
                f"{path}: array {key!r} of shape {self._shape} has {len(self._bytes)} bytes"
            )
        return np.frombuffer(self._bytes, np.uint8).reshape(self._shape, order=self._order)


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
    if subtype is not _NDARRAY or shape != (0,) or code not in ("b", b"b"):
        raise DataError(f"_reconstruct of an array other than an empty one: {reprlib.repr(shape)}")
    return _Array()


def _dtype(code: Any, *_align_and_copy: Any) -> _Dtype:
    if code not in ("u1", b"u1"):
        raise DataError(f"arrays must be uint8 ('u1'). Received: dtype {reprlib.repr(code)}")
    return _Dtype()


def _refuse(*_arguments: Any) -> None:
    raise DataError("calls numpy.ndarray")


_NDARRAY = _Inert(_refuse)
_GLOBALS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Inert(_dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Inert(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Inert(_reconstruct),
}
