"""The float64 oracle: a MobileNet computed from the formulas with NumPy alone.

Slow, and meant to be right: the other backends are judged by it, and it is judged by finite
differences (see tests/test_numpy_layers.py and tests/test_numpy_backend.py).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymobilenet.architecture import Layer, layers, parameter_shapes
from pymobilenet.backends import numpy_layers as formulas
from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.batch import Batch, activation_masks
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.backends.numpy_optimizers import RULES, clipped, decayed
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import OPTIMIZER_STEP, State


class NumpyBackend(Backend):
    """NumPy in float64, borrowing from no framework."""

    name = "numpy"

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "python": platform.python_version()}

    def computes(self, dtype: str) -> bool:
        return dtype == "float64"

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **_options: Any) -> NumpyModel:
        if dtype != np.float64:
            raise ConfigError(
                "the oracle computes in float64 alone: build it with dtype='float64', or pass "
                f"from_state a state cast with astype('float64'). Received: {dtype}"
            )
        return NumpyModel(self, config)


@dataclass
class _Pass:
    """One layer's way forward: what its backward pass and the running statistics need."""

    layer: Layer
    inputs: np.ndarray  # (N, I, H, W)
    conv: np.ndarray  # (N, O, H', W'), as are the next five
    normalised: np.ndarray
    norm: np.ndarray
    region: np.ndarray | None  # of the activation; None where the layer is linear
    act: np.ndarray  # the norm's output, where the layer is linear
    output: np.ndarray  # with the block's input added, where the layer ends a residual block
    statistics: formulas.Statistics  # the batch's in training mode, else the running ones


