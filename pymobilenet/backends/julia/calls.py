"""Calls of MobileNets.jl through one C function (julia/src/c_calls.jl), from any thread.

A call releases the GIL, and Julia adopts a thread that it does not know. Objects stay in Julia
behind handles: a juliacall object would be released by whichever thread runs Python's garbage
collector.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from pymobilenet.backends.julia.threads import THREADS
from pymobilenet.errors import JuliaError

DTYPES = tuple(map(np.dtype, ("float32", "float64", "int64", "uint8")))
"""``C_TYPES`` of c_calls.jl."""

TYPE_NUMBERS = {dtype: number for number, dtype in enumerate(DTYPES)}
TYPE_TEXTS = [dtype.str for dtype in DTYPES]

MAX_AXES = 8

TENSOR = struct.Struct(f"@PPqq{MAX_AXES}q")
"""A `CTensor`, of which many are read faster by this than by their fields."""


class CTensor(ctypes.Structure):
    """``CTensor`` of c_calls.jl; `sizes` are in Julia's order."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("type", ctypes.c_int64),
        ("axes", ctypes.c_int64),
        ("sizes", ctypes.c_int64 * MAX_AXES),
    )


class CCall(ctypes.Structure):
    """``CCall`` of c_calls.jl."""

    _fields_ = (
        ("operation", ctypes.c_int64),
        ("objects", ctypes.c_int64 * 4),
        ("number", ctypes.c_double),
        ("flag", ctypes.c_int64),
        ("text", ctypes.c_char_p),
        ("input_count", ctypes.c_int64),
        ("inputs", ctypes.POINTER(CTensor)),
        ("result", ctypes.c_int64),
        ("value", ctypes.c_double),
        ("output_count", ctypes.c_int64),
        ("outputs", ctypes.POINTER(CTensor)),
        ("message", ctypes.c_char_p),
    )


class Handle:
    """A Julia object, which is dropped when Python drops the handle."""

    __slots__ = ("_dropped", "number")

    def __init__(self, number: int, dropped: deque[int]) -> None:
        self.number, self._dropped = number, dropped

    def __del__(self) -> None:
        self._dropped.append(self.number)


class JuliaMemory:
    """The memory of a Julia array, as NumPy's array interface; keeps its handle."""

    __slots__ = ("__array_interface__", "_handle")

    def __init__(
        self, data: int, type_number: int, sizes: list[int], handle: Handle | None
    ) -> None:
        self._handle = handle
        self.__array_interface__ = {
            "version": 3,
            "data": (data, False),
            "shape": tuple(sizes[::-1]),
            "typestr": TYPE_TEXTS[type_number],
        }


class Result:
    """What a call returns.

    Attributes:
        value (float): A number, such as the loss.
        handle (Handle): Of the object that was made.
        message (str): A text.
    """

    def __init__(self, call: CCall, dropped: deque[int]) -> None:
        self.value: float = call.value
        self.handle = Handle(call.result, dropped) if call.result else None
        self.message = (call.message or b"").decode(errors="replace")
        size = call.output_count * TENSOR.size
        self._outputs = list(
            TENSOR.iter_unpack(ctypes.string_at(call.outputs, size) if size else b"")
        )

    @cached_property
    def views(self) -> list[np.ndarray]:
        """Views of the Julia arrays, in C order over the same memory."""
        return [
            np.asarray(JuliaMemory(data, type_number, sizes[:axes], self.handle))
            for _, data, type_number, axes, *sizes in self._outputs
        ]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> view of each array."""
        names = (ctypes.string_at(name).decode() for name, *_ in self._outputs)
        return dict(zip(names, self.views, strict=True))


class LazyArrays(Mapping[str, np.ndarray]):
    """The arrays of a result, whose views are created on first access."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def __getitem__(self, name: str) -> np.ndarray:
        return self._result.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._result.arrays)

    def __len__(self) -> int:
        return len(self._result.arrays)


class Calls:
    """The C function of c_calls.jl.

    Args:
        address: Of the function.
        names: Of its operations, in the order of their numbers.
    """

    def __init__(self, address: int, names: Sequence[str]) -> None:
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(CCall))  # releases the GIL
        self._function = prototype(address)
        self._numbers = {name: number for number, name in enumerate(names)}
        self._dropped: deque[int] = deque()

    def __call__(
        self,
        operation: str,
        objects: Sequence[Handle | None] = (),
        inputs: Sequence[np.ndarray] = (),
        named: Mapping[str, np.ndarray] | None = None,
        number: float = 0.0,
        flag: bool = False,
        text: str = "",
    ) -> Result:
        """Call an operation of c_calls.jl.

        Args:
            operation: Its name.
            objects: What it is applied to.
            inputs: C-contiguous arrays of `DTYPES`, with at most `MAX_AXES` axes.
            named: Further inputs, by name.
            number: A number that the operation takes.
            flag: The same, a boolean.
            text: The same, a text.

        Raises:
            JuliaError: Julia has thrown an exception.
            BackendUnavailable: This process is a fork, or ends.
        """
        if self._dropped:
            self._drop()
        named = named or {}
        count = len(inputs) + len(named)
        tensors = (CTensor * count)()
        for tensor, array in zip(tensors, (*inputs, *named.values()), strict=True):
            _describe(tensor, array)
        for tensor, name in zip(tensors[len(inputs) :], named, strict=True):
            tensor.name = name.encode()
        call = CCall(
            operation=self._numbers[operation],
            number=number,
            flag=flag,
            text=text.encode(),
            input_count=count,
            inputs=tensors,
        )
        for place, handle in enumerate(objects):
            call.objects[place] = handle.number if handle is not None else 0
        status = THREADS.run(self._function, call)
        result = Result(call, self._dropped)
        if status:
            raise JuliaError(f"Julia: {result.message}")
        return result

    def handle(self, number: int) -> Handle:
        """Take over a handle that Julia has made.

        Args:
            number: The handle's number.

        Returns:
            A handle that Julia drops when it is collected.
        """
        return Handle(number, self._dropped)

    def _drop(self) -> None:
        handles = []
        with contextlib.suppress(IndexError):  # another thread may have been faster
            while True:
                handles.append(self._dropped.popleft())
        if handles:
            self("drop", inputs=[np.array(handles, np.int64)])


def _describe(tensor: CTensor, array: np.ndarray) -> None:
    tensor.data, tensor.type = array.ctypes.data, TYPE_NUMBERS[array.dtype]
    tensor.axes = array.ndim
    tensor.sizes[: array.ndim] = array.shape[::-1]
