"""A MobileNets.jl model behind the protocol of `backends.base`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia.interop import FrozenCall, JuliaArrays, pairs, translated, view
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import OPTIMIZER_STEP, State

if TYPE_CHECKING:
    from pymobilenet.backends.julia import JuliaBackend


class JuliaModel(Model):
    """A MobileNets.jl model behind the protocol; `model` is the Julia object itself.

    With `distributed`, a step is that of all processes together, and all have to take it; all else
    each computes by itself.
    """

    def __init__(
        self,
        backend: JuliaBackend,
        config: MobileNetConfig,
        dtype: np.dtype,
        kernels: str = "fast",
        device: str = "cpu",
        distributed: bool = False,
    ) -> None:
        super().__init__(config, dtype)
        self.backend: JuliaBackend = backend
        self._julia = backend.julia
        self._together = {"processes": backend.join_processes()} if distributed else {}
        with translated():
            own = self._julia.from_json(self._julia.MobileNetConfig, config.to_json())
            kind = backend.element_types[dtype]
            self.model = self._julia.build(own, dtype=kind, kernels=kernels)
            self.processes = int(self._together["processes"].count) if distributed else 1
            self.is_main_process = not distributed or int(self._together["processes"].rank) == 0
        self.kernels, self.device = kernels, device
        self._workspace = backend.workspace(self.model, device)
        self._elsewhere = {} if device == "cpu" else {"workspace": self._workspace}
        self._is_fitting = False
        self.julia_optimizer: Any = None

    @property
    def compute_options(self) -> dict[str, str]:
        kernels = self.kernels if self.device == "cpu" else "Flux's"
        return {"kernels": kernels, "device": self.device, "processes": str(self.processes)}

    def get_state(self) -> State:
        with translated():
            moments = (self.julia_optimizer,) if self.slots else ()
            found = self._julia.get_state(self.model, *moments)
            return {name: np.array(tensor, order="C") for name, tensor in pairs(found)}

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        with translated():
            if OPTIMIZER_STEP in state:
                self._julia.set_state_b(self.model, self.julia_optimizer, self._dict(state))
            else:
                self._julia.set_state_b(self.model, self._dict(state))

    def _reset_optimizer(self, config: TrainConfig) -> None:
        with translated():
            own = self._julia.from_json(self._julia.TrainConfig, config.to_json())
            self.julia_optimizer = self._julia.setup(own, self.model)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        with translated():
            room = self._workspace
            return view(self._julia.predict(self.model, self._array(images), workspace=room))

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        with translated():
            run = self._julia.freeze(self.model, *self._elsewhere.values())
            if self.device == "cpu":
                entry = self._julia.FrozenCall(run)
                return FrozenCall(
                    entry, self._julia.addresses(entry), self.config.num_classes, self.dtype
                )

        def frozen(images: np.ndarray) -> np.ndarray:
            with translated():
                return view(run(self._array(images)))

        return frozen

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        if self.device != "cpu":
            raise ConfigError(
                "activations are those of the kernels, with device='cpu'. "
                f"Received: device {self.device!r}"
            )
        with translated():
            found = self._julia.activations(
                self.model, self._array(images), train=train, masks=self._masks_to_julia(masks)
            )
            return dict(pairs(found))

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        with translated():
            loss, grads = self._julia.loss_and_grads(
                self.model,
                self._array(images),
                self._array(labels),
                masks=self._masks_to_julia(masks),
                **self._elsewhere,
            )
            return float(loss), dict(pairs(grads))

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, Mapping[str, np.ndarray]]:
        with translated():
            loss, grads = self._julia.train_step_b(
                self.model,
                self.julia_optimizer,
                self._array(images),
                self._array(labels),
                rate,
                masks=self._masks_to_julia(masks),
                workspace=self._workspace,
                **self._together,
            )
            if self._is_fitting:
                return float(loss), JuliaArrays(grads)
            return float(loss), {name: array.copy() for name, array in pairs(grads)}

    def any_rank(self, found: bool) -> bool:
        if self.processes == 1:
            return found
        with translated():
            return bool(self._julia.any_rank(self._together["processes"], found))

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Meanwhile the gradients of a step are valid until the next: nobody looks at them."""
        self._is_fitting = True
        try:
            yield
        finally:
            self._is_fitting = False

    def _masks_to_julia(self, masks: dict[str, np.ndarray]) -> Any:
        return self._dict(masks) if masks else None

    def _dict(self, arrays: Mapping[str, np.ndarray]) -> Any:
        tensors = self.backend.new_dict()
        for name, array in arrays.items():
            tensors[name] = self._array(array)
        return tensors

    def _array(self, array: np.ndarray) -> Any:
        return self.backend.wrap(array)