class NumpyModel(Model):
    """A MobileNet whose state is a dictionary of float64 arrays. Made by `NumpyBackend`."""

    def __init__(self, backend: NumpyBackend, config: MobileNetConfig) -> None:
        super().__init__(config, np.dtype(np.float64))
        self.backend = backend
        self._state: State = {}

    def get_state(self) -> State:
        return {name: tensor.copy() for name, tensor in self._state.items()}

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._state.update({name: np.array(tensor) for name, tensor in state.items()})

    # Forward

    def _predict(self, images: np.ndarray) -> np.ndarray:
        for unit in self._passes(images, train=False, masks={}):
            last = unit.output
        scores = self._classify(formulas.mean_pool(last))
        return formulas.softmax(scores) if self.config.softmax else scores

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        found: State = {}
        for unit in self._passes(images, train, masks):
            name, block = unit.layer.name, unit.layer.block
            found |= {f"{name}.conv": unit.conv, f"{name}.norm": unit.norm}
            found |= {f"{name}.act": unit.act} if unit.layer.activation else {}
            found |= {f"{block}.add": unit.output} if unit.layer.residual else {}
        found["pool"] = formulas.mean_pool(unit.output)
        found["logits"] = self._classify(_dropped(found["pool"], masks))
        if self.config.softmax:
            found["probabilities"] = formulas.softmax(found["logits"])
        return found

    def _passes(
        self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]
    ) -> Iterator[_Pass]:
        """Compute layer after layer; what the caller does not keep is freed on the way."""
        x, block = images, ""
        for layer in layers(self.config):
            if layer.block != block:
                block, entered = layer.block, x
            unit = self._forward(layer, x, entered, train, masks.get(f"{layer.name}.act"))
            x = unit.output
            yield unit

    def _forward(
        self,
        layer: Layer,
        x: np.ndarray,
        entered: np.ndarray,
        train: bool,
        region: np.ndarray | None,
    ) -> _Pass:
        """One layer's way forward from `x`, in a block whose input was `entered`."""
        weight = self._state[f"{layer.name}.conv.weight"]
        conv = formulas.conv(x, weight, layer.stride, layer.padding, layer.groups)
        of_norm = {
            part: self._state[f"{layer.name}.norm.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        if train:
            statistics = formulas.batch_statistics(conv)
        else:
            running = (of_norm["running_mean"], of_norm["running_var"])
            statistics = formulas.Statistics(*running, count=0)
        normalised = formulas.normalise(conv, statistics, self.config.norm_eps)
        norm = formulas.affine(normalised, of_norm["weight"], of_norm["bias"])
        if region is None and layer.activation:
            region = activation_masks(norm, self.config.activation)
        act = norm if region is None else formulas.activate(norm, region)
        output = entered + act if layer.residual else act
        return _Pass(layer, x, conv, normalised, norm, region, act, output, statistics)

    def _classify(self, features: np.ndarray) -> np.ndarray:
        weight, bias = self._state["classifier.weight"], self._state["classifier.bias"]
        return formulas.linear(features, weight, bias)

    # Backward

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        passes = list(self._passes(images, train=True, masks=masks))
        return self._backward(passes, labels, masks)

    def _backward(
        self, passes: list[_Pass], labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        """The loss and its gradients, from the classifier back to the stem."""
        grads: State = {}
        last = passes[-1].output
        features = _dropped(formulas.mean_pool(last), masks)
        loss, grad = formulas.cross_entropy(self._classify(features), labels)
        grad, grads["classifier.weight"], grads["classifier.bias"] = formulas.linear_backward(
            grad, features, self._state["classifier.weight"]
        )
        grad = formulas.mean_pool_backward(_dropped(grad, masks), *last.shape[2:])
        first = {unit.layer.block: unit for unit in reversed(passes)}
        around: dict[str, np.ndarray] = {}  # of a block's input, by way of the sum at its end
        for unit in reversed(passes):
            block = unit.layer.block
            if unit.layer.residual:
                around[block] = grad
            grad = self._unit_backward(unit, grad, grads)
            if first[block] is unit and block in around:
                grad = grad + around[block]
        return loss, {name: grads[name] for name in parameter_shapes(self.config)}

    def _unit_backward(self, unit: _Pass, grad: np.ndarray, grads: State) -> np.ndarray:
        """Write one layer's gradients into `grads`; return that of its inputs."""
        layer, name = unit.layer, unit.layer.name
        if unit.region is not None:
            grad = formulas.activate_backward(grad, unit.region)
        grad, grads[f"{name}.norm.weight"], grads[f"{name}.norm.bias"] = formulas.affine_backward(
            grad, unit.normalised, self._state[f"{name}.norm.weight"]
        )
        grad = formulas.normalise_batch_backward(
            grad, unit.normalised, unit.statistics, self.config.norm_eps
        )
        grad, grads[f"{name}.conv.weight"] = formulas.conv_backward(
            grad,
            unit.inputs,
            self._state[f"{name}.conv.weight"],
            layer.stride,
            layer.padding,
            layer.groups,
        )
        return grad

    # Training

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        assert self.optimizer is not None
        count, batch = self.optimizer.accumulate, Batch(images, labels, masks)
        loss = 0.0
        grads: State = {}
        for part in (batch.micro_batch(number, count) for number in range(count)):
            passes = list(self._passes(part.images, train=True, masks=part.masks))
            of_part, found = self._backward(passes, part.labels, part.masks)
            self._update_running(passes)
            loss += of_part / count
            found = {name: grad / count for name, grad in found.items()}
            grads = {name: grads[name] + grad for name, grad in found.items()} if grads else found
        self._update_parameters(grads, rate)
        return loss, grads

    def _update_running(self, passes: list[_Pass]) -> None:
        momentum = self.config.norm_momentum
        for unit in passes:
            mean = f"{unit.layer.name}.norm.running_mean"
            variance = f"{unit.layer.name}.norm.running_var"
            found = {mean: unit.statistics.mean, variance: unit.statistics.unbiased_variance}
            for name, value in found.items():
                self._state[name] = (1 - momentum) * self._state[name] + momentum * value

    def _update_parameters(self, grads: State, rate: float) -> None:
        assert self.optimizer is not None
        update = RULES[self.optimizer.optimizer]
        count = int(self._state.get(OPTIMIZER_STEP, 0)) + 1
        for name, grad in clipped(grads, self.optimizer.clip_norm).items():
            slots = [f"optimizer.{slot}.{name}" for slot in self.optimizer.moments]
            moments = tuple(self._state[slot] for slot in slots)
            parameter, grad = decayed(self.optimizer, self._state[name], grad, rate)
            self._state[name], moments = update(
                self.optimizer, parameter, grad, moments, rate, count
            )
            self._state.update(zip(slots, moments, strict=True))
            if self.optimizer.ema_decay > 0:
                ema = self._state[f"optimizer.ema.{name}"]
                ema = ema + (1 - self.optimizer.ema_decay) * (self._state[name] - ema)
                self._state[f"optimizer.ema.{name}"] = ema
        if self.optimizer.slots:
            self._state[OPTIMIZER_STEP] = np.array(count, np.int64)

    def _reset_optimizer(self, config: TrainConfig) -> None:
        weights = {k: v for k, v in self._state.items() if not k.startswith("optimizer.")}
        kept: State = {}
        for slot in config.slots:
            for name, shape in parameter_shapes(self.config).items():
                start = weights[name] if slot == "ema" else np.full(shape, config.start_of(slot))
                kept[f"optimizer.{slot}.{name}"] = start.copy()
        if kept:
            kept[OPTIMIZER_STEP] = np.array(0, np.int64)
        self._state = {**weights, **kept}


def _dropped(features: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """Features, or their gradient, (N, C) times the dropout factors, where there are any."""
    return features * masks[DROPOUT] if DROPOUT in masks else features


def status() -> str:
    return f"available (numpy {np.__version__}, float64 only)"


def load_backend() -> NumpyBackend:
    return NumpyBackend()
