"""The peak speed of the machine: products of large matrices in each library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pymobilenet.backends import backend

SIDE = 1536
REPEATS = 7


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


def _best(job: Callable[[], Any]) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    return min(seconds() for _ in range(REPEATS))
