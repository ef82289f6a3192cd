"""The noise floor: how far apart two correct programs are, measured tensor by tensor.

How much rounding moves a tensor is a property of the net and the batch, not a constant. It is
measured as in Monte Carlo arithmetic (D. S. Parker, "Monte Carlo Arithmetic", 1997; the tools
Verificarlo and CADNA): the same program runs again on inputs that are the same in exact arithmetic
or as good as the same, and its results are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.parity.observe import Guide, Key, Observations, observe
from pymobilenet.parity.scenario import Inputs
from pymobilenet.philox import Stream, permutation, raw_words
from pymobilenet.weights import State

DRAWS = 5
LEAST_ULPS = 16


def distance(value: np.ndarray, reference: np.ndarray) -> float:
    """Norm of the difference over the norm of the reference, in float64.

    0 where both are zero; infinite where only the reference is, where a value is not finite, or
    where the shapes differ.
    """
    if np.shape(value) != np.shape(reference):
        return float("inf")
    reference = np.asarray(reference, np.float64).ravel()
    difference = np.linalg.norm(np.asarray(value, np.float64).ravel() - reference)
    if difference == 0:
        return 0.0
    size = np.linalg.norm(reference)
    return float(difference / size) if size > 0 and np.isfinite(difference) else float("inf")


def least(dtype: np.dtype | str) -> float:
    """No floor is below 16 units in the last place of the tensor's norm."""
    return LEAST_ULPS * float(np.finfo(dtype).eps)


def floors(
    model: Model, inputs: Inputs, guide: Guide, keep: Callable[[Observations], Observations]
) -> dict[Key, float]:
    """The floor of every key `observe` gives: its largest move over `DRAWS` perturbed runs.

    Each draw permutes the images of every batch (mathematically nothing, numerically every sum)
    and moves images and parameters up or down by one unit in the last place, at random. `keep`
    is what becomes of the observations before they are compared.
    """
    base = keep(observe(model, inputs, guide, free=False))
    largest = dict.fromkeys(base, least(inputs.dtype))
    for draw in range(DRAWS):
        moved, moved_guide, order = perturbed(inputs, guide, draw)
        seen = keep(unpermuted(observe(model, moved, moved_guide, free=False), order))
        for key, value in seen.items():
            largest[key] = max(largest[key], distance(value, base[key]))
    masked = [key for key in base if key.quantity in ("loss", "grad")]
    return largest | {Key(2, f"free_{key.quantity}", key.name): largest[key] for key in masked}


def perturbed(inputs: Inputs, guide: Guide, draw: int) -> tuple[Inputs, Guide, np.ndarray]:
    """Inputs and masks of one draw, and the order (N,) its first batch was put into."""
    orders = [draw_order(draw, step, len(batch)) for step, batch in enumerate(inputs.images)]
    images = tuple(
        move_ulps(batch[order], draw, 1000 + step)
        for step, (batch, order) in enumerate(zip(inputs.images, orders, strict=True))
    )
    labels = tuple(batch[order] for batch, order in zip(inputs.labels, orders, strict=True))
    masks = {
        name: tuple(permuted(step, order) for step, order in zip(steps, orders, strict=True))
        for name, steps in guide.masks.items()
    }
    state = move_parameters(inputs.state, draw)
    return Inputs(inputs.config, state, images, labels), Guide(masks), orders[0]


def permuted(masks: Mapping[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    return {name: mask[order] for name, mask in masks.items()}


def unpermuted(seen: Observations, order: np.ndarray) -> Observations:
    """Put the activations' images back into their first order."""
    back = np.argsort(order)
    return {key: value[back] if key.level == 1 else value for key, value in seen.items()}


def draw_order(draw: int, step: int, count: int) -> np.ndarray:
    return permutation(raw_words(draw, Stream.PROBE, 1, step, count))


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
