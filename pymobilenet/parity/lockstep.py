"""Level 4, lockstep: both backends take every step from the same state.

Before each step the follower is overwritten with the leader's state, so no error accumulates, and
each of hundreds of steps is an exact comparison of loss, gradients, running statistics, moments and
parameters. The follower's optimizer is reset before each step, so that its own moments cannot stand
in for those it receives. Floors are measured anew at every step, with one draw where every tensor
is within ten of its floors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.parity.false_alarms import allowed_outside, independent_error
from pymobilenet.parity.judge import Divergence, Row, Verdict
from pymobilenet.parity.locate import TakenStep, locate_activation
from pymobilenet.parity.observe import Key, activations_by_micro_batch, masks_of_activations
from pymobilenet.parity.steps import StepInputs, compare_step, take_step
from pymobilenet.parity.tolerances import MAX_RATIO, USUAL_RATIO
from pymobilenet.training import Batches


@dataclass(frozen=True)
class LockstepResult:
    """The result of a run in lockstep.

    Attributes:
        verdict: Over all steps; each row is a tensor at the step where its ratio was largest.
        losses: The leader's loss at each step.
        ratios: The largest ratio of any tensor at each step, in floors.
        fraction_within: The fraction of all tensors of all steps within `USUAL_RATIO` floors.
        outside: How many independent errors of all steps are outside `USUAL_RATIO` floors.
        allowed_outside: How many may be outside.
        divergence: Where the backends begin to differ; None if they agree.
    """

    verdict: Verdict
    losses: list[float]
    ratios: list[float]
    fraction_within: float
    outside: int
    allowed_outside: int
    divergence: Divergence | None

    @property
    def passed(self) -> bool:
        """Whether any step was compared, and no divergence found."""
        return bool(self.verdict.rows) and self.divergence is None


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
    losses, ratios, within = [], [], []
    errors, errors_outside = 0, 0
    outside: dict[float, TakenStep] = {}
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
        within += [row.ratio <= USUAL_RATIO for row in rows]
        errors += len({independent_error(row.key) for row in rows})
        errors_outside += len(
            {independent_error(row.key) for row in rows if row.ratio > USUAL_RATIO}
        )
        for bound in (MAX_RATIO, USUAL_RATIO):
            if ratios[-1] > bound:
                both = {names[0]: expected} | received
                outside.setdefault(bound, TakenStep(inputs, both, rows))
        advance()
        if not all(np.isfinite(value).all() for value in expected.values()):
            break  # no state to continue from
    verdict = Verdict(scenario, 4, title, tuple(worst.values()))
    bound = MAX_RATIO if MAX_RATIO in outside else USUAL_RATIO
    allowed, first = allowed_outside(errors), None
    if bound in outside and (bound == MAX_RATIO or errors_outside > allowed):
        models = (leader, follower, replicas[0])
        first = locate_activation(scenario, outside[bound], models)
    fraction = float(np.mean(within)) if within else 0.0
    return LockstepResult(verdict, losses, ratios, fraction, errors_outside, allowed, first)
