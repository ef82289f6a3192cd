"""The oracle: a MobileNet in float64, computed from the formulas with NumPy only.

It is slow. The other backends are compared with it; it is itself tested against finite differences
(tests/test_numpy_layers.py and tests/test_numpy_backend.py).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

from pymobilenet.architecture import parameter_shapes
from pymobilenet.backends import numpy_layers as formulas
from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.batch import Batch
from pymobilenet.backends.numpy_network import NumpyNetwork
from pymobilenet.backends.numpy_optimizers import UPDATE_RULES, apply_decay, clip_gradients
from pymobilenet.backends.numpy_part import NumpyPart
from pymobilenet.backends.part import split_layers
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


class NumpyModel(Model):
    """A MobileNet whose state is a dictionary of float64 arrays.

    Attributes:
        network (NumpyNetwork): The layers.
    """

    def __init__(self, backend: NumpyBackend, config: MobileNetConfig) -> None:
        super().__init__(config, np.dtype(np.float64))
        self.backend = backend
        self._state: State = {}
        self.network = NumpyNetwork(config, self._state)

    def get_state(self) -> State:
        """Return a copy of the state; see `Model.get_state`."""
        return {name: tensor.copy() for name, tensor in self._state.items()}

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._state.update({name: np.array(tensor) for name, tensor in state.items()})

    def split(self, cut: int) -> tuple[NumpyPart, NumpyPart]:
        """Return front and back as functions with gradients; see `Model.split`."""
        front, back = split_layers(self.config, cut)
        return NumpyPart(self.network, front, False), NumpyPart(self.network, back, True)

    # Forward

    def _predict(self, images: np.ndarray) -> np.ndarray:
        for unit in self.network.passes(images, train=False, masks={}):
            last = unit.output
        logits = self.network.scores(last, {})
        return formulas.softmax(logits) if self.config.softmax else logits

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        network = self.network
        passes = list(network.passes(images, train, masks))
        last = passes[-1].output
        return network.activations_of(passes) | network.activations_of_scores(last, masks)

    # Backward

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        passes = list(self.network.passes(images, train=True, masks=masks))
        return self.network.backward(passes, labels, masks)

    # Training

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        assert self.optimizer is not None
        count, batch = self.optimizer.accumulate, Batch(images, labels, masks)
        loss = 0.0
        grads: State = {}
        for micro_batch in (batch.micro_batch(number, count) for number in range(count)):
            passes = list(
                self.network.passes(micro_batch.images, train=True, masks=micro_batch.masks)
            )
            micro_loss, micro_grads = self.network.backward(
                passes, micro_batch.labels, micro_batch.masks
            )
            self.network.update_running(passes)
            loss += micro_loss / count
            terms = {name: grad / count for name, grad in micro_grads.items()}
            grads = {name: grads[name] + term for name, term in terms.items()} if grads else terms
        self._update_parameters(grads, rate)
        return loss, grads

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
        self._state.clear()
        self._state.update(weights | moments)


def status() -> str:
    """Return that the backend is available, and NumPy's version."""
    return f"available (numpy {np.__version__}, float64 only)"


def load_backend() -> NumpyBackend:
    """Return the backend."""
    return NumpyBackend()
