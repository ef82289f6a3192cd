"""One training step of each model from the same state, and the comparison of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.config import TrainConfig
from pymobilenet.parity.floors import (
    Floors,
    Program,
    floors,
    move_parameters,
    perturbed_batch,
    quick_floors,
)
from pymobilenet.parity.judge import Row, is_doubtful, unjudged_rows, with_floors
from pymobilenet.parity.observe import Key, Observations, join_linear_norms, join_moments
from pymobilenet.parity.tolerances import USUAL_RATIO
from pymobilenet.training import rate_at
from pymobilenet.weights import OPTIMIZER_STEP, State


class StepInputs(NamedTuple):
    """What one step starts from: the state, the batch, the training configuration, its number."""

    start: State
    batch: Batch
    train: TrainConfig
    step: int


def take_step(model: Model, inputs: StepInputs) -> Observations:
    """Set the model to the start of a step, take the step, and return its results.

    Args:
        model: A model of any backend.
        inputs: What the step starts from.

    Returns:
        Loss, gradients, statistics, moments and parameters, in the order in which a difference
        would arise.
    """
    model.set_optimizer(inputs.train)
    model.set_state(inputs.start)
    return observe_step(model, inputs.batch, rate_at(inputs.train, inputs.step), inputs.step)


def observe_step(model: Model, batch: Batch, rate: float, step: int) -> Observations:
    """Take the next step of a model from its present state, and return the same results.

    Args:
        model: A model of any backend.
        batch: Images, labels and masks.
        rate: The learning rate.
        step: The number of the step, for the keys.
    """
    loss, gradients = model.step(batch.images, batch.labels, rate, batch.masks)
    grads = join_linear_norms(gradients, model.config)
    results: Observations = {Key(4, "loss", "loss", step): np.array(loss)}
    results |= {Key(4, "grad", name, step): np.array(grads[name]) for name in reversed(list(grads))}
    state = join_moments(model.get_state(), model.config)
    for kind, names in _kinds(state).items():
        results |= {Key(4, kind, name, step): state[name] for name in names}
    return results


def _kinds(state: State) -> dict[str, list[str]]:
    """Return names by kind, in the order in which a step updates them."""
    kinds: dict[str, list[str]] = {"statistic": [], "moment": [], "parameter": [], "average": []}
    for name in state:
        if name.startswith("optimizer."):
            kinds["average" if name.startswith("optimizer.ema.") else "moment"].append(name)
        else:
            kinds["statistic" if "running_" in name else "parameter"].append(name)
    return kinds


def compare_step(
    expected: Observations,
    received: Mapping[str, Observations],
    replicas: Sequence[Model],
    inputs: StepInputs,
    has_failed: bool,
) -> list[Row]:
    """Compare the follower's step with the leader's, by floors measured with the replicas.

    Args:
        expected: The leader's results.
        received: The follower's name -> its results.
        replicas: Models for the floors, the first of the leader's backend.
        inputs: What the step starts from.
        has_failed: The run has failed before, so that more draws could not change its verdict.

    Returns:
        One row for each compared quantity.
    """
    start, batch, train, step = inputs

    def program(replica: Model) -> Program:
        def draw(number: int) -> Observations:
            moved, _ = perturbed_batch(batch, train, step, number)
            moved_inputs = StepInputs(move_parameters(start, number), moved, train, step)
            return take_step(replica, moved_inputs)

        return Program(take_step(replica, inputs), draw)

    compared = unjudged_rows(expected, received)

    def rows_by(floors: Floors) -> list[Row]:
        step_count = Key(4, "moment", OPTIMIZER_STEP, step)
        return with_floors(compared, floors | {step_count: 0.0})

    def doubtful(floors: Floors) -> bool:
        return not has_failed and is_doubtful(rows_by(floors))

    first, *others = replicas
    leading = program(first)
    rows = rows_by(quick_floors(leading, first.dtype))
    if all(row.ratio <= USUAL_RATIO for row in rows):
        return rows
    return rows_by(floors(leading, map(program, others), first.dtype, doubtful))
