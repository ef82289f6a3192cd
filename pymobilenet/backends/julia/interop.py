"""Julia arrays as NumPy views, and Julia errors as Python exceptions."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from pymobilenet.backends.julia.calls import Calls, Result
from pymobilenet.backends.julia.threads import THREADS
from pymobilenet.errors import JuliaError, WeightsError


def view(array: Any) -> np.ndarray:
    """Return a NumPy view of a Julia array, with its axes reversed: C order over the same memory.

    Args:
        array: A Julia ``Array``, which the view keeps alive.
    """
    return np.asarray(array).T


def named_views(vector: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Iterate over a Julia vector of ``name => array`` as (name, NumPy view).

    Args:
        vector: A Julia ``Vector`` of pairs.
    """
    return ((str(name), view(array)) for name, array in vector)


class FrozenCall:
    """Call a frozen model through a C function pointer instead of juliacall.

    juliacall wraps each argument in an object, which takes as long as a small model's forward pass.
    A call takes images (N, C, H, W), C-contiguous and of `dtype`, and returns logits (N, classes).

    Calls of several threads wait for each other.

    Args:
        calls: Of the backend.
        frozen: Of the operation ``freeze``: a ``FrozenCall`` of MobileNets.jl and the addresses of
            the C function and of the object it is called with.
        classes: Number of classes.
        dtype: float32 or float64, the dtype of images and logits.
    """

    _SIGNATURE = ctypes.CFUNCTYPE(  # releases the GIL
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_ssize_t),
    )

    def __init__(self, calls: Calls, frozen: Result, classes: int, dtype: np.dtype) -> None:
        self._calls, self._handle, self._classes, self._dtype = calls, frozen.handle, classes, dtype
        function, self._object = map(int, frozen.message.split())
        self._function = self._SIGNATURE(function)
        self._lock = threading.Lock()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the logits (N, classes) of images.

        Args:
            images: (N, C, H, W), C-contiguous, of the model's dtype.

        Raises:
            JuliaError: The Julia function throws, for example because images are not finite.
        """
        count, _, height, width = images.shape
        logits = np.empty((count, self._classes), self._dtype)
        shape = (ctypes.c_ssize_t * 3)(count, height, width)
        addresses = self._object, images.ctypes.data, logits.ctypes.data
        with self._lock:
            if THREADS.run(self._function, *addresses, shape):
                message = self._calls("frozen_message", [self._handle]).message
                raise JuliaError(f"Julia: {message}")
        return logits


_juliacall_lock = threading.RLock()
"""Held while juliacall is used. It runs Python code inside Julia: a second thread could take the
GIL there, and wait in Julia's garbage collector for the first, which waits for the GIL."""


@contextlib.contextmanager
def translate_julia_errors() -> Iterator[None]:
    """Use juliacall inside a ``with`` block, one thread at a time.

    Raises:
        WeightsError: MobileNets.jl has refused a file, which needs no stack trace.
        JuliaError: Julia has thrown another exception; with its text.
        BackendUnavailable: This process is a fork of the one that started Julia.
    """
    import juliacall

    THREADS.check()
    with _juliacall_lock:
        try:
            yield
        except juliacall.JuliaError as error:
            if str(juliacall.Main.nameof(juliacall.Main.typeof(error.exception))) == "WeightsError":
                raise WeightsError(str(error.exception.msg)) from None
            raise JuliaError(f"Julia: {error}") from error
