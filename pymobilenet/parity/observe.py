"""What is seen of a model in a scenario: every quantity that the levels compare, by key.

The order of the keys is the order in which a difference would arise: forward from the stem to the
logits, backward from the classifier to the stem, then statistics, moments and parameters. The
first key that diverges is therefore where the divergence begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pymobilenet.architecture import layers
from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch, activation_masks
from pymobilenet.config import MobileNetConfig
from pymobilenet.parity.scenario import OPTIMIZERS, Inputs
from pymobilenet.weights import State


class Key(NamedTuple):
    """`level` of the ladder, `quantity` compared, the canonical `name` of the tensor.

    `step` counts from zero, where several steps are taken.
    """

    level: int
    quantity: str
    name: str
    step: int | None = None

    def __str__(self) -> str:
        at = "" if self.step is None else f"/{self.step}"
        return f"{self.level}/{self.quantity}/{self.name}{at}"

    @classmethod
    def parse(cls, text: str) -> Key:
        level, quantity, name, *step = text.split("/")
        return cls(int(level), quantity, name, *map(int, step))


Observations = dict[Key, np.ndarray]

UNJUDGED = ("flips",)
"""Quantities that are reported and not held against a floor."""

FREE = ("free_loss", "free_grad")
"""Loss and gradients without masks: judged only where no activation mask flipped."""


@dataclass(frozen=True)
class SharedMasks:
    """The oracle's activation masks, by optimizer, for every step of a scenario.

    Below the kinks' noise a value may fall on either side of 0 or 6 in two correct programs, and
    its gradient is then there or not. With the same masks for everyone, gradients compare.
    """

    masks: dict[str, tuple[dict[str, np.ndarray], ...]]

    @property
    def first(self) -> dict[str, np.ndarray]:
        """The masks of the first step, which are those of every optimizer."""
        return next(iter(self.masks.values()))[0]


def masks_of(activations: Mapping[str, np.ndarray], activation: str) -> dict[str, np.ndarray]:
    """The masks (`activation_masks`) of all activations, from those of a pass in training mode."""
    return {
        name: activation_masks(activations[name.removesuffix("act") + "norm"], activation)
        for name in activations
        if name.endswith(".act")
    }


def activations_of_micro_batches(model: Model, batch: Batch, count: int) -> State:
    """A batch's activations in training mode, taken in `count` equal parts as a step takes it."""
    if count == 1:
        return model.activations(batch.images, train=True, masks=batch.masks)
    parts = (batch.micro_batch(number, count) for number in range(count))
    seen = [model.activations(part.images, train=True, masks=part.masks) for part in parts]
    return {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}


def compute_shared_masks(oracle: Model, inputs: Inputs) -> SharedMasks:
    """Let the oracle take every optimizer's steps and keep the masks it had on the way."""
    masks = {}
    for optimizer in OPTIMIZERS:
        inputs.give_to(oracle, optimizer)
        steps = []
        for images, labels in zip(inputs.images, inputs.labels, strict=True):
            seen = oracle.activations(images, train=True)
            steps.append(masks_of(seen, inputs.config.activation))
            oracle.step(images, labels, optimizer.rate, steps[-1])
        masks[optimizer.optimizer] = tuple(steps)
    return SharedMasks(masks)


def joined(tensors: Mapping[str, np.ndarray], config: MobileNetConfig) -> State:
    """Gradients or moments, that of a linear unit's norm bias together with its weight's, (2C,).

    What a linear bottleneck adds to a channel, the next convolution hands on as a constant and the
    next norm takes away: in exact arithmetic this gradient is 0, and all there is of it is
    rounding, which has no size of its own to be held against. Beside the weight's it has one.
    """
    found = dict(tensors)
    for layer in layers(config):
        if not layer.activation:
            for name in [name for name in tensors if name.endswith(f"{layer.name}.norm.bias")]:
                both = (tensors[name.removesuffix("bias") + "weight"], tensors[name])
                found[name] = np.concatenate(both)
    return found


