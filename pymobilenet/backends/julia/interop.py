"""Julia arrays as NumPy views, and Julia errors as Python exceptions."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from pymobilenet.errors import JuliaError


def view(array: Any) -> np.ndarray:
    """A NumPy view of a Julia array, its axes reversed: C order over the same memory."""
    return np.asarray(array).T


def pairs(vector: Any) -> Iterator[tuple[str, np.ndarray]]:
    """(name, view) of each of a Julia vector of ``name => array``."""
    return ((str(name), view(array)) for name, array in vector)


class JuliaArrays(Mapping[str, np.ndarray]):
    """The views of a Julia vector of ``name => array``, made when one is first asked for."""

    def __init__(self, vector: Any) -> None:
        self._vector = vector

    @cached_property
    def _views(self) -> dict[str, np.ndarray]:
        return dict(pairs(self._vector))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


class FrozenCall:
    """A frozen model, called with addresses alone: juliacall makes an object of each argument,
    which takes as long as a small net does.

    `entry` is a `FrozenCall` of MobileNets.jl, for images of `dtype`; ``entry(images)`` returns
    (N, classes).
    """

    _SIGNATURE = ctypes.PYFUNCTYPE(
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_ssize_t),
    )
    """Of a call that keeps Python's lock: Julia's collector may let go of Python's objects."""

    def __init__(
        self, entry: Any, addresses: tuple[int, int], classes: int, dtype: np.dtype
    ) -> None:
        self._entry, self._classes, self._dtype = entry, classes, dtype
        self._call, self._at = self._SIGNATURE(addresses[0]), addresses[1]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        count, _, height, width = images.shape
        scores = np.empty((count, self._classes), self._dtype)
        shape = (ctypes.c_ssize_t * 3)(count, height, width)
        if self._call(self._at, images.ctypes.data, scores.ctypes.data, shape):
            raise JuliaError(f"Julia: {self._entry.message}")
        return scores


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn an error of Julia's into a `JuliaError` that keeps its text."""
    import juliacall

    try:
        yield
    except juliacall.JuliaError as error:
        raise JuliaError(f"Julia: {error}") from error
