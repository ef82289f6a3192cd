"""Observations: every quantity of a model in a scenario that the levels compare, by key.

The order of the keys is the order in which a difference would arise: forward from the stem to the
logits, backward from the classifier to the stem, then statistics, moments and parameters. The
first key that differs is therefore where the divergence begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pymobilenet.architecture import layers
from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch, activation_masks
from pymobilenet.config import MobileNetConfig
from pymobilenet.parity.scenario import WORKING_RECIPES, Inputs
from pymobilenet.weights import State


class Key(NamedTuple):
    """The key of one observation.

    Attributes:
        level: Level of the ladder.
        quantity: What is compared, such as ``eval``, ``grad`` or ``sgd-moment``.
        name: The canonical name of the tensor.
        step: The step, counted from zero, where several are taken.
    """

    level: int
    quantity: str
    name: str
    step: int | None = None

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        at = "" if self.step is None else f"/{self.step}"
        return f"{self.level}/{self.quantity}/{self.name}{at}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """Return the key of the text ``level/quantity/name`` or ``level/quantity/name/step``."""
        level, quantity, name, *step = text.split("/")
        return cls(int(level), quantity, name, *map(int, step))


Observations = dict[Key, np.ndarray]
"""Key -> array, in the order in which a difference would arise."""

REPORTED_ONLY = ("flips",)
"""Quantities that are reported but not compared with a floor."""

UNMASKED = ("free_loss", "free_grad")
"""Loss and gradients without masks: compared only where no activation mask flipped."""


def masks_of_activations(
    activations: Mapping[str, np.ndarray], activation: str
) -> dict[str, np.ndarray]:
    """Return the masks of all activations (see `backends.batch.activation_masks`).

    Args:
        activations: The activations of a forward pass, by name.
        activation: The activation function: relu or relu6.

    Returns:
        Name of the activation -> uint8 mask of its shape (N, C, H, W).
    """
    return {
        name: activation_masks(activations[name.removesuffix("act") + "norm"], activation)
        for name in activations
        if name.endswith(".act")
    }


def activations_by_micro_batch(model: Model, batch: Batch, count: int) -> State:
    """Return a batch's activations in training mode, computed in `count` equal micro-batches.

    A training step with ``accumulate=count`` normalizes each micro-batch by its own statistics.

    Args:
        model: A model of any backend.
        batch: Images (N, C, H, W), labels and masks.
        count: Micro-batches in the batch.

    Returns:
        Name -> activation (N, C, H, W) of the whole batch.
    """
    if count == 1:
        return model.activations(batch.images, train=True, masks=batch.masks)
    micro_batches = (batch.micro_batch(number, count) for number in range(count))
    results = [model.activations(one.images, train=True, masks=one.masks) for one in micro_batches]
    return {name: np.concatenate([one[name] for one in results]) for name in results[0]}


def without_activation_masks(batch: Batch) -> Batch:
    """Return a batch without activation masks; dropout factors remain.

    Args:
        batch: A batch with masks.
    """
    masks = {name: mask for name, mask in batch.masks.items() if not name.endswith(".act")}
    return batch._replace(masks=masks)


def join_linear_norms(tensors: Mapping[str, np.ndarray], config: MobileNetConfig) -> State:
    """Join the gradient or moment of a linear unit's norm bias with that of its weight, (2C,).

    A constant that a linear bottleneck adds to a channel is removed by the next norm. In exact
    arithmetic the gradient of the bias is therefore 0, and its computed value consists of rounding
    errors, which have no norm to be compared with. Joined with the weight's it has one.

    Args:
        tensors: Name -> gradient or moment.
        config: The net.

    Returns:
        Name -> array, with the joined ones in place of weight and bias.
    """
    result = dict(tensors)
    for layer in layers(config):
        if not layer.activation:
            for name in [name for name in tensors if name.endswith(f"{layer.name}.norm.bias")]:
                both = (tensors[name.removesuffix("bias") + "weight"], tensors[name])
                result[name] = np.concatenate(both)
    return result


def observe(model: Model, inputs: Inputs, unmasked: bool = True) -> Observations:
    """Run a scenario in a model and return all that levels 0 to 3 compare.

    Args:
        model: A model of any backend.
        inputs: The state and the batches, with the oracle's activation masks.
        unmasked: Also compute loss and gradients without activation masks.

    Returns:
        Key -> array, in the order in which a difference would arise.
    """
    inputs.load_into(model)
    results = _structure(model)
    results |= _outputs(model, inputs)
    results |= _gradients(model, inputs.first, "")
    if unmasked:
        results |= _gradients(model, without_activation_masks(inputs.first), "free_")
    for recipe in WORKING_RECIPES:
        inputs.load_into(model, recipe)
        for step, batch in enumerate(inputs.batches[recipe.optimizer]):
            model.step(batch.images, batch.labels, recipe.rate, batch.masks)
            if step == 0 and recipe is WORKING_RECIPES[0]:
                results |= _statistics(model.get_state())
            results |= _after_step(model, recipe.optimizer, step)
    return results


def observe_outputs(model: Model, inputs: Inputs) -> Observations:
    """Run a scenario in a model and return the outputs, which level 1 compares.

    Args:
        model: A model of any backend.
        inputs: The state and the batches, with the oracle's activation masks.
    """
    inputs.load_into(model)
    return _outputs(model, inputs)


def join_moments(state: State, config: MobileNetConfig) -> State:
    """Return a state whose moments went through `join_linear_norms`.

    Args:
        state: Name -> array.
        config: The architecture.
    """
    moments = {name: t for name, t in state.items() if name.startswith("optimizer.")}
    return state | join_linear_norms(moments, config)


def _structure(model: Model) -> Observations:
    return {
        Key(0, "shape", name): np.array(tensor.shape, np.int64)
        for name, tensor in model.get_state().items()
        if not name.startswith("optimizer.")
    }


def _outputs(model: Model, inputs: Inputs) -> Observations:
    images, _, factors = without_activation_masks(inputs.first)
    results: Observations = {}
    for quantity, train, masks in (("eval", False, {}), ("train", True, factors)):
        values = model.activations(images, train, masks)
        results |= {Key(1, quantity, name): tensor for name, tensor in values.items()}
    for quantity, predict in (("predict", model.predict), ("frozen", model.freeze())):
        # one image alone: small maps may have kernels of their own
        shares = [share for share in (images[:1], images[1:]) if len(share)]
        logits = np.concatenate([predict(share) for share in shares])
        results[Key(1, quantity, "logits")] = logits
    return results | _flips(values, inputs.first.masks, inputs.config.activation)


def _flips(activations: State, masks: Mapping[str, np.ndarray], activation: str) -> Observations:
    """Count the values of each activation on another side of a kink than the oracle's.

    Returns:
        An array (2,) for each activation: the count, and the largest distance to a kink.
    """
    results = {}
    for name, mask in masks_of_activations(activations, activation).items():
        flipped = mask != masks[name]
        values = activations[name.removesuffix("act") + "norm"][flipped].astype(np.float64)
        distance = np.minimum(np.abs(values), np.abs(values - 6)).max(initial=0.0)
        results[Key(2, "flips", name)] = np.array([flipped.sum(), distance])
    return results


def _gradients(model: Model, batch: Batch, prefix: str) -> Observations:
    loss, gradients = model.loss_and_grads(*batch)
    grads = join_linear_norms(gradients, model.config)
    results = {Key(2, f"{prefix}loss", "loss"): np.array(loss)}
    backward = reversed(list(grads))
    return results | {Key(2, f"{prefix}grad", name): np.array(grads[name]) for name in backward}


def _statistics(state: State) -> Observations:
    return {Key(2, "statistic", name): state[name] for name in state if "running_" in name}


def _after_step(model: Model, optimizer: str, step: int) -> Observations:
    """Return everything that a training step changes."""
    state = join_moments(model.get_state(), model.config)

    def kind(name: str) -> str:
        if name.startswith("optimizer."):
            return "moment"
        return "statistic" if "running_" in name else "parameter"

    order = ("statistic", "moment", "parameter")
    names = sorted(state, key=lambda name: order.index(kind(name)))
    return {Key(3, f"{optimizer}-{kind(name)}", name, step): state[name] for name in names}
