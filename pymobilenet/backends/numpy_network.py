"""The oracle's computation: layers forward and backward, from a state of float64 arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.architecture import Layer, layers, parameter_shapes
from pymobilenet.backends import numpy_layers as formulas
from pymobilenet.backends.batch import activation_masks
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.config import MobileNetConfig
from pymobilenet.weights import State


@dataclass
class ForwardPass:
    """The values of one layer's forward pass that its backward pass and statistics need."""

    layer: Layer
    inputs: np.ndarray  # (N, I, H, W)
    conv: np.ndarray  # (N, O, H', W'), as are the next six
    normalised: np.ndarray
    norm: np.ndarray
    mask: np.ndarray | None  # activation mask; None for a linear layer
    act: np.ndarray  # equal to `norm` for a linear layer
    output: np.ndarray  # `act`, plus the block's input at the end of a residual block
    statistics: formulas.Statistics  # of the batch in training mode, else the running ones


class NumpyNetwork:
    """A MobileNet's layers, on a state that somebody else may change.

    Args:
        config: The architecture.
        state: Name -> float64 array.
    """

    def __init__(self, config: MobileNetConfig, state: State) -> None:
        self.config, self.state = config, state

    def activations_of(self, passes: Sequence[ForwardPass]) -> State:
        """Return the activations of layers by name.

        Args:
            passes: Of the layers.
        """
        activations: State = {}
        for unit in passes:
            name, block = unit.layer.name, unit.layer.block
            activations |= {f"{name}.conv": unit.conv, f"{name}.norm": unit.norm}
            activations |= {f"{name}.act": unit.act} if unit.layer.activation else {}
            activations |= {f"{block}.add": unit.output} if unit.layer.residual else {}
        return activations

    def activations_of_scores(self, maps: np.ndarray, masks: dict[str, np.ndarray]) -> State:
        """Return the activations that follow the last maps (N, C, H, W), by name.

        Args:
            maps: The output of the last layer.
            masks: As in `Model.loss_and_grads`.
        """
        pool = formulas.mean_pool(maps)
        activations = {"pool": pool, "logits": self._classify(_apply_dropout(pool, masks))}
        if self.config.softmax:
            activations["probabilities"] = formulas.softmax(activations["logits"])
        return activations

    def scores(self, maps: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
        """Return the logits (N, classes) of the last maps (N, C, H, W).

        Args:
            maps: The output of the last layer.
            masks: As in `Model.loss_and_grads`.
        """
        return self._classify(_apply_dropout(formulas.mean_pool(maps), masks))

    def passes(
        self,
        x: np.ndarray,
        train: bool,
        masks: dict[str, np.ndarray],
        chosen: Sequence[Layer] | None = None,
    ) -> Iterator[ForwardPass]:
        """Run layers in order, as a generator: a layer's arrays are freed if not stored.

        Args:
            x: The input of the first layer.
            train: Whether norms use the statistics of the batch.
            masks: As in `Model.loss_and_grads`.
            chosen: The layers; default all.

        Returns:
            The forward pass of each layer.
        """
        block = ""
        for layer in layers(self.config) if chosen is None else chosen:
            if layer.block != block:
                block, block_input = layer.block, x
            unit = self._forward(layer, x, block_input, train, masks.get(f"{layer.name}.act"))
            x = unit.output
            yield unit

    def _forward(
        self,
        layer: Layer,
        x: np.ndarray,
        block_input: np.ndarray,
        train: bool,
        mask: np.ndarray | None,
    ) -> ForwardPass:
        """Run one layer forward; `mask` replaces the activation's own comparison."""
        weight = self.state[f"{layer.name}.conv.weight"]
        conv = formulas.conv(x, weight, layer.stride, layer.padding, layer.groups)
        norm_state = {
            field: self.state[f"{layer.name}.norm.{field}"]
            for field in ("weight", "bias", "running_mean", "running_var")
        }
        if train:
            statistics = formulas.batch_statistics(conv)
        else:
            running = (norm_state["running_mean"], norm_state["running_var"])
            statistics = formulas.Statistics(*running, count=0)
        normalised = formulas.normalise(conv, statistics, self.config.norm_eps)
        norm = formulas.affine(normalised, norm_state["weight"], norm_state["bias"])
        if mask is None and layer.activation:
            mask = activation_masks(norm, self.config.activation)
        act = norm if mask is None else formulas.activate(norm, mask)
        output = block_input + act if layer.residual else act
        return ForwardPass(layer, x, conv, normalised, norm, mask, act, output, statistics)

    def _classify(self, features: np.ndarray) -> np.ndarray:
        weight, bias = self.state["classifier.weight"], self.state["classifier.bias"]
        return formulas.linear(features, weight, bias)

    def backward(
        self, passes: Sequence[ForwardPass], labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        """Compute the loss and its gradients, from the classifier back to the stem.

        Args:
            passes: Of all layers, in training mode.
            labels: (N,) or (N, classes).
            masks: As in `Model.loss_and_grads`.

        Returns:
            The loss, and the gradients of the parameters by name.
        """
        grads: State = {}
        last = passes[-1].output
        loss, grad = formulas.cross_entropy(self.scores(last, masks), labels)
        grad = self.scores_backward(last, masks, grad, grads)
        self.units_backward(passes, grad, grads)
        return loss, {name: grads[name] for name in parameter_shapes(self.config)}

    def scores_backward(
        self, maps: np.ndarray, masks: dict[str, np.ndarray], grad: np.ndarray, grads: State
    ) -> np.ndarray:
        """Write the classifier's gradients into `grads`.

        Args:
            maps: (N, C, H, W), the output of the last layer.
            masks: As in `Model.loss_and_grads`.
            grad: (N, classes), the gradient of the logits.
            grads: Receives the gradients by name.

        Returns:
            The gradient of the last maps.
        """
        features = _apply_dropout(formulas.mean_pool(maps), masks)
        grad, grads["classifier.weight"], grads["classifier.bias"] = formulas.linear_backward(
            grad, features, self.state["classifier.weight"]
        )
        return formulas.mean_pool_backward(_apply_dropout(grad, masks), *maps.shape[2:])

    def units_backward(
        self, passes: Sequence[ForwardPass], grad: np.ndarray, grads: State
    ) -> np.ndarray:
        """Write the gradients of layers into `grads`.

        Args:
            passes: Of the layers, in order.
            grad: The gradient of the last one's output.
            grads: Receives the gradients by name.

        Returns:
            The gradient of the first one's input.
        """
        first = {unit.layer.block: unit for unit in reversed(passes)}
        residual_grads: dict[str, np.ndarray] = {}  # of a block's input, through the residual
        for unit in reversed(passes):
            block = unit.layer.block
            if unit.layer.residual:
                residual_grads[block] = grad
            grad = self._unit_backward(unit, grad, grads)
            if first[block] is unit and block in residual_grads:
                grad = grad + residual_grads[block]
        return grad

    def _unit_backward(self, unit: ForwardPass, grad: np.ndarray, grads: State) -> np.ndarray:
        """Write one layer's parameter gradients into `grads`; return that of its inputs."""
        layer, name = unit.layer, unit.layer.name
        if unit.mask is not None:
            grad = formulas.activate_backward(grad, unit.mask)
        grad, grads[f"{name}.norm.weight"], grads[f"{name}.norm.bias"] = formulas.affine_backward(
            grad, unit.normalised, self.state[f"{name}.norm.weight"]
        )
        if unit.statistics.count:
            grad = formulas.normalise_batch_backward(
                grad, unit.normalised, unit.statistics, self.config.norm_eps
            )
        else:
            grad = formulas.normalise_backward(grad, unit.statistics, self.config.norm_eps)
        grad, grads[f"{name}.conv.weight"] = formulas.conv_backward(
            grad,
            unit.inputs,
            self.state[f"{name}.conv.weight"],
            layer.stride,
            layer.padding,
            layer.groups,
        )
        return grad

    def update_running(self, passes: Sequence[ForwardPass]) -> None:
        """Update the running statistics with those of the batch.

        Args:
            passes: Of the layers, in training mode.
        """
        momentum = self.config.norm_momentum
        for unit in passes:
            mean = f"{unit.layer.name}.norm.running_mean"
            variance = f"{unit.layer.name}.norm.running_var"
            batch = {mean: unit.statistics.mean, variance: unit.statistics.unbiased_variance}
            for name, value in batch.items():
                self.state[name] = (1 - momentum) * self.state[name] + momentum * value


def _apply_dropout(features: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """Multiply features, or their gradient, (N, C) with the dropout factors, if there are any."""
    return features * masks[DROPOUT] if DROPOUT in masks else features
