"""Rounding, imitated: values moved by one unit in the last place, images in another order.

As in Monte Carlo arithmetic (D. S. Parker, "Monte Carlo Arithmetic", 1997), a program is run again
on inputs that differ only as rounding makes them differ.
"""

from __future__ import annotations

import math

import numpy as np

from pymobilenet.philox import Stream, permutation, raw_words
from pymobilenet.weights.state import State


def distance(value: np.ndarray, reference: np.ndarray) -> float:
    """Return the norm of the difference over the norm of the reference, in float64.

    Both are divided by the largest value of the reference first, so that squares of tiny second
    moments do not underflow.

    Args:
        value: An array of any shape and dtype.
        reference: An array of the same shape.

    Returns:
        0 where both are zero. Infinity where only the reference is zero, where a value is not
        finite, or where the shapes differ.
    """
    if np.shape(value) != np.shape(reference):
        return float("inf")
    value = np.asarray(value, np.float64).ravel()
    reference = np.asarray(reference, np.float64).ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        difference = value - reference
        if not difference.any():
            return 0.0
        scale = max(float(np.maximum.reduce(reference)), -float(np.minimum.reduce(reference)))
        if scale == 0:
            return float("inf")
        norm = _scaled_norm(difference, scale, out=difference)
        result = norm / _scaled_norm(reference, scale, out=difference)
    return result if math.isfinite(result) else float("inf")


def _scaled_norm(values: np.ndarray, scale: float, out: np.ndarray) -> float:
    """Return the norm of the values over `scale`, which is computed in `out`.

    By pairwise summation: starting BLAS threads costs more than the sum.
    """
    np.divide(values, scale, out=out)
    return math.sqrt(np.add.reduce(np.square(out, out=out)))


def draw_order(draw: int, step: int, count: int, micro_batches: int = 1) -> np.ndarray:
    """Return a random order (N,) of a batch's images, each of which stays in its micro-batch.

    An image in another micro-batch would change the batch statistics of both.

    Args:
        draw: The number of the draw.
        step: The step that takes the batch.
        count: Images in the batch, N.
        micro_batches: Equal slices that the step takes one after the other.
    """
    words = np.split(raw_words(draw, Stream.PROBE, 1, step, count), micro_batches)
    return np.concatenate([k * len(part) + permutation(part) for k, part in enumerate(words)])


def move_parameters(state: State, draw: int) -> State:
    """Move every parameter by one unit in the last place; statistics and moments are unchanged.

    Args:
        state: Name -> array.
        draw: The number of the draw.

    Returns:
        A new state; unchanged arrays are not copied.
    """
    return {
        name: tensor
        if "running_" in name or name.startswith("optimizer.")
        else move_ulps(tensor, draw, index)
        for index, (name, tensor) in enumerate(state.items())
    }


def move_ulps(values: np.ndarray, draw: int, index: int) -> np.ndarray:
    """Move each value by one unit in the last place, up or down at random; 0 is unchanged.

    Args:
        values: Floating-point values of any shape.
        draw: The number of the draw, which is the seed of the random bits.
        index: The index of the array among those that one draw moves.

    Returns:
        A new array of the same shape and dtype.
    """
    words = raw_words(draw, Stream.PROBE, 2, index, -(-values.size // 64))
    up = np.unpackbits(words.view(np.uint8))[: values.size]
    flat = values.ravel()
    if values.dtype.itemsize > 8 or not (values.dtype.isnative and np.isfinite(flat).all()):
        towards = np.where(up, np.inf, -np.inf).astype(values.dtype)
        return np.where(flat == 0, flat, np.nextafter(flat, towards)).reshape(values.shape)
    # The bits of finite numbers are ordered as their absolute values: one more is the next one.
    bits = flat.view(f"i{values.dtype.itemsize}")
    step = 2 * up.view(np.int8) - 1
    np.negative(step, out=step, where=bits < 0)
    step *= flat != 0
    return (bits + step).view(values.dtype).reshape(values.shape)
