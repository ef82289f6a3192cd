"""Julia arrays as NumPy views, and Julia errors as Python exceptions."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

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


class JuliaArrays(Mapping[str, np.ndarray]):
    """A read-only mapping over a Julia vector of ``name => array``.

    The NumPy views are created on first access.
    """

    def __init__(self, vector: Any) -> None:
        self._vector = vector

    @cached_property
    def _views(self) -> dict[str, np.ndarray]:
        return dict(named_views(self._vector))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


class FrozenCall:
    """Call a frozen model through a C function pointer instead of juliacall.

    juliacall wraps each argument in an object, which takes as long as a small model's forward pass.
    A call takes images (N, C, H, W), C-contiguous and of `dtype`, and returns logits (N, classes).

    Args:
        julia_call: A ``FrozenCall`` of MobileNets.jl, which is kept alive.
        addresses: The addresses of the C function and of the object it is called with.
        classes: Number of classes.
        dtype: float32 or float64, the dtype of images and logits.
    """

    _SIGNATURE = ctypes.PYFUNCTYPE(
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_ssize_t),
    )
    """PYFUNCTYPE holds the GIL during the call: Julia's garbage collector may release Python
    objects."""

    def __init__(
        self, julia_call: Any, addresses: tuple[int, int], classes: int, dtype: np.dtype
    ) -> None:
        self._julia_call, self._classes, self._dtype = julia_call, classes, dtype
        self._function, self._object_address = self._SIGNATURE(addresses[0]), addresses[1]

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
        if self._function(self._object_address, images.ctypes.data, logits.ctypes.data, shape):
            raise JuliaError(f"Julia: {self._julia_call.message}")
        return logits


@contextlib.contextmanager
def translate_julia_errors() -> Iterator[None]:
    """Raise errors of Julia as `JuliaError` with Julia's text, inside a ``with`` block.

    Raises:
        WeightsError: MobileNets.jl has refused a file, which needs no stack trace.
        JuliaError: Julia has thrown another exception.
    """
    import juliacall

    try:
        yield
    except juliacall.JuliaError as error:
        if str(juliacall.Main.nameof(juliacall.Main.typeof(error.exception))) == "WeightsError":
            raise WeightsError(str(error.exception.msg)) from None
        raise JuliaError(f"Julia: {error}") from error
