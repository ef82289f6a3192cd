"""Level 4, lockstep: every step taken by both backends from the same state.

Before each step the follower is overwritten with the leader's state, so no error accumulates and
each of hundreds of steps is an exact comparison of loss, gradients, running statistics, moments
and parameters. Its optimizer begins anew each time: moments of its own that are the leader's but
for rounding must not stand in for those it was handed. The floors are measured anew at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.parity.floors import (
    DRAWS,
    draw_order,
    move_parameters,
    move_ulps,
    permuted,
    spread,
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
    first_outside,
)
from pymobilenet.parity.observe import Key, Observations, masks_of
from pymobilenet.training import Batches
from pymobilenet.training.batches import Arrays
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
        return self.divergence is None


def lockstep(
    leader: Model,
    follower: Model,
    twin: Model,
    batches: Batches,
    steps: int,
    names: tuple[str, str],
    tick: Callable[[], None] = lambda: None,
) -> Lockstep:
    """Take `steps` steps; `twin` is a second model of the leader's backend, for the floors.

    Leader and follower start from the leader's present state. In float32 the leader's activation
    masks are given to everyone: whether a value falls left or right of a kink is there a lottery.
    """
    train = batches.train
    title = f"lockstep, {train.optimizer} {train.rate:g}"
    scenario = f"{title}, batch {train.batch_size}, {leader.dtype}"
    worst: dict[Key, Row] = {}
    losses, ratios, inside, judged = [], [], 0, 0
    outside: tuple[Row, State, Arrays] | None = None
    for model in (leader, follower, twin):
        model.set_optimizer(train)
    for step in range(steps):
        arrays = batches.at(step)
        start = leader.get_state()
        if leader.dtype == np.float32:
            seen = leader.activations(arrays.images, train=True)
            arrays = arrays._replace(masks=arrays.masks | masks_of(seen, leader.config.activation))
        floors = _floors(twin, start, arrays, step, train.rate)
        mine = taken(leader, start, arrays, train.rate)
        theirs = taken(follower, start, arrays, train.rate)
        rows = [
            Row(key, {names[1]: distance(theirs[key], value)}, floors[key], step)
            for key, value in mine.items()
        ]
        for row in rows:
            worst[row.key] = max(worst.get(row.key, row), row, key=lambda row: row.ratio)
        losses.append(float(mine[Key(4, "loss", "loss")]))
        ratios.append(max(row.ratio for row in rows))
        inside += sum(row.ratio <= MOST_WITHIN for row in rows)
        judged += len(rows)
        if outside is None and ratios[-1] > ALL_WITHIN:
            outside = (next(row for row in rows if row.ratio > ALL_WITHIN), start, arrays)
        tick()
    verdict = Verdict(scenario, 4, title, tuple(worst.values()))
    within = inside / judged if judged else 0.0
    first = None
    if outside is not None:
        first = _locate(scenario, (leader, follower, twin), *outside)
    elif within < MOST:
        first = divergence(scenario, verdict.worst)
    return Lockstep(verdict, losses, ratios, within, first)


def taken(model: Model, start: State, arrays: Arrays, rate: float) -> Observations:
    """Everything one step from `start` gives, in the order in which a difference would arise."""
    model.set_state(start)
    loss, grads = model.step(arrays.images, arrays.labels, rate, arrays.masks)
    seen: Observations = {Key(4, "loss", "loss"): np.array(loss)}
    seen |= {Key(4, "grad", name): np.array(grads[name]) for name in reversed(list(grads))}
    state = model.get_state()
    for kind, names in _kinds(state).items():
        seen |= {Key(4, kind, name): state[name] for name in names}
    return seen


def _kinds(state: State) -> dict[str, list[str]]:
    moments = [name for name in state if name.startswith("optimizer.")]
    statistics = [name for name in state if "running_" in name]
    others = set(moments) | set(statistics)
    parameters = [name for name in state if name not in others]
    return {"statistic": statistics, "moment": moments, "parameter": parameters}


def _floors(twin: Model, start: State, arrays: Arrays, step: int, rate: float) -> dict[Key, float]:
    """The floor of everything the step gives; see `pymobilenet.parity.floors`."""
    base = taken(twin, start, arrays, rate)
    largest = dict.fromkeys(base, least(twin.dtype))
    for draw in range(DRAWS):
        seen = taken(twin, move_parameters(start, draw), _perturbed(arrays, draw, step), rate)
        for key, value in seen.items():
            largest[key] = max(largest[key], distance(value, base[key]))
    exact = Key(4, "moment", OPTIMIZER_STEP)
    return largest | ({exact: 0.0} if exact in largest else {})


def _perturbed(arrays: Arrays, draw: int, step: int) -> Arrays:
    order = draw_order(draw, step, len(arrays.images))
    images = move_ulps(arrays.images[order], draw, 1000 + step)
    return Arrays(images, arrays.labels[order], permuted(arrays.masks, order))


def _locate(
    scenario: str,
    models: tuple[Model, Model, Model],
    row: Row,
    start: State,
    arrays: Arrays,
) -> Divergence:
    """Trace a loss that differs to the first activation that does.

    If all activations agree on the batch, the follower was not shown that batch: the difference
    came in with its input.
    """
    found = divergence(scenario, row)
    if row.key.quantity != "loss":
        return found
    leader, follower, twin = models
    for model in models:
        model.set_state(start)
    images = arrays.images
    mine = leader.activations(images, train=True)
    theirs = follower.activations(images, train=True)
    largest = dict.fromkeys(mine, least(leader.dtype))
    for draw in range(DRAWS):
        order = draw_order(draw, row.step or 0, len(images))
        twin.set_state(move_parameters(start, draw))
        moved = twin.activations(move_ulps(images[order], draw, 1000), train=True)
        for key, value in moved.items():
            off = distance(value[np.argsort(order)], mine[key])
            largest[key] = max(largest[key], off)
    for key, value in mine.items():
        off = distance(theirs[key], value)
        if off > ALL_WITHIN * largest[key]:
            return replace(found, quantity="train", name=key, error=off, floor=largest[key])
    return replace(found, direction="input", quantity="batch", name="images or labels")
