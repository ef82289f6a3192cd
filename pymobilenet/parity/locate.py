"""Where two models begin to differ in a step that both took, and which of them is off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.parity.arbiter import arbitrate, oracle_activations, oracle_step
from pymobilenet.parity.floors import (
    Program,
    distance,
    floors,
    move_parameters,
    perturbed_batch,
)
from pymobilenet.parity.judge import (
    Divergence,
    Row,
    compare_observations,
    divergence,
    first_outside,
)
from pymobilenet.parity.observe import Key, Observations, activations_by_micro_batch
from pymobilenet.parity.steps import StepInputs
from pymobilenet.parity.tolerances import USUAL_RATIO
from pymobilenet.weights import State


class TakenStep(NamedTuple):
    """A step that two models took, and its comparison.

    Attributes:
        inputs: What the step started from.
        by_name: Name of the model -> its results; the leader's first.
        rows: The compared quantities.
    """

    inputs: StepInputs
    by_name: Mapping[str, Observations]
    rows: list[Row]


def locate(scenario: str, taken: TakenStep, leader: Model) -> Divergence:
    """Return the first quantity of a step that is outside, with the model that is off.

    Args:
        scenario: The title of the run.
        taken: A step with a row outside `tolerances.USUAL_RATIO` floors.
        leader: The model that leads, for its config.
    """
    oracle = oracle_step(leader.config, taken.inputs)
    return divergence(scenario, arbitrate(first_outside(taken.rows), taken.by_name, oracle))


def locate_activation(
    scenario: str, taken: TakenStep, models: tuple[Model, Model, Model]
) -> Divergence:
    """Trace a loss or a gradient that differs to the first activation that does.

    If the follower gives the leader's loss when both receive the batch again, one of them received
    another batch in the step: the difference is in its input.

    Args:
        scenario: The title of the run.
        taken: A step with a row outside `tolerances.USUAL_RATIO` floors.
        models: The leader, the follower and a replica of the leader.

    Returns:
        The activation where the models part, or the loss or gradient if none differs.
    """
    row = first_outside(taken.rows)
    result = locate(scenario, taken, models[0])
    if row.key.quantity not in ("loss", "grad"):
        return result
    leader, follower, replica = models
    start, batch, train, step = taken.inputs

    def forward(model: Model, state: State, batch: Batch) -> Observations:
        model.set_state(state)
        values = activations_by_micro_batch(model, batch, train.accumulate)
        return {Key(4, "train", name, step): value for name, value in values.items()}

    def draw(number: int) -> Observations:
        moved, order = perturbed_batch(batch, train, step, number)
        values = forward(replica, move_parameters(start, number), moved)
        return {key: value[np.argsort(order)] for key, value in values.items()}

    program = Program(forward(replica, start, batch), draw)
    activation_floors = floors(program, [], leader.dtype, lambda _: False)
    names = tuple(taken.by_name)
    by_name = dict(
        zip(names, (forward(model, start, batch) for model in (leader, follower)), strict=True)
    )
    for activation in compare_observations(
        by_name[names[0]], {names[1]: by_name[names[1]]}, activation_floors
    ):
        if activation.ratio > USUAL_RATIO:
            oracle = oracle_activations(leader.config, taken.inputs)
            values = {Key(4, "train", name, step): value for name, value in oracle.items()}
            return divergence(scenario, arbitrate(activation, by_name, values))
    micro_batches = [batch.micro_batch(k, train.accumulate) for k in range(train.accumulate)]
    losses = [
        np.mean([model.loss_and_grads(*one)[0] for one in micro_batches])
        for model in (leader, follower)
    ]
    again = Row(row.key, {names[1]: distance(np.array(losses[1]), np.array(losses[0]))}, row.floor)
    if row.key.quantity == "loss" and again.ratio <= USUAL_RATIO:
        return replace(result, direction="input", quantity="batch", name="images or labels")
    return result
