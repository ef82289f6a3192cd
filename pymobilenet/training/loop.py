"""One training loop for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pymobilenet.backends.base import Model
from pymobilenet.config import TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.errors import ConfigError
from pymobilenet.training.batches import Batches


class StepRecord(NamedTuple):
    """What a callback is told: the step (from 0), the loss before it, and its rate."""

    step: int
    loss: float
    rate: float


Callback = Callable[[StepRecord], None]


@dataclass
class History:
    """The training curve: the loss of every step, before its update.

    `choices` is what the model computed by meanwhile (see `Model.choices`).
    """

    losses: list[float] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)


def fit(
    model: Model, data: Dataset, config: TrainConfig, callbacks: Iterable[Callback] = ()
) -> History:
    """Train `model` for `config.steps` steps, from its present weights and fresh moments.

    Two models with the same weights, whatever their backends, see the same batches.

    Args:
        model: of any backend.
        data: training images.
        config: optimizer, rate, batches.
        callbacks: each is called after every step; an exception from one ends the training.

    Raises:
        ConfigError: `config` asks for mixup.
    """
    if config.mixup:
        raise ConfigError(
            "fit trains on whole labels: mixup must be 0. `Batches` gives mixed images and their "
            f"targets to a loop of your own. Received: {config.mixup}"
        )
    batches = Batches(data, config, model.config, model.dtype)
    model.set_optimizer(config)
    history = History()
    with model.fitting():
        history.choices = model.choices
        for step in range(config.steps):
            images, labels, masks = batches.at(step)
            loss, _ = model.step(images, labels, config.rate, masks)
            history.losses.append(loss)
            for callback in callbacks:
                callback(StepRecord(step, loss, config.rate))
    return history
