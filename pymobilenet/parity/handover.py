"""Level 6, hand-over: a run starts in one backend and continues in another, by a checkpoint.

Both backends set a new optimizer, whose slots must have the oracle's values. After the transfer the
state must be the same bytes. Then the run that was handed over and the one that was not both take
the next steps. The follower takes the first from the state it received, with its own schedule and
its own place in the data; before each later step it receives the leader's state again, so that
floors are those of single steps. Curves cannot decide this level: a lost momentum is within the
envelope of two free runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.config import RunConfig, TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.parity.arbiter import build_oracle, exact_state
from pymobilenet.parity.judge import Row, Verdict, compare_observations
from pymobilenet.parity.locate import TakenStep, locate
from pymobilenet.parity.observe import (
    Key,
    Observations,
    activations_by_micro_batch,
    masks_of_activations,
)
from pymobilenet.parity.scenario import BATCH_SIZE
from pymobilenet.parity.steps import StepInputs, compare_step, observe_step, take_step
from pymobilenet.parity.tolerances import MAX_RATIO, USUAL_RATIO
from pymobilenet.training import Batches, rate_at
from pymobilenet.training.checkpoint import (
    Checkpoint,
    TrainState,
    read_checkpoint,
    write_checkpoint,
)
from pymobilenet.weights import State

BEFORE, AFTER = 4, 2
"""Steps before the hand-over, so that there are moments to lose, and steps after it, so that
schedule and data have to go on. Where Adam counts from 4 to 5, a step count that is off by one
changes the step by 6 %; at 10, where its two corrections nearly cancel, by 0.5 %, which float32
does not resolve."""

_SGD = TrainConfig(
    optimizer="sgd", rate=0.05, batch_size=BATCH_SIZE, steps=BEFORE + AFTER, schedule="cosine"
)
HANDOVERS = (
    replace(_SGD, clip_norm=1.0),
    replace(_SGD, nesterov=True, weight_decay=5e-4, accumulate=3),
    replace(_SGD, optimizer="adam", rate=1e-3, ema_decay=0.9, label_smoothing=0.1),
    replace(_SGD, optimizer="adamw", rate=1e-3, weight_decay=0.05, decay_all=False),
    replace(_SGD, optimizer="rmsprop", rate=1e-4, weight_decay=1e-4),
    replace(_SGD, optimizer="rmsprop_tf", rate=1e-3, eps=1e-3, initial_square_avg=1.0),
)
"""The recipes that are handed over: every optimizer, and every option of `TrainConfig` that a
backend implements. A cosine schedule gives every step a rate of its own."""


def hand_over(
    leader: Model,
    follower: Model,
    replicas: Sequence[Model],
    data: Dataset,
    train: TrainConfig,
    start: State,
    names: tuple[str, str],
    advance: Callable[[], None] = lambda: None,
) -> Verdict:
    """Take `BEFORE` steps in `leader`, hand over to `follower`, and compare `AFTER` more.

    In float32 the leader's activation masks are given to both, as in lockstep.

    Args:
        leader: The model that starts the run, and also continues it.
        follower: The model that receives the checkpoint.
        replicas: Models for the floors, the first of the leader's backend.
        data: The training images.
        train: The training configuration.
        start: The state that the run starts from.
        names: The names of leader and follower.
        advance: Is called after each step.

    Returns:
        The verdict over the transferred bytes and over all steps after the hand-over.
    """
    batches = Batches(data, train, leader.config, leader.dtype)
    rows = _compare_new_slots(dict(zip(names, (leader, follower), strict=True)), train, start)
    for step in range(BEFORE):
        batch = batches.at(step)
        leader.step(batch.images, batch.labels, rate_at(train, step), batch.masks)
        advance()
    checkpoint = through_checkpoint(leader, TrainState(step=BEFORE), data)
    follower.set_optimizer(checkpoint.train)
    follower.set_state(checkpoint.file.state)
    title = f"hand-over to {names[1]}, {optimizer_name(train)}"
    rows += _compare_bytes(leader.get_state(), follower.get_state(), names[1])
    outside: list[TakenStep] = []
    follower_batches = Batches(data, checkpoint.train, follower.config, follower.dtype)
    for offset in range(AFTER):
        step = BEFORE + offset
        start = leader.get_state()
        batch = batches.at(step)
        masks = batch.masks
        if leader.dtype == np.float32:
            values = activations_by_micro_batch(leader, batch, train.accumulate)
            masks = masks | masks_of_activations(values, leader.config.activation)
        inputs = StepInputs(start, batch._replace(masks=masks), train, step)
        follower_step = checkpoint.state.step + offset
        follower_batch = follower_batches.at(follower_step)._replace(masks=masks)
        if offset:
            follower.set_state(start)
        rate = rate_at(checkpoint.train, follower_step)
        received = {names[1]: observe_step(follower, follower_batch, rate, step)}
        expected = take_step(leader, inputs)
        step_rows = compare_step(expected, received, replicas, inputs, has_failed=False)
        rows += step_rows
        if not outside and any(row.ratio > USUAL_RATIO for row in step_rows):
            outside = [TakenStep(inputs, {names[0]: expected} | received, step_rows)]
        advance()
        if any(row.ratio > MAX_RATIO for row in rows):
            break  # from here on the follower's state is another one
    scenario = f"{title}, {leader.dtype}"
    at_level = [replace(row, key=row.key._replace(level=6)) for row in rows]
    verdict = Verdict(scenario, 6, "hand-over", tuple(at_level))
    divergence = verdict.first_divergence
    if divergence is None or divergence.direction == "hand-over":
        return verdict
    located = locate(scenario, outside[0], leader)
    return replace(verdict, located=replace(located, level=6))


def optimizer_name(train: TrainConfig) -> str:
    """Return the optimizer's name; SGD with Nesterov momentum is called nesterov."""
    return "nesterov" if train.nesterov else train.optimizer


def through_checkpoint(leader: Model, state: TrainState, data: Dataset) -> Checkpoint:
    """Write the leader's run to a checkpoint file, and read it.

    Args:
        leader: The model whose run is written.
        state: The position of the run.
        data: The training images.

    Returns:
        The checkpoint that was read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        digests = {"train": data.digest(), "validation": data.digest()}
        write_checkpoint(path, leader, RunConfig(), state, digests, {})
        return read_checkpoint(path)


def _compare_new_slots(models: Mapping[str, Model], train: TrainConfig, start: State) -> list[Row]:
    """Set a new optimizer in each model, and compare its slots with those of the oracle's."""

    def new_slots(model: Model, state: State) -> Observations:
        model.set_state(state)
        model.set_optimizer(train)
        slots = {k: v for k, v in model.get_state().items() if k.startswith("optimizer.")}
        return {Key(6, "initial", name): value for name, value in slots.items()}

    oracle = build_oracle(next(iter(models.values())).config)
    by_name = {name: new_slots(model, start) for name, model in models.items()}
    return compare_observations(new_slots(oracle, exact_state(start)), by_name, {})


def _compare_bytes(sent: State, received: State, name: str) -> list[Row]:
    """Compare each tensor of the state before and after the transfer, byte by byte."""

    def as_bytes(state: State) -> Observations:
        return {
            Key(6, "handed", tensor): np.frombuffer(np.asarray(value).tobytes(), np.uint8)
            for tensor, value in state.items()
        }

    return compare_observations(as_bytes(sent), {name: as_bytes(received)}, {})
