"""Level 6, hand-over: some steps in one backend, the rest in another, by way of a checkpoint.

After the transfer the state must be the same bytes. Then the run that was handed over and the one
that was not each take the next steps: the follower's first from what it was handed, by its own
schedule and its own place in the data; before each later one it is handed the leader's state again,
so that floors are those of single steps. Curves could not decide: a dropped momentum hides in the
envelope of two free runs.
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
from pymobilenet.parity.judge import ALL_WITHIN, Row, Verdict, compare
from pymobilenet.parity.lockstep import rows_of_step, step_from, taken
from pymobilenet.parity.observe import Key, Observations, masks_of
from pymobilenet.training import Batches, rate_at
from pymobilenet.training.checkpoint import (
    Checkpoint,
    TrainState,
    read_checkpoint,
    write_checkpoint,
)
from pymobilenet.weights import State

BEFORE, AFTER = 4, 5
"""Steps before the hand-over, so that moments are there to be lost, and after it. Where Adam counts
from 4 to 5, a count that is off by one is 6 % of a step; at 10, where its two corrections nearly
cancel, it would be 0.5 %, which float32 does not see."""

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
"""The recipes that are handed over; under a cosine, every step has a rate of its own."""


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

    `replicas` are models for the floors, the first of the leader's backend. In float32 the leader's
    activation masks are given to everyone, as in lockstep.
    """
    batches = Batches(data, train, leader.config, leader.dtype)
    leader.set_optimizer(train)
    leader.set_state({**leader.get_state(), **start})
    for step in range(BEFORE):
        batch = batches.at(step)
        leader.step(batch.images, batch.labels, rate_at(train, step), batch.masks)
        advance()
    found = carried(leader, TrainState(step=BEFORE), data)
    follower.set_optimizer(found.train)
    follower.set_state(found.file.state)
    title = f"hand-over to {names[1]}, {kind_of(train)}"
    rows = _bytes(leader.get_state(), follower.get_state(), names[1])
    theirs = Batches(data, found.train, follower.config, follower.dtype)
    for offset in range(AFTER):
        step = BEFORE + offset
        start = leader.get_state()
        batch = batches.at(step)
        mine_masks = batch.masks
        if leader.dtype == np.float32:
            seen = leader.activations(batch.images, train=True)
            mine_masks = mine_masks | masks_of(seen, leader.config.activation)
        batch = batch._replace(masks=mine_masks)
        own = theirs.at(found.state.step + offset)._replace(masks=mine_masks)
        if offset:
            follower.set_state(start)
        handed = step_from(follower, own, rate_at(found.train, found.state.step + offset), step)
        mine = taken(leader, start, batch, train, step)
        rows += rows_of_step(mine, {names[1]: handed}, replicas, (start, batch, train, step), False)
        advance()
        if any(row.ratio > ALL_WITHIN for row in rows):
            break  # the follower has another model by now
    scenario = f"{title}, {leader.dtype}"
    at_level = [replace(row, key=row.key._replace(level=6)) for row in rows]
    return Verdict(scenario, 6, "hand-over", tuple(at_level))


def kind_of(train: TrainConfig) -> str:
    return "nesterov" if train.nesterov else train.optimizer


def carried(leader: Model, state: TrainState, data: Dataset) -> Checkpoint:
    """The leader's run, written to a checkpoint and read again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        digests = {"train": data.digest(), "validation": data.digest()}
        write_checkpoint(path, leader, RunConfig(), state, digests, {})
        return read_checkpoint(path)


def _bytes(mine: State, theirs: State, name: str) -> list[Row]:
    """Each tensor of the state before and after the transfer, byte by byte."""

    def seen(state: State) -> Observations:
        return {
            Key(6, "handed", tensor): np.frombuffer(np.asarray(value).tobytes(), np.uint8)
            for tensor, value in state.items()
        }

    return compare(seen(mine), {name: seen(theirs)}, {})
