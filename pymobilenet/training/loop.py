"""One training loop for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pymobilenet.backends.base import Model
from pymobilenet.config import TrainConfig
from pymobilenet.data import to_dataset
from pymobilenet.errors import ConfigError
from pymobilenet.training.batches import Batches
from pymobilenet.training.schedules import rate_at


class StepRecord(NamedTuple):
    """What a callback is told: the step (from 0), the loss before it, and its rate."""

    step: int
    loss: float
    rate: float


Callback = Callable[[StepRecord], None]


@dataclass
class History:
    """The training curve: the loss of every step, before its update.

    `compute_options` is what the model computed by meanwhile (see `Model.compute_options`).
    """

    losses: list[float] = field(default_factory=list)
    compute_options: dict[str, str] = field(default_factory=dict)


def fit(
    model: Model,
    data: Any,
    config: TrainConfig,
    callbacks: Iterable[Callback] = (),
    start: int = 0,
) -> History:
    """Train `model` for `config.steps` steps, from its present weights and fresh moments.

    Two models with the same weights, whatever their backends, see the same batches.

    Args:
        model: of any backend.
        data: Training images: a `pymobilenet.data.Dataset`, or a data set of torchvision or of
            Hugging Face's `datasets`, see `pymobilenet.data.to_dataset`.
        config: optimizer, schedule of the rate, batches.
        callbacks: each is called after every step; an exception from one ends the training.
        start: go on from this step, with the moments the model has: those of another `fit` with
            this config, whichever backend it ran in.

    Raises:
        DataError: Another kind of data.
        ConfigError: To go on, and the model's optimizer is not this config's.
    """
    if start and model.optimizer != config:
        raise ConfigError(
            f"to go on at step {start} the model must have this config's optimizer and moments: "
            f"set_optimizer(config), then set_state. Received: {model.optimizer}"
        )
    if not start:
        model.set_optimizer(config)
    history, callbacks = History(), tuple(callbacks)
    dataset = to_dataset(data)
    with model.fitting():
        history.compute_options = model.compute_options
        for record in take_steps(
            model, Batches(dataset, config, model.config, model.dtype), range(start, config.steps)
        ):
            history.losses.append(record.loss)
            for callback in callbacks:
                callback(record)
    return history


def take_steps(model: Model, batches: Batches, steps: Iterable[int]) -> Iterator[StepRecord]:
    """Take these steps, one whenever the next record is asked for."""
    for step in steps:
        images, labels, masks = batches.at(step)
        rate = rate_at(batches.train, step)
        loss, _ = model.step(images, labels, rate, masks)
        yield StepRecord(step, loss, rate)
