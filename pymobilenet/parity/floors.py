"""The noise floor: how far apart two correct programs are, measured tensor by tensor.

How much rounding moves a tensor is a property of the net and the batch, not a constant. It is
measured as in Monte Carlo arithmetic (D. S. Parker, "Monte Carlo Arithmetic", 1997; the tools
Verificarlo and CADNA): the same program runs again on inputs that are the same in exact arithmetic
or as good as the same, and its results are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.parity.observe import FREE, UNJUDGED, Key, Observations, SharedMasks, observe
from pymobilenet.parity.scenario import Inputs
from pymobilenet.philox import Stream, permutation, raw_words
from pymobilenet.weights import State

FIRST_DRAWS = 1
DRAWS = 5
MORE_DRAWS = 20
WIDEST = 10.0
"""Another program's draws raise a leader's floor at most so many times: what of a fault does not
repeat, as a race does not, would otherwise count as that program's noise and hide the rest."""
LEAST_ULPS = 16


def distance(value: np.ndarray, reference: np.ndarray) -> float:
    """Norm of the difference over the norm of the reference, in float64.

    0 where both are zero; infinite where only the reference is, where a value is not finite, or
    where the shapes differ. Both are divided by the largest value of the reference first, so that
    no square of a tiny second moment underflows and looks like none.
    """
    if np.shape(value) != np.shape(reference):
        return float("inf")
    value = np.asarray(value, np.float64).ravel()
    reference = np.asarray(reference, np.float64).ravel()
    if not (np.isfinite(value).all() and np.isfinite(reference).all()):
        return float("inf")
    if np.array_equal(value, reference):
        return 0.0
    scale = np.abs(reference).max()
    if scale == 0:
        return float("inf")
    with np.errstate(over="ignore"):
        return _norm((value - reference) / scale) / _norm(reference / scale)


def _norm(values: np.ndarray) -> float:
    """Summed pairwise, and not by BLAS, whose threads cost more here than they compute."""
    return math.sqrt(np.square(values).sum())


def least(dtype: np.dtype | str) -> float:
    """No floor is below 16 units in the last place of the tensor's norm."""
    return LEAST_ULPS * float(np.finfo(dtype).eps)


def most(dtype: np.dtype | str) -> float:
    """No floor is above this; what is may not be rounding, but a result that depends on the order
    of the images, and a leader with that fault would hide it in its own floors. Fewer than one
    tensor in a thousand may be so (`judge.Row.ratio`), as rounding does that too.

    In float32, where two steps at working rates take most digits, 30 floors must not reach the
    tensor's norm: zeros would pass. In float64 half the digits must be left.
    """
    return {"float32": 1 / 30, "float64": 2.0**-26}[np.dtype(dtype).name]


Floors = dict[Key, float]


@dataclass(frozen=True)
class Program:
    """What a model gave, and a function from the number of a draw to what it gives perturbed.

    Each draw permutes the images of every batch (mathematically nothing, numerically every sum)
    and moves images and parameters up or down by one unit in the last place, at random.
    """

    base: Observations
    draw: Callable[[int], Observations]


def floors(
    leader: Program, others: Iterable[Program], dtype: np.dtype | str, doubtful: Doubt
) -> Floors:
    """The floor of every key of the leader's: its largest move over `DRAWS` draws.

    Five draws are few, and the most exact program need not be the one that leads. So where the
    floors leave a verdict `doubtful`, they are measured again over `MORE_DRAWS` draws of every
    program, before anything counts as outside.
    """
    moves = _widest(leader, range(DRAWS))
    found = _bounded(moves, dtype)
    if not doubtful(found):
        return found
    more = _widest(leader, range(DRAWS, MORE_DRAWS))
    found = _bounded({key: max(move, more[key]) for key, move in moves.items()}, dtype)
    for other in others:
        its = _widest(other, range(MORE_DRAWS))
        found = {key: widened(floor, its.get(key, 0.0)) for key, floor in found.items()}
    return found


def lower_floors(leader: Program, dtype: np.dtype | str) -> Floors:
    """Floors of `FIRST_DRAWS` draws. More draws only raise them, so that what is within ten of
    these is within ten of what `floors` gives, unless a later draw moves it by more than `most`.
    """
    return _bounded(_widest(leader, range(FIRST_DRAWS)), dtype)


