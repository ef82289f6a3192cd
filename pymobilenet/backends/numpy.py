"""The oracle: a MobileNet in float64, computed from the formulas with NumPy only.

It is slow. The other backends are compared with it; it is itself tested against finite differences
(tests/test_numpy_layers.py and tests/test_numpy_backend.py).
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
from pymobilenet.backends.numpy_optimizers import UPDATE_RULES, apply_decay, clip_gradients
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import OPTIMIZER_STEP, State


class NumpyBackend(Backend):
    """NumPy in float64. It uses no deep-learning framework and has no options."""

    name = "numpy"

    def versions(self) -> dict[str, str]:
        """Return the versions of NumPy and Python."""
        return {"numpy": np.__version__, "python": platform.python_version()}

    def supports_dtype(self, dtype: str) -> bool:
        """Return whether `dtype` is "float64".

        Args:
            dtype: "float32" or "float64".
        """
        return dtype == "float64"

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **_options: Any) -> NumpyModel:
        if dtype != np.float64:
            raise ConfigError(
                "the oracle computes in float64 only: call build with dtype='float64', or cast the "
                f"state passed to from_state with astype('float64'). Received: {dtype}"
            )
        return NumpyModel(self, config)


@dataclass
class _ForwardPass:
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


class NumpyModel(Model):
    """A MobileNet whose state is a dictionary of float64 arrays."""

    def __init__(self, backend: NumpyBackend, config: MobileNetConfig) -> None:
        super().__init__(config, np.dtype(np.float64))
        self.backend = backend
        self._state: State = {}

    def get_state(self) -> State:
        """Return a copy of the state; see `Model.get_state`."""
        return {name: tensor.copy() for name, tensor in self._state.items()}

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._state.update({name: np.array(tensor) for name, tensor in state.items()})

    # Forward

    def _predict(self, images: np.ndarray) -> np.ndarray:
        for unit in self._passes(images, train=False, masks={}):
            last = unit.output
        logits = self._classify(formulas.mean_pool(last))
        return formulas.softmax(logits) if self.config.softmax else logits

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        activations: State = {}
        for unit in self._passes(images, train, masks):
            name, block = unit.layer.name, unit.layer.block
            activations |= {f"{name}.conv": unit.conv, f"{name}.norm": unit.norm}
            activations |= {f"{name}.act": unit.act} if unit.layer.activation else {}
            activations |= {f"{block}.add": unit.output} if unit.layer.residual else {}
        activations["pool"] = formulas.mean_pool(unit.output)
        activations["logits"] = self._classify(_apply_dropout(activations["pool"], masks))
        if self.config.softmax:
            activations["probabilities"] = formulas.softmax(activations["logits"])
        return activations

    def _passes(
        self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]
    ) -> Iterator[_ForwardPass]:
        """Run the layers in order, as a generator: a layer's arrays are freed if not stored."""
        x, block = images, ""
        for layer in layers(self.config):
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
    ) -> _ForwardPass:
        """Run one layer forward; `mask` replaces the activation's own comparison."""
        weight = self._state[f"{layer.name}.conv.weight"]
        conv = formulas.conv(x, weight, layer.stride, layer.padding, layer.groups)
        norm_state = {
            field: self._state[f"{layer.name}.norm.{field}"]
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
        return _ForwardPass(layer, x, conv, normalised, norm, mask, act, output, statistics)

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
        self, passes: list[_ForwardPass], labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        """Compute the loss and its gradients, from the classifier back to the stem."""
        grads: State = {}
        last = passes[-1].output
        features = _apply_dropout(formulas.mean_pool(last), masks)
        loss, grad = formulas.cross_entropy(self._classify(features), labels)
        grad, grads["classifier.weight"], grads["classifier.bias"] = formulas.linear_backward(
            grad, features, self._state["classifier.weight"]
        )
        grad = formulas.mean_pool_backward(_apply_dropout(grad, masks), *last.shape[2:])
        first = {unit.layer.block: unit for unit in reversed(passes)}
        residual_grads: dict[str, np.ndarray] = {}  # of a block's input, through the residual
        for unit in reversed(passes):
            block = unit.layer.block
            if unit.layer.residual:
                residual_grads[block] = grad
            grad = self._unit_backward(unit, grad, grads)
            if first[block] is unit and block in residual_grads:
                grad = grad + residual_grads[block]
        return loss, {name: grads[name] for name in parameter_shapes(self.config)}

    def _unit_backward(self, unit: _ForwardPass, grad: np.ndarray, grads: State) -> np.ndarray:
        """Write one layer's parameter gradients into `grads`; return that of its inputs."""
        layer, name = unit.layer, unit.layer.name
        if unit.mask is not None:
            grad = formulas.activate_backward(grad, unit.mask)
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
        for micro_batch in (batch.micro_batch(number, count) for number in range(count)):
            passes = list(self._passes(micro_batch.images, train=True, masks=micro_batch.masks))
            micro_loss, micro_grads = self._backward(passes, micro_batch.labels, micro_batch.masks)
            self._update_running(passes)
            loss += micro_loss / count
            terms = {name: grad / count for name, grad in micro_grads.items()}
            grads = {name: grads[name] + term for name, term in terms.items()} if grads else terms
        self._update_parameters(grads, rate)
        return loss, grads

    def _update_running(self, passes: list[_ForwardPass]) -> None:
        momentum = self.config.norm_momentum
        for unit in passes:
            mean = f"{unit.layer.name}.norm.running_mean"
            variance = f"{unit.layer.name}.norm.running_var"
            batch = {mean: unit.statistics.mean, variance: unit.statistics.unbiased_variance}
            for name, value in batch.items():
                self._state[name] = (1 - momentum) * self._state[name] + momentum * value

    def _update_parameters(self, grads: State, rate: float) -> None:
        assert self.optimizer is not None
        update = UPDATE_RULES[self.optimizer.optimizer]
        count = int(self._state.get(OPTIMIZER_STEP, 0)) + 1
        for name, grad in clip_gradients(grads, self.optimizer.clip_norm).items():
            slots = [f"optimizer.{slot}.{name}" for slot in self.optimizer.moments]
            moments = tuple(self._state[slot] for slot in slots)
            parameter, grad = apply_decay(self.optimizer, self._state[name], grad, rate)
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
        moments: State = {}
        for slot in config.slots:
            for name, shape in parameter_shapes(self.config).items():
                start = weights[name] if slot == "ema" else np.full(shape, config.start_of(slot))
                moments[f"optimizer.{slot}.{name}"] = start.copy()
        if moments:
            moments[OPTIMIZER_STEP] = np.array(0, np.int64)
        self._state = {**weights, **moments}


def _apply_dropout(features: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """Multiply features, or their gradient, (N, C) with the dropout factors, if there are any."""
    return features * masks[DROPOUT] if DROPOUT in masks else features


def status() -> str:
    """Return that the backend is available, and NumPy's version."""
    return f"available (numpy {np.__version__}, float64 only)"


def load_backend() -> NumpyBackend:
    """Return the backend."""
    return NumpyBackend()
