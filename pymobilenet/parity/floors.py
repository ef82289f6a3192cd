"""Noise floors: how far rounding alone moves each tensor of a program.

How much rounding moves a tensor depends on the net and the batch. It is measured as in Monte Carlo
arithmetic (D. S. Parker, "Monte Carlo Arithmetic", 1997; the tools Verificarlo and CADNA): the same
program runs again on inputs that are equal in exact arithmetic, or differ by one unit in the last
place, and the largest change of each result is its floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.config import TrainConfig
from pymobilenet.parity.observe import (
    REPORTED_ONLY,
    UNMASKED,
    Key,
    Observations,
    observe,
)
from pymobilenet.parity.scenario import WORKING_RECIPES, Inputs
from pymobilenet.parity.tolerances import (
    DRAWS,
    FIRST_DRAWS,
    MAX_FLOOR,
    MAX_WIDENING,
    MIN_FLOOR_ULPS,
    MORE_DRAWS,
)
from pymobilenet.weights.perturb import distance, draw_order, move_parameters, move_ulps

IMAGES_INDEX = 1000
"""Index of the first step's images among the arrays that one draw moves; parameters come first."""


def min_floor(dtype: np.dtype | str) -> float:
    """Return the smallest floor in `dtype`: `MIN_FLOOR_ULPS` units in the last place."""
    return MIN_FLOOR_ULPS * float(np.finfo(dtype).eps)


def max_floor(dtype: np.dtype | str) -> float:
    """Return the largest floor in `dtype`, above which a tensor is lost (see `MAX_FLOOR`)."""
    return MAX_FLOOR[np.dtype(dtype).name]


Floors = dict[Key, float]
"""Key -> floor, as a fraction of the tensor's norm; infinity for a lost tensor."""


@dataclass(frozen=True)
class Program:
    """A model in one scenario, which can be run again with perturbed inputs.

    Attributes:
        base: The observations of the unperturbed run.
        draw: Maps the number of a draw to the observations of a perturbed run. A draw permutes the
            images of every batch and moves images and parameters up or down by one unit in the last
            place, at random.
    """

    base: Observations
    draw: Callable[[int], Observations]
    _moves: dict[int, dict[Key, float]] = field(default_factory=dict, init=False, repr=False)

    def moves(self, number: int) -> dict[Key, float]:
        """Return the distance of every observation of a draw from the base; it is run once.

        Args:
            number: The number of the draw.

        Returns:
            Key of the base -> distance; infinity where the draw has no such observation.
        """
        if number not in self._moves:
            drawn = self.draw(number)
            self._moves[number] = {
                key: distance(drawn[key], value) if key in drawn else float("inf")
                for key, value in self.base.items()
            }
        return self._moves[number]


IsDoubtful = Callable[[Floors], bool]
"""Returns whether more draws could change the verdict by these floors (`judge.is_doubtful`)."""


def floors(
    leader: Program, others: Iterable[Program], dtype: np.dtype | str, doubtful: IsDoubtful
) -> Floors:
    """Measure the floor of every observation of the leader: its largest move over `DRAWS` draws.

    Where the verdict is doubtful, the floors are measured again: with as many draws of the other
    programs, because the leader need not be the least exact one, and then with `MORE_DRAWS` draws
    of every program, because five draws are few.

    Args:
        leader: The program whose floors are measured.
        others: Programs that may widen a floor, by at most `MAX_WIDENING` times.
        dtype: float32 or float64, in which all programs compute.
        doubtful: Returns whether the verdict by these floors calls for more draws.

    Returns:
        A floor for each key of ``leader.base``: at least `min_floor`, and infinity for a lost
        tensor (see `max_floor`).
    """
    moves = [_largest_moves(leader, range(DRAWS))]
    result = _widened(moves, dtype)
    if not doubtful(result):
        return result
    programs = [leader, *others]
    moves += [_largest_moves(other, range(DRAWS)) for other in programs[1:]]
    result = _widened(moves, dtype)
    if not doubtful(result):
        return result
    for program, largest in zip(programs, moves, strict=True):
        more = _largest_moves(program, range(DRAWS, MORE_DRAWS))
        largest |= {key: max(move, more[key]) for key, move in largest.items()}
    return _widened(moves, dtype)


def quick_floors(leader: Program, dtype: np.dtype | str) -> Floors:
    """Measure the floors of `FIRST_DRAWS` draws.

    More draws only raise a floor. So an error within ten of these floors is within ten of those
    that `floors` returns, unless a later draw exceeds `max_floor`.

    Args:
        leader: The program whose floors are measured.
        dtype: float32 or float64.

    Returns:
        A floor for each key of ``leader.base``.
    """
    return _widened([_largest_moves(leader, range(FIRST_DRAWS))], dtype)


