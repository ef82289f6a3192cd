"""Level 4, lockstep: every step taken by both backends from the same state.

Before each step the follower is overwritten with the leader's state, so no error accumulates and
each of hundreds of steps is an exact comparison of loss, gradients, running statistics, moments
and parameters. Its optimizer begins anew each time: moments of its own that are the leader's but
for rounding must not stand in for those it was handed. The floors are measured anew at every step,
by one draw where that leaves nothing to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.config import TrainConfig
from pymobilenet.parity.floors import (
    Floors,
    Program,
    distance,
    draw_order,
    floors,
    lower_floors,
    move_parameters,
    move_ulps,
    permuted,
)
from pymobilenet.parity.judge import (
    ALL_WITHIN,
    MOST,
    MOST_WITHIN,
    Divergence,
    Row,
    Verdict,
    compare,
    divergence,
    doubtful,
    first_outside,
)
from pymobilenet.parity.observe import (
    Key,
    Observations,
    activations_of_micro_batches,
    joined,
    masks_of,
    with_joined_moments,
)
from pymobilenet.training import Batches, rate_at
from pymobilenet.weights import OPTIMIZER_STEP, State


@dataclass(frozen=True)
class Lockstep:
    """The verdict over all steps; each row is a tensor at the step where it was worst."""

    verdict: Verdict
    losses: list[float]
    ratios: list[float]
    within: float
    divergence: Divergence | None

    @property
    def passed(self) -> bool:
        return bool(self.verdict.rows) and self.divergence is None


def lockstep(
    leader: Model,
    follower: Model,
    replicas: Sequence[Model],
    batches: Batches,
    steps: int,
    names: tuple[str, str],
    advance: Callable[[], None] = lambda: None,
) -> Lockstep:
    """Take `steps` steps; `replicas` are models for the floors, the first of the leader's backend.

    Leader and follower start from the leader's present state. In float32 the leader's activation
    masks are given to everyone: whether a value falls left or right of a kink is there a lottery.
    A float32 run has to start with the norms' biases off 0 (`start_state`): where they are 0, the
    next norm undoes what a norm's weight does, and its gradient is nothing but rounding.
    """
    train = batches.train
    title = f"lockstep, {train.optimizer} {train.rate:g}"
    scenario = f"{title}, batch {train.batch_size}, {leader.dtype}"
    worst: dict[tuple[str, str], Row] = {}
    losses, ratios, inside, judged = [], [], 0, 0
    outside: dict[float, tuple[list[Row], State, Batch]] = {}
    leader.set_optimizer(train)
    for step in range(steps):
        batch = batches.at(step)
        start = leader.get_state()
        if leader.dtype == np.float32:
            seen = activations_of_micro_batches(leader, batch._replace(masks={}), train.accumulate)
            batch = batch._replace(masks=batch.masks | masks_of(seen, leader.config.activation))
        mine = taken(leader, start, batch, train, step)
        theirs = {names[1]: taken(follower, start, batch, train, step)}
        settled = ALL_WITHIN in outside
        rows = rows_of_step(mine, theirs, replicas, (start, batch, train, step), settled)
        for row in rows:
            where = (row.key.quantity, row.key.name)
            worst[where] = max(worst.get(where, row), row, key=lambda row: row.ratio)
        losses.append(float(mine[Key(4, "loss", "loss", step)]))
        ratios.append(max(row.ratio for row in rows))
        inside += sum(row.ratio <= MOST_WITHIN for row in rows)
        judged += len(rows)
        for bound in (ALL_WITHIN, MOST_WITHIN):
            if ratios[-1] > bound:
                outside.setdefault(bound, (rows, start, batch))
        advance()
        if not all(np.isfinite(value).all() for value in mine.values()):
            break  # there is no state to go on from
    verdict = Verdict(scenario, 4, title, tuple(worst.values()))
    within = inside / judged if judged else 0.0
    bound = ALL_WITHIN if ALL_WITHIN in outside else MOST_WITHIN
    first = None
    if bound in outside and (bound == ALL_WITHIN or within < MOST):
        models = (leader, follower, replicas[0])
        first = _locate(scenario, names[1], models, train, *outside[bound])
    return Lockstep(verdict, losses, ratios, within, first)


def taken(model: Model, start: State, batch: Batch, train: TrainConfig, step: int) -> Observations:
    """Everything one step from `start` gives, in the order in which a difference would arise."""
    model.set_optimizer(train)
    model.set_state(start)
    return step_from(model, batch, rate_at(train, step), step)


def step_from(model: Model, batch: Batch, rate: float, step: int) -> Observations:
    """Everything the next step of a model as it is gives, in the same order."""
    loss, found = model.step(batch.images, batch.labels, rate, batch.masks)
    grads = joined(found, model.config)
    seen: Observations = {Key(4, "loss", "loss", step): np.array(loss)}
    seen |= {Key(4, "grad", name, step): np.array(grads[name]) for name in reversed(list(grads))}
    state = with_joined_moments(model.get_state(), model.config)
    for kind, names in _kinds(state).items():
        seen |= {Key(4, kind, name, step): state[name] for name in names}
    return seen


def _kinds(state: State) -> dict[str, list[str]]:
    """Names by kind, in the order in which a step moves them."""
    kinds: dict[str, list[str]] = {"statistic": [], "moment": [], "parameter": [], "average": []}
    for name in state:
        if name.startswith("optimizer."):
            kinds["average" if name.startswith("optimizer.ema.") else "moment"].append(name)
        else:
            kinds["statistic" if "running_" in name else "parameter"].append(name)
    return kinds


def rows_of_step(
    mine: Observations,
    theirs: Mapping[str, Observations],
    replicas: Sequence[Model],
    taking: tuple[State, Batch, TrainConfig, int],
    settled: bool,
) -> list[Row]:
    """The follower's step against the leader's, by the floors of the replicas.

    Once the run has failed, its verdict `settled`, no doubt calls for more draws.
    """
    start, batch, train, step = taking

    def program(replica: Model) -> Program:
        def draw(number: int) -> Observations:
            moved, _ = _perturbed(batch, train, step, number)
            return taken(replica, move_parameters(start, number), moved, train, step)

        return Program(taken(replica, start, batch, train, step), draw)

    def judged(allowed: Floors) -> list[Row]:
        exact = Key(4, "moment", OPTIMIZER_STEP, step)
        return compare(mine, theirs, allowed | {exact: 0.0})

    def in_doubt(allowed: Floors) -> bool:
        return not settled and doubtful(judged(allowed))

    first, *others = replicas
    leading = program(first)
    rows = judged(lower_floors(leading, first.dtype))
    if all(row.ratio <= MOST_WITHIN for row in rows):
        return rows
    return judged(floors(leading, map(program, others), first.dtype, in_doubt))


def _perturbed(batch: Batch, train: TrainConfig, step: int, draw: int) -> tuple[Batch, np.ndarray]:
    """The batch of one draw, permuted and its images moved, and the order (N,) it is put into."""
    order = draw_order(draw, step, len(batch.images), train.accumulate)
    images = move_ulps(batch.images[order], draw, 1000 + step)
    return Batch(images, batch.labels[order], permuted(batch.masks, order)), order


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

    If the follower, shown the batch once more, gives the loss that it did not give in the step, it
    was not shown that batch: the difference came in with its input.
    """
    row = first_outside(rows)
    found = divergence(scenario, row)
    if row.key.quantity not in ("loss", "grad"):
        return found
    leader, follower, replica = models

    def forward(model: Model, state: State, batch: Batch) -> Observations:
        model.set_state(state)
        seen = activations_of_micro_batches(model, batch, train.accumulate)
        return {Key(4, "train", name, row.key.step): value for name, value in seen.items()}

    def draw(number: int) -> Observations:
        moved, order = _perturbed(batch, train, row.key.step or 0, number)
        seen = forward(replica, move_parameters(start, number), moved)
        return {key: value[np.argsort(order)] for key, value in seen.items()}

    noise = Program(forward(replica, start, batch), draw)
    allowed = floors(noise, [], leader.dtype, lambda _: False)
    theirs = {name: forward(follower, start, batch)}
    for activation in compare(forward(leader, start, batch), theirs, allowed):
        if activation.ratio > MOST_WITHIN:
            return divergence(scenario, activation)
    parts = [batch.micro_batch(k, train.accumulate) for k in range(train.accumulate)]
    losses = [
        np.mean([model.loss_and_grads(*part)[0] for part in parts]) for model in (leader, follower)
    ]
    again = Row(row.key, {name: distance(np.array(losses[1]), np.array(losses[0]))}, row.floor)
    if row.key.quantity == "loss" and again.ratio <= MOST_WITHIN:
        return replace(found, direction="input", quantity="batch", name="images or labels")
    return found
