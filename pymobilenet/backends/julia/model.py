"""A MobileNets.jl model as a `Model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia.interop import (
    FrozenCall,
    JuliaArrays,
    named_views,
    translate_julia_errors,
    view,
)
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import OPTIMIZER_STEP, State

if TYPE_CHECKING:
    from pymobilenet.backends.julia import JuliaBackend


class JuliaModel(Model):
    """A MobileNets.jl model.

    With `distributed`, `step` averages gradients over all processes, and every process must call
    it. All other methods compute in this process alone.

    Attributes:
        model: The Julia object, a ``MobileNet`` of MobileNets.jl.
        kernels (str): "fast" or "reference".
        device (str): "cpu" or "cuda".
        processes (int): The number of processes that train this model.
        julia_optimizer: The optimizer of MobileNets.jl, or None before `set_optimizer`.
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
        self._process_options = {"processes": backend.join_processes()} if distributed else {}
        with translate_julia_errors():
            julia_config = self._julia.from_json(self._julia.MobileNetConfig, config.to_json())
            element_type = backend.element_types[dtype]
            self.model = self._julia.MobileNet(julia_config, dtype=element_type, kernels=kernels)
            self.processes = 1
            if distributed:
                processes = self._process_options["processes"]
                self.processes = int(processes.count)
                self.is_main_process = int(processes.rank) == 0
        self.kernels, self.device = kernels, device
        self._workspace = backend.workspace(self.model, device)
        self._device_options = {} if device == "cpu" else {"workspace": self._workspace}
        self._is_fitting = False
        self.julia_optimizer: Any = None

    @property
    def compute_options(self) -> dict[str, str]:
        """The kernels, the device and the number of processes."""
        kernels = self.kernels if self.device == "cpu" else "Flux's"
        return {"kernels": kernels, "device": self.device, "processes": str(self.processes)}

    def get_state(self) -> State:
        """Return a copy of the state; see `Model.get_state`."""
        with translate_julia_errors():
            moments = (self.julia_optimizer,) if self.slots else ()
            state = self._julia.get_state(self.model, *moments)
            return {name: np.array(tensor, order="C") for name, tensor in named_views(state)}

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        with translate_julia_errors():
            if OPTIMIZER_STEP in state:
                self._julia.set_state_b(self.model, self.julia_optimizer, self._dict(state))
            else:
                self._julia.set_state_b(self.model, self._dict(state))

    def _reset_optimizer(self, config: TrainConfig) -> None:
        with translate_julia_errors():
            julia_config = self._julia.from_json(self._julia.TrainConfig, config.to_json())
            self.julia_optimizer = self._julia.setup_optimizer(julia_config, self.model)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        with translate_julia_errors():
            logits = self._julia.predict(self.model, self._array(images), workspace=self._workspace)
            return view(logits)

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        with translate_julia_errors():
            frozen = self._julia.freeze(self.model, *self._device_options.values())
            if self.device == "cpu":
                call = self._julia.FrozenCall(frozen)
                addresses = self._julia.addresses(call)
                return FrozenCall(call, addresses, self.config.num_classes, self.dtype)

        def predict(images: np.ndarray) -> np.ndarray:
            with translate_julia_errors():
                return view(frozen(self._array(images)))

        return predict

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        if self.device != "cpu":
            raise ConfigError(
                "activations is supported with device='cpu' only. "
                f"Received: a model with device={self.device!r}"
            )
        with translate_julia_errors():
            activations = self._julia.activations(
                self.model, self._array(images), train=train, masks=self._masks_to_julia(masks)
            )
            return dict(named_views(activations))

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        with translate_julia_errors():
            loss, grads = self._julia.loss_and_grads(
                self.model,
                self._array(images),
                self._array(labels),
                masks=self._masks_to_julia(masks),
                **self._device_options,
            )
            return float(loss), dict(named_views(grads))

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, Mapping[str, np.ndarray]]:
        with translate_julia_errors():
            loss, grads = self._julia.train_step_b(
                self.model,
                self.julia_optimizer,
                self._array(images),
                self._array(labels),
                rate,
                masks=self._masks_to_julia(masks),
                workspace=self._workspace,
                **self._process_options,
            )
            if self._is_fitting:
                return float(loss), JuliaArrays(grads)
            return float(loss), {name: array.copy() for name, array in named_views(grads)}

    def any_rank(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process; see `Model.any_rank`."""
        if self.processes == 1:
            return flag
        with translate_julia_errors():
            return bool(self._julia.any_rank(self._process_options["processes"], flag))

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Skip the copy of each step's gradients: they stay valid until the next step only."""
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
