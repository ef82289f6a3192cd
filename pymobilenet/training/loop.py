"""The training loop, for models of every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pymobilenet.backends.base import Model
from pymobilenet.config import TrainConfig
from pymobilenet.data import to_dataset
from pymobilenet.errors import ConfigError
from pymobilenet.training.batches import Batches
from pymobilenet.training.prefetch import Prefetch
from pymobilenet.training.schedules import rate_at


class StepRecord(NamedTuple):
    """The argument of a callback.

    Attributes:
        step: Number of the step, from 0.
        loss: The loss before the step's update.
        rate: The learning rate.
    """

    step: int
    loss: float
    rate: float


Callback = Callable[[StepRecord], None]


@dataclass
class History:
    """The training curve.

    Attributes:
        losses: The loss of every step, before its update.
        compute_options: The model's settings during training; see `Model.compute_options`.
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
    """Train a model for `config.steps` steps, from its current weights and a new optimizer.

    Models of all backends see the same batches, bit for bit.

    Args:
        model: Of any backend.
        data: Training images: a `pymobilenet.data.Dataset`, or a data set of torchvision or of
            Hugging Face's `datasets`, see `pymobilenet.data.to_dataset`.
        config: Optimizer, schedule, batches and augmentation.
        callbacks: Functions that are called after every step; an exception ends the training.
        start: Continue from this step, with the model's current moments: those of another `fit`
            with the same config, in any backend.

    Returns:
        The training curve.

    Raises:
        DataError: Another kind of data, or data that do not fit the model.
        ConfigError: `start` is not 0 and the model's optimizer is not that of `config`.

    Examples:
        >>> from pymobilenet import MobileNetConfig, TrainConfig, backend
        >>> from pymobilenet.data import synthetic
        >>> config = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5)
        >>> model = backend("torch").build(config)
        >>> history = fit(model, synthetic(16, num_classes=5), TrainConfig(batch_size=8, steps=2))
        >>> len(history.losses)
        2
    """
    if start and model.optimizer != config:
        raise ConfigError(
            f"to continue at step {start} the model must have the optimizer of this config: call "
            f"set_optimizer(config), then set_state. Received: {model.optimizer}"
        )
    if not start:
        model.set_optimizer(config)
    history, callbacks = History(), tuple(callbacks)
    dataset = to_dataset(data)
    batches = Batches(dataset, config, model.config, model.dtype)
    with model.fitting(), Prefetch(batches, config.steps) as prefetch:
        history.compute_options = model.compute_options
        for record in take_steps(model, prefetch, config, range(start, config.steps)):
            history.losses.append(record.loss)
            for callback in callbacks:
                callback(record)
    return history


def take_steps(
    model: Model, batches: Batches | Prefetch, config: TrainConfig, steps: Iterable[int]
) -> Iterator[StepRecord]:
    """Take training steps, as a generator.

    Args:
        model: With an optimizer.
        batches: The batches.
        config: The schedule.
        steps: Numbers of the steps to take.

    Yields:
        The record of each step.
    """
    for step in steps:
        images, labels, masks = batches.at(step)
        rate = rate_at(config, step)
        loss, _ = model.step(images, labels, rate, masks)
        yield StepRecord(step, loss, rate)