def widen(floor: Any, other: Any) -> Any:
    """Raise a floor or an envelope to that of another program, by at most `MAX_WIDENING` times.

    Args:
        floor: A floor, or an envelope (steps,).
        other: That of the other program.

    Returns:
        The larger of both, of the shape of `floor`.
    """
    return np.maximum(floor, np.minimum(other, MAX_WIDENING * floor))


def _largest_moves(program: Program, draws: Iterable[int]) -> Floors:
    """Return the largest distance between the draws and the base, for each key."""
    moves = [program.moves(number) for number in draws]
    return {key: max(move[key] for move in moves) for key in program.base}


def _widened(moves: Sequence[Floors], dtype: np.dtype | str) -> Floors:
    """Return floors of the largest moves of the leader, which those of other programs widen.

    Each move of the leader is raised to `min_floor`; one above `max_floor` is replaced by infinity.
    """
    leader, *others = moves
    result = {
        key: max(move, min_floor(dtype)) if move <= max_floor(dtype) else float("inf")
        for key, move in leader.items()
    }
    for other in others:
        result = {key: widen(floor, other.get(key, 0.0)) for key, floor in result.items()}
    return result


def program(
    model: Model,
    inputs: Inputs,
    base: Observations,
    transform: Callable[[Observations], Observations] = lambda observations: observations,
) -> Program:
    """Return the program that `model` is in a scenario, for levels 0 to 3.

    Args:
        model: A model of any backend.
        inputs: The state and the batches of the scenario, with the oracle's activation masks.
        base: The observations of `model` in the scenario, already transformed.
        transform: Is applied to the observations of each draw before they are compared.
    """

    def draw(number: int) -> Observations:
        moved, order = perturbed(inputs, number)
        return transform(unpermute(observe(model, moved, unmasked=False), order))

    compared = {k: v for k, v in base.items() if k.quantity not in (*UNMASKED, *REPORTED_ONLY)}
    return Program(compared, draw)


def with_unmasked(floors: Floors) -> Floors:
    """Add floors for loss and gradients without masks, which are those with masks.

    Args:
        floors: Floors by key.

    Returns:
        `floors` with the additional keys.
    """
    masked = [key for key in floors if key.level == 2 and key.quantity in ("loss", "grad")]
    return floors | {Key(2, f"free_{key.quantity}", key.name): floors[key] for key in masked}


def perturbed(inputs: Inputs, draw: int) -> tuple[Inputs, np.ndarray]:
    """Return the inputs of one draw.

    Args:
        inputs: The state and the batches of a scenario.
        draw: The number of the draw.

    Returns:
        Inputs with every batch permuted and all values moved by one unit in the last place, and the
        order (N,) of the images of `Inputs.first`.
    """
    moved = {
        recipe.optimizer: [
            perturbed_batch(batch, recipe, step, draw)
            for step, batch in enumerate(inputs.batches[recipe.optimizer])
        ]
        for recipe in WORKING_RECIPES
    }
    batches = {name: tuple(batch for batch, _ in steps) for name, steps in moved.items()}
    _, order = moved[WORKING_RECIPES[0].optimizer][0]
    return Inputs(inputs.config, move_parameters(inputs.state, draw), batches), order


def perturbed_batch(
    batch: Batch, train: TrainConfig, step: int, draw: int
) -> tuple[Batch, np.ndarray]:
    """Return the batch of one draw.

    Args:
        batch: The batch of a step.
        train: The training configuration, for the number of micro-batches.
        step: The number of the step.
        draw: The number of the draw.

    Returns:
        The batch with its images permuted within their micro-batches and their pixels moved by one
        unit in the last place, and the order (N,) of the images.
    """
    order = draw_order(draw, step, len(batch.images), train.accumulate)
    images = move_ulps(batch.images[order], draw, IMAGES_INDEX + step)
    return Batch(images, batch.labels[order], permute(batch.masks, order)), order


def permute(masks: Mapping[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    """Return activation masks (N, ...) with their images in another order (N,).

    Args:
        masks: Activation -> mask (N, ...).
        order: The new order (N,) of the images.
    """
    return {name: mask[order] for name, mask in masks.items()}


def unpermute(observations: Observations, order: np.ndarray) -> Observations:
    """Return observations whose activations (N, ...) have their images in the original order.

    Args:
        observations: The results of a permuted run.
        order: The order (N,) that its images were in.
    """
    inverse = np.argsort(order)
    return {key: value[inverse] if key.level == 1 else value for key, value in observations.items()}
