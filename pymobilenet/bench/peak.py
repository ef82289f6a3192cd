"""The peaks of the machine: products of large matrices in each library, and memory bandwidth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.machine import available_bytes, cache_bytes

SIDE = 1536
REPEATS = 7

TIMES_CACHE = 4
"""Each array of the triad is at least as many times as large as the last caches, as STREAM requires
(https://www.cs.virginia.edu/stream/ref.html), so that none of it is left in them."""

UNKNOWN_CACHE = 64 * 2**20
"""Bytes of cache where the system does not tell."""

MEMORY_SHARE = 0.5
"""The fraction of the available memory that the three arrays may take."""


class Bandwidth(NamedTuple):
    """The measured bandwidth of the memory.

    Attributes:
        gbytes_per_second: Billions of bytes per second.
        array_bytes: The size of each of the three arrays.
        cache_bytes: The size of the last caches; None if it is unknown.
    """

    gbytes_per_second: float
    array_bytes: int
    cache_bytes: int | None

    @property
    def exceeds_caches(self) -> bool:
        """Whether the arrays are as large as `TIMES_CACHE` requires."""
        return self.array_bytes >= TIMES_CACHE * (self.cache_bytes or UNKNOWN_CACHE)


class Peaks(NamedTuple):
    """What the processor and its memory can do.

    Attributes:
        library: The backend whose matrix products are the fastest.
        gflops: GFLOP/s of its products.
        bandwidth: Of the memory.
    """

    library: str
    gflops: float
    bandwidth: Bandwidth


def gemm_peak(names: Iterable[str]) -> dict[str, float]:
    """Measure float32 products of square matrices.

    Args:
        names: The names of backends.

    Returns:
        Backend -> GFLOP/s of the best of `REPEATS` products.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, SIDE)).astype(np.float32) for _ in range(2))
    return {name: 2e-9 * SIDE**3 / _best(backend(name).product(a, b)) for name in names}


def memory_bandwidth() -> Bandwidth:
    """Measure the triad of STREAM, ``a = b + 3 * c`` over float32 arrays, in torch's threads.

    Two arrays are read and one is written. As in STREAM, that is all that counts, although a
    processor may read the third before it writes it.

    Returns:
        The best of `REPEATS` passes. Where memory is short, the arrays are smaller than
        `TIMES_CACHE` requires.
    """
    from pymobilenet.backends.torch.timing import triad

    caches = cache_bytes()
    size = TIMES_CACHE * (caches or UNKNOWN_CACHE)
    if (available := available_bytes()) is not None:
        size = min(size, int(MEMORY_SHARE * available) // 3)
    count = size // 4
    return Bandwidth(12e-9 * count / _best(triad(count)), 4 * count, caches)


def measure_peaks(gemm: Mapping[str, float]) -> Peaks:
    """Measure the memory bandwidth; NumPy and torch also compete for the fastest matrix product.

    Args:
        gemm: Backend -> GFLOP/s of matrix products, of those already measured.

    Returns:
        The fastest library, its GFLOP/s, and the bandwidth of the memory.
    """
    others = [name for name in ("torch", "numpy") if name not in gemm]
    speeds = {**gemm, **gemm_peak(others)}
    best = max(speeds, key=lambda name: speeds[name])
    return Peaks(best, speeds[best], memory_bandwidth())


def _best(job: Callable[[], Any]) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    return min(seconds() for _ in range(REPEATS))
