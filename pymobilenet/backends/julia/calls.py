"""Calls of MobileNets.jl through one C function (julia/src/c_calls.jl), from any thread.

A call releases the GIL, and Julia adopts a thread that it does not know. Objects stay in Julia
behind handles: a juliacall object would be released by whichever thread runs Python's garbage
collector.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from pymobilenet.errors import BackendUnavailable, JuliaError

T = TypeVar("T")

DTYPES = tuple(map(np.dtype, ("float32", "float64", "int64", "uint8")))
"""``C_TYPES`` of c_calls.jl."""

MAX_AXES = 4

MAX_ADOPTED_THREADS = 64
"""Threads that call Julia directly. Julia keeps 0.7 MB of an adopted thread even after its end, so
later threads hand their calls over to `WORKERS` threads."""

WORKERS = 8

EXIT_SECONDS = 10.0
"""How long the end of the process waits for calls that are running."""


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

    def __init__(self, tensor: CTensor, handle: Handle | None) -> None:
        self._handle = handle
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data, False),
            "shape": tuple(tensor.sizes[: tensor.axes])[::-1],
            "typestr": DTYPES[tensor.type].str,
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
        self._outputs = [call.outputs[k] for k in range(call.output_count)]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> view of the Julia array, in C order over the same memory."""
        return {
            tensor.name.decode(): np.asarray(JuliaMemory(tensor, self.handle))
            for tensor in self._outputs
        }


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


class Runtime:
    """The threads of this process that run Julia code, and whether they may.

    A fork has none of Julia's threads, so every call in it is refused.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._local = threading.local()
        self._adopted = 0
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._closed = ""
        self._workers: ThreadPoolExecutor | None = None
        self.immortal_in_forks: list[Any] = []
        """Objects of juliacall: Julia code would run when a fork that ends deallocates them."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close_fork)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a C function of Julia's in this thread or, where it is one too many, in a worker."""
        if self._closed:
            self.check()
        if not getattr(self._local, "is_adopted", False) and not self._adopt():
            return self._hand_over(function, arguments)
        thread = threading.get_ident()
        self._running.add(thread)
        try:
            return function(*arguments)
        finally:
            self._running.discard(thread)

    def check(self) -> None:
        """Raise `BackendUnavailable` in a fork, and while the process ends.

        While it ends, other threads than the main one wait for the end, as Python's daemon threads
        do.
        """
        if not self._closed:
            return
        is_main = threading.current_thread() is threading.main_thread()
        if self._process == os.getpid() and not is_main:
            threading.Event().wait()
        raise BackendUnavailable(self._closed)

    def close(self) -> bool:
        """Refuse further calls and wait for those that are running; return whether none is left."""
        self._closed = self._closed or "Julia is not available while the process ends"
        if self._process != os.getpid():
            return False
        waited = threading.Event()
        for _ in range(int(EXIT_SECONDS / 0.02)):
            if not self._running:
                return True
            waited.wait(0.02)
        return not self._running

    def _adopt(self) -> bool:
        with self._lock:
            if self._adopted >= MAX_ADOPTED_THREADS:
                return False
            self._adopted += 1
        self._local.is_adopted = True
        return True

    def _hand_over(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(WORKERS, "julia", self._adopt_worker)
        return self._workers.submit(self.run, function, *arguments).result()

    def _adopt_worker(self) -> None:
        self._local.is_adopted = True

    def _close_fork(self) -> None:
        for julia_object in self.immortal_in_forks:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(julia_object))
        self._closed = (
            "Julia was started before this process was forked, and its threads are not in the "
            'fork. Start processes with multiprocessing.get_context("spawn") or "forkserver", or '
            "use the Julia backend in the first process only"
        )


RUNTIME = Runtime()


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
            inputs: C-contiguous arrays of `DTYPES`, with at most four axes.
            named: Further inputs, by name.
            number, flag, text: What else the operation takes.

        Raises:
            JuliaError: Julia has thrown an exception.
            BackendUnavailable: This process is a fork, or ends.
        """
        if self._dropped:
            self._drop()
        return self._call(operation, objects, inputs, named or {}, number, flag, text)

    def _call(
        self,
        operation: str,
        objects: Sequence[Handle | None] = (),
        inputs: Sequence[np.ndarray] = (),
        named: Mapping[str, np.ndarray] | None = None,
        number: float = 0.0,
        flag: bool = False,
        text: str = "",
    ) -> Result:
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
        status = RUNTIME.run(self._function, call)
        result = Result(call, self._dropped)
        if status:
            raise JuliaError(f"Julia: {result.message}")
        return result

    def handle(self, number: int) -> Handle:
        """Take over a handle that Julia has made."""
        return Handle(number, self._dropped)

    def _drop(self) -> None:
        handles = []
        with contextlib.suppress(IndexError):
            while True:
                handles.append(self._dropped.popleft())
        if handles:
            self._call("drop", inputs=[np.array(handles, np.int64)])


def _describe(tensor: CTensor, array: np.ndarray) -> None:
    tensor.data, tensor.type = array.ctypes.data, DTYPES.index(array.dtype)
    tensor.axes = array.ndim
    tensor.sizes[: array.ndim] = array.shape[::-1]