def observe(
    model: Model, inputs: Inputs, shared_masks: SharedMasks, free: bool = True
) -> Observations:
    """Put `model` through the scenario; `free` adds loss and gradients without masks."""
    inputs.give_to(model)
    seen = _structure(model)
    seen |= _outputs(model, inputs, shared_masks)
    seen |= _gradients(model, inputs, shared_masks.first, "")
    if free:
        seen |= _gradients(model, inputs, {}, "free_")
    for optimizer in OPTIMIZERS:
        inputs.give_to(model, optimizer)
        for step, masks in enumerate(shared_masks.masks[optimizer.optimizer]):
            model.step(inputs.images[step], inputs.labels[step], optimizer.rate, masks)
            if step == 0 and optimizer is OPTIMIZERS[0]:
                seen |= _statistics(model.get_state())
            seen |= _trained(model, optimizer.optimizer, step)
    return seen


def observe_outputs(model: Model, inputs: Inputs, shared_masks: SharedMasks) -> Observations:
    """Level 1 alone."""
    inputs.give_to(model)
    return _outputs(model, inputs, shared_masks)


def with_joined_moments(state: State, config: MobileNetConfig) -> State:
    """A state whose moments are `joined`."""
    moments = {name: t for name, t in state.items() if name.startswith("optimizer.")}
    return state | joined(moments, config)


def _structure(model: Model) -> Observations:
    return {
        Key(0, "shape", name): np.array(tensor.shape, np.int64)
        for name, tensor in model.get_state().items()
        if not name.startswith("optimizer.")
    }


def _outputs(model: Model, inputs: Inputs, shared_masks: SharedMasks) -> Observations:
    images = inputs.images[0]
    seen: Observations = {}
    for quantity, train in (("eval", False), ("train", True)):
        values = model.activations(images, train=train)
        seen |= {Key(1, quantity, name): tensor for name, tensor in values.items()}
    seen[Key(1, "predict", "logits")] = model.predict(images)
    return seen | _flips(values, shared_masks.first, inputs.config.activation)


def _flips(activations: State, masks: Mapping[str, np.ndarray], activation: str) -> Observations:
    """For each activation, how many values are on another side of a kink than the oracle's, and
    the largest distance to a kink among them."""
    seen = {}
    for name, mine in masks_of(activations, activation).items():
        flipped = mine != masks[name]
        values = activations[name.removesuffix("act") + "norm"][flipped].astype(np.float64)
        distance = np.minimum(np.abs(values), np.abs(values - 6)).max(initial=0.0)
        seen[Key(2, "flips", name)] = np.array([flipped.sum(), distance])
    return seen


def _gradients(
    model: Model, inputs: Inputs, masks: Mapping[str, np.ndarray], prefix: str
) -> Observations:
    loss, found = model.loss_and_grads(inputs.images[0], inputs.labels[0], masks)
    grads = joined(found, inputs.config)
    seen = {Key(2, f"{prefix}loss", "loss"): np.array(loss)}
    backward = reversed(list(grads))
    return seen | {Key(2, f"{prefix}grad", name): np.array(grads[name]) for name in backward}


def _statistics(state: State) -> Observations:
    return {Key(2, "statistic", name): state[name] for name in state if "running_" in name}


def _trained(model: Model, optimizer: str, step: int) -> Observations:
    """Everything that a training step has moved."""
    state = with_joined_moments(model.get_state(), model.config)

    def kind(name: str) -> str:
        if name.startswith("optimizer."):
            return "moment"
        return "statistic" if "running_" in name else "parameter"

    order = ("statistic", "moment", "parameter")
    names = sorted(state, key=lambda name: order.index(kind(name)))
    return {Key(3, f"{optimizer}-{kind(name)}", name, step): state[name] for name in names}
