"""Level 6, hand-over: a run starts in one backend and continues in another, by a checkpoint.

After the transfer the state must be the same bytes. Then the run that was handed over and the one
that was not both take the next steps. The follower takes the first from the state it received, with
its own schedule and its own place in the data; before each later step it receives the leader's
state again, so that floors are those of single steps. Curves cannot decide this level: a lost
momentum is within the envelope of two free runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.config import RunConfig, TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.parity.judge import Row, Verdict, compare_observations
from pymobilenet.parity.locate import TakenStep, locate
from pymobilenet.parity.observe import Key, Observations, masks_of_activations
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

BEFORE, AFTER = 4, 5
"""Steps before the hand-over, so that there are moments to lose, and steps after it. Where Adam
counts from 4 to 5, a step count that is off by one changes the step by 6 %; at 10, where its two
corrections nearly cancel, by 0.5 %, which float32 does not resolve."""

_SGD = TrainConfig(
    optimizer="sgd", rate=0.05, batch_size=16, steps=BEFORE + AFTER, schedule="cosine"
)
HANDOVERS = (
    _SGD,
    replace(_SGD, nesterov=True, weight_decay=5e-4),
    replace(_SGD, optimizer="adam", rate=1e-3, ema_decay=0.9),
    replace(_SGD, optimizer="adamw", rate=1e-3, weight_decay=0.05),
    replace(_SGD, optimizer="rmsprop", rate=1e-4),
)
"""The recipes that are handed over. A cosine schedule gives every step a rate of its own."""


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
    leader.set_optimizer(train)
    leader.set_state({**leader.get_state(), **start})
    for step in range(BEFORE):
        batch = batches.at(step)
        leader.step(batch.images, batch.labels, rate_at(train, step), batch.masks)
        advance()
    checkpoint = through_checkpoint(leader, TrainState(step=BEFORE), data)
    follower.set_optimizer(checkpoint.train)
    follower.set_state(checkpoint.file.state)
    title = f"hand-over to {names[1]}, {optimizer_name(train)}"
    rows = _compare_bytes(leader.get_state(), follower.get_state(), names[1])
    outside: list[TakenStep] = []
    follower_batches = Batches(data, checkpoint.train, follower.config, follower.dtype)
    for offset in range(AFTER):
        step = BEFORE + offset
        start = leader.get_state()
        batch = batches.at(step)
        masks = batch.masks
        if leader.dtype == np.float32:
            values = leader.activations(batch.images, train=True)
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


def _compare_bytes(sent: State, received: State, name: str) -> list[Row]:
    """Compare each tensor of the state before and after the transfer, byte by byte."""

    def as_bytes(state: State) -> Observations:
        return {
            Key(6, "handed", tensor): np.frombuffer(np.asarray(value).tobytes(), np.uint8)
            for tensor, value in state.items()
        }

    return compare_observations(as_bytes(sent), {name: as_bytes(received)}, {})
