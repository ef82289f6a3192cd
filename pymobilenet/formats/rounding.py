"""How far rounding moves a net's outputs: the bound within which a sample must be reproduced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.weights import State
from pymobilenet.weights.perturb import distance, draw_order, move_parameters, move_ulps

DRAWS = 5
"""Runs with moved inputs and weights; as in `pymobilenet.parity.tolerances`."""

ALLOWED = 30.0
"""Floors that a reproduced output may be off by: `pymobilenet.parity.tolerances.MAX_RATIO`."""

MIN_ULPS = 16
"""No floor is below so many units in the last place: `tolerances.MIN_FLOOR_ULPS`."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) of logits of the same shape."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def noise_floors(
    config: MobileNetConfig,
    state: State,
    images: np.ndarray,
    names: Sequence[str],
    precision: np.dtype | str,
    is_probability: bool = False,
) -> dict[str, float]:
    """Return how far rounding moves a net's activations, each relative to its norm.

    The net is run in the dtype of its weights, again and again with the images in another order and
    every input and weight moved by one unit in the last place.

    Args:
        config: The net.
        state: Its weights, float32 or float64.
        images: (N, C, H, W).
        names: Names of activations, as in `Model.activations`.
        precision: The dtype in which the original's outputs were stored; a coarser one than the
            weights' raises the floor.
        is_probability: Whether the logits are compared as probabilities.
    """
    dtype = state["classifier.weight"].dtype
    images = np.ascontiguousarray(images, dtype)
    base = _activations(config, state, images, names, is_probability)
    moves = dict.fromkeys(names, 0.0)
    for draw in range(DRAWS):
        order = draw_order(draw, 0, len(images))
        moved = move_ulps(images[order], draw, len(state))
        values = _activations(config, move_parameters(state, draw), moved, names, is_probability)
        for name in names:
            moves[name] = max(moves[name], distance(values[name], base[name][order]))
    ulp = max(float(np.finfo(dtype).eps), float(np.finfo(precision).eps))
    return {name: max(move, MIN_ULPS * ulp) for name, move in moves.items()}


def _activations(
    config: MobileNetConfig,
    state: State,
    images: np.ndarray,
    names: Sequence[str],
    is_probability: bool,
) -> Mapping[str, np.ndarray]:
    values = backend("torch").from_state(config, state).activations(images)
    if is_probability:
        values = {**values, "logits": softmax(values["logits"])}
    return {name: np.asarray(values[name], np.float64) for name in names}
