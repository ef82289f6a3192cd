"""Level 4, lockstep: both backends take every step from the same state.

Before each step the follower is overwritten with the leader's state, so no error accumulates, and
each of hundreds of steps is an exact comparison of loss, gradients, running statistics, moments and
parameters. The follower's optimizer is reset before each step, so that its own moments cannot stand
in for those it receives. Floors are measured anew at every step, with one draw where every tensor
is within ten of its floors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.config import TrainConfig
from pymobilenet.parity.floors import (
    IMAGES_INDEX,
    Floors,
    Program,
    distance,
    draw_order,
    floors,
    move_parameters,
    move_ulps,
    permute,
    quick_floors,
)
from pymobilenet.parity.judge import (
    Divergence,
    Row,
    Verdict,
    compare_observations,
    divergence,
    first_outside,
    is_doubtful,
)
from pymobilenet.parity.observe import (
    Key,
    Observations,
    activations_by_micro_batch,
    join_linear_norms,
    join_moments,
    masks_of_activations,
)
from pymobilenet.parity.tolerances import MAX_RATIO, REQUIRED_FRACTION, USUAL_RATIO
from pymobilenet.training import Batches, rate_at
from pymobilenet.weights import OPTIMIZER_STEP, State


@dataclass(frozen=True)
class LockstepResult:
    """The result of a run in lockstep.

    Attributes:
        verdict: Over all steps; each row is a tensor at the step where its ratio was largest.
        losses: The leader's loss at each step.
        ratios: The largest ratio of any tensor at each step, in floors.
        fraction_within: The fraction of all tensors of all steps within `USUAL_RATIO` floors.
        divergence: Where the backends begin to differ; None if they agree.
    """

    verdict: Verdict
    losses: list[float]
    ratios: list[float]
    fraction_within: float
    divergence: Divergence | None

    @property
    def passed(self) -> bool:
        """Whether any step was compared, and no divergence found."""
        return bool(self.verdict.rows) and self.divergence is None


class StepInputs(NamedTuple):
    """What one step starts from: the state, the batch, the training configuration, its number."""

    start: State
    batch: Batch
    train: TrainConfig
    step: int


def lockstep(
    leader: Model,
    follower: Model,
    replicas: Sequence[Model],
    batches: Batches,
    steps: int,
    names: tuple[str, str],
    advance: Callable[[], None] = lambda: None,
) -> LockstepResult:
    """Take steps in two models, each from the leader's state, and compare all their results.

    In float32 the leader's activation masks are given to both, because rounding decides there on
    which side of a kink a value falls. A float32 run has to start with norm biases other than 0
    (`scenario.start_state`): where they are 0, the next norm removes the effect of a norm's weight,
    and the gradient of that weight consists of rounding errors only.

    Args:
        leader: The model that both continue from, in its present state.
        follower: The model that is compared.
        replicas: Models for the floors: the first of the leader's backend, others may widen floors.
        batches: The batches and the training configuration.
        steps: How many steps to take.
        names: The names of leader and follower.
        advance: Is called after each step.

    Returns:
        The verdict over all steps. The run ends early where the leader's values are not finite.
    """
    train = batches.train
    title = f"lockstep, {train.optimizer} {train.rate:g}"
    scenario = f"{title}, batch {train.batch_size}, {leader.dtype}"
    worst: dict[tuple[str, str], Row] = {}
    losses, ratios, within_count, row_count = [], [], 0, 0
    outside: dict[float, tuple[list[Row], State, Batch]] = {}
    leader.set_optimizer(train)
    for step in range(steps):
        batch = batches.at(step)
        start = leader.get_state()
        if leader.dtype == np.float32:
            values = activations_by_micro_batch(leader, batch._replace(masks={}), train.accumulate)
            masks = masks_of_activations(values, leader.config.activation)
            batch = batch._replace(masks=batch.masks | masks)
        inputs = StepInputs(start, batch, train, step)
        expected = take_step(leader, inputs)
        received = {names[1]: take_step(follower, inputs)}
        rows = compare_step(expected, received, replicas, inputs, has_failed=MAX_RATIO in outside)
        for row in rows:
            tensor = (row.key.quantity, row.key.name)
            worst[tensor] = max(worst.get(tensor, row), row, key=lambda row: row.ratio)
        losses.append(float(expected[Key(4, "loss", "loss", step)]))
        ratios.append(max(row.ratio for row in rows))
        within_count += sum(row.ratio <= USUAL_RATIO for row in rows)
        row_count += len(rows)
        for bound in (MAX_RATIO, USUAL_RATIO):
            if ratios[-1] > bound:
                outside.setdefault(bound, (rows, start, batch))
        advance()
        if not all(np.isfinite(value).all() for value in expected.values()):
            break  # no state to continue from
    verdict = Verdict(scenario, 4, title, tuple(worst.values()))
    fraction = within_count / row_count if row_count else 0.0
    bound = MAX_RATIO if MAX_RATIO in outside else USUAL_RATIO
    first = None
    if bound in outside and (bound == MAX_RATIO or fraction < REQUIRED_FRACTION):
        models = (leader, follower, replicas[0])
        first = _locate(scenario, names[1], models, train, *outside[bound])
    return LockstepResult(verdict, losses, ratios, fraction, first)


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
            moved, _ = _perturbed(batch, train, step, number)
            moved_inputs = StepInputs(move_parameters(start, number), moved, train, step)
            return take_step(replica, moved_inputs)

        return Program(take_step(replica, inputs), draw)

    def rows_by(floors: Floors) -> list[Row]:
        step_count = Key(4, "moment", OPTIMIZER_STEP, step)
        return compare_observations(expected, received, floors | {step_count: 0.0})

    def doubtful(floors: Floors) -> bool:
        return not has_failed and is_doubtful(rows_by(floors))

    first, *others = replicas
    leading = program(first)
    rows = rows_by(quick_floors(leading, first.dtype))
    if all(row.ratio <= USUAL_RATIO for row in rows):
        return rows
    return rows_by(floors(leading, map(program, others), first.dtype, doubtful))


def _perturbed(batch: Batch, train: TrainConfig, step: int, draw: int) -> tuple[Batch, np.ndarray]:
    """Return the batch of one draw, permuted and its images moved, and the order (N,)."""
    order = draw_order(draw, step, len(batch.images), train.accumulate)
    images = move_ulps(batch.images[order], draw, IMAGES_INDEX + step)
    return Batch(images, batch.labels[order], permute(batch.masks, order)), order


def _locate(
    scenario: str,
    name: str,
    models: tuple[Model, Model, Model],
    train: TrainConfig,
    rows: list[Row],
    start: State,
    batch: Batch,
) -> Divergence:
    """Trace a loss or a gradient that differs to the first activation that does.

    If the follower gives the leader's loss when it receives the batch again, it received another
    batch in the step: the difference is in its input.
    """
    row = first_outside(rows)
    result = divergence(scenario, row)
    if row.key.quantity not in ("loss", "grad"):
        return result
    leader, follower, replica = models

    def forward(model: Model, state: State, batch: Batch) -> Observations:
        model.set_state(state)
        values = activations_by_micro_batch(model, batch, train.accumulate)
        return {Key(4, "train", name, row.key.step): value for name, value in values.items()}

    def draw(number: int) -> Observations:
        moved, order = _perturbed(batch, train, row.key.step or 0, number)
        values = forward(replica, move_parameters(start, number), moved)
        return {key: value[np.argsort(order)] for key, value in values.items()}

    program = Program(forward(replica, start, batch), draw)
    activation_floors = floors(program, [], leader.dtype, lambda _: False)
    received = {name: forward(follower, start, batch)}
    for activation in compare_observations(
        forward(leader, start, batch), received, activation_floors
    ):
        if activation.ratio > USUAL_RATIO:
            return divergence(scenario, activation)
    micro_batches = [batch.micro_batch(k, train.accumulate) for k in range(train.accumulate)]
    losses = [
        np.mean([model.loss_and_grads(*one)[0] for one in micro_batches])
        for model in (leader, follower)
    ]
    again = Row(row.key, {name: distance(np.array(losses[1]), np.array(losses[0]))}, row.floor)
    if row.key.quantity == "loss" and again.ratio <= USUAL_RATIO:
        return replace(result, direction="input", quantity="batch", name="images or labels")
    return result