def widened(floor: Any, other: Any) -> Any:
    """A floor or envelope, raised to that of another program, by at most `WIDEST` times."""
    return np.maximum(floor, np.minimum(other, WIDEST * floor))


Doubt = Callable[[Floors], bool]
"""Tells whether a verdict by these floors could still be their own fault (`judge.doubtful`)."""


def _widest(program: Program, draws: Iterable[int]) -> Floors:
    """The largest distance of the draws from the program's base, key by key."""
    moves = dict.fromkeys(program.base, 0.0)
    for draw in draws:
        seen = program.draw(draw)
        for key, value in program.base.items():
            moved = distance(seen[key], value) if key in seen else float("inf")
            moves[key] = max(moves[key], moved)
    return moves


def _bounded(moves: Floors, dtype: np.dtype | str) -> Floors:
    """At least `least`; infinite, which nothing passes, where a move is more than `most`."""
    return {
        key: max(move, least(dtype)) if move <= most(dtype) else float("inf")
        for key, move in moves.items()
    }


def program(
    model: Model,
    inputs: Inputs,
    shared_masks: SharedMasks,
    base: Observations,
    keep: Callable[[Observations], Observations] = lambda seen: seen,
) -> Program:
    """The program that `model` is in a scenario, for levels 0 to 3.

    Args:
        base: What `model` itself gives in the scenario.
        keep: What becomes of the observations before they are compared; `base` has been through it.
    """

    def draw(number: int) -> Observations:
        moved, moved_masks, order = perturbed(inputs, shared_masks, number)
        return keep(unpermuted(observe(model, moved, moved_masks, free=False), order))

    judged = {k: v for k, v in base.items() if k.quantity not in (*FREE, *UNJUDGED)}
    return Program(judged, draw)


def with_free(found: Floors) -> Floors:
    """Loss and gradients without masks have the floors of those with masks."""
    masked = [key for key in found if key.level == 2 and key.quantity in ("loss", "grad")]
    return found | {Key(2, f"free_{key.quantity}", key.name): found[key] for key in masked}


def perturbed(
    inputs: Inputs, shared_masks: SharedMasks, draw: int
) -> tuple[Inputs, SharedMasks, np.ndarray]:
    """Inputs and masks of one draw, and the order (N,) its first batch was put into."""
    orders = [draw_order(draw, step, len(batch)) for step, batch in enumerate(inputs.images)]
    images = tuple(
        move_ulps(batch[order], draw, 1000 + step)
        for step, (batch, order) in enumerate(zip(inputs.images, orders, strict=True))
    )
    labels = tuple(batch[order] for batch, order in zip(inputs.labels, orders, strict=True))
    masks = {
        name: tuple(permuted(step, order) for step, order in zip(steps, orders, strict=True))
        for name, steps in shared_masks.masks.items()
    }
    state = move_parameters(inputs.state, draw)
    return Inputs(inputs.config, state, images, labels), SharedMasks(masks), orders[0]


def permuted(masks: Mapping[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    return {name: mask[order] for name, mask in masks.items()}


def unpermuted(seen: Observations, order: np.ndarray) -> Observations:
    """Put the activations' images back into their first order."""
    back = np.argsort(order)
    return {key: value[back] if key.level == 1 else value for key, value in seen.items()}


def draw_order(draw: int, step: int, count: int, parts: int = 1) -> np.ndarray:
    """An order (N,) of a batch's images, each within its own part: no other leaves norms alone."""
    words = np.split(raw_words(draw, Stream.PROBE, 1, step, count), parts)
    return np.concatenate([k * len(part) + permutation(part) for k, part in enumerate(words)])


def move_parameters(state: State, draw: int) -> State:
    """Every parameter moved by one unit in the last place; statistics and moments as they are."""
    return {
        name: tensor
        if "running_" in name or name.startswith("optimizer.")
        else move_ulps(tensor, draw, index)
        for index, (name, tensor) in enumerate(state.items())
    }


def move_ulps(values: np.ndarray, draw: int, index: int) -> np.ndarray:
    """Each value moved one unit in the last place, up or down by the bits of `draw`; 0 stays 0."""
    words = raw_words(draw, Stream.PROBE, 2, index, -(-values.size // 64))
    up = np.unpackbits(words.view(np.uint8))[: values.size].reshape(values.shape).astype(bool)
    towards = np.where(up, np.inf, -np.inf).astype(values.dtype)
    return np.where(values == 0, values, np.nextafter(values, towards))
