"""A MobileNets.jl model as a `Model`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia.calls import DTYPES, Handle, LazyArrays, Result
from pymobilenet.backends.julia.interop import FrozenCall
from pymobilenet.backends.julia.part import JuliaPart
from pymobilenet.backends.part import split_layers
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import OPTIMIZER_STEP, State

if TYPE_CHECKING:
    from pymobilenet.backends.julia import JuliaBackend


KERNELS = ("fast", "reference")


class JuliaModel(Model):
    """A MobileNets.jl model. Any thread may call it; calls of one model wait for each other.

    With `distributed`, `step` averages gradients over all processes, and every process must call
    it. All other methods compute in this process alone.

    Attributes:
        kernels (str): "fast" or "reference".
        device (str): "cpu" or "cuda".
        processes (int): The number of processes that train this model.
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
        if kernels not in KERNELS:
            raise ConfigError(f"kernels must be one of {', '.join(KERNELS)}. Received: {kernels!r}")
        self.backend: JuliaBackend = backend
        self.kernels, self.device = kernels, device
        self.processes, self._processes = 1, None
        if kernels == "reference" or device != "cpu":
            backend.load_package("Flux")
        if distributed:
            self.processes, rank, self._processes = backend.join_processes()
            self.is_main_process = rank == 0
        self._lock = threading.RLock()
        text = f"{kernels} {DTYPES.index(dtype)} {config.to_json()}"
        self._model = self._call("new_model", text=text).handle
        self._workspace = self._call("new_workspace", self._model, text=device).handle
        self._optimizer: Handle | None = None
        self._is_fitting = False

    @property
    def model(self) -> Any:
        """The Julia object, a ``MobileNet`` of MobileNets.jl, through juliacall."""
        return self.backend.object(self._model)

    @property
    def julia_optimizer(self) -> Any:
        """The ``Optimizer`` of MobileNets.jl, or None before `set_optimizer`."""
        return None if self._optimizer is None else self.backend.object(self._optimizer)

    @property
    def compute_options(self) -> dict[str, str]:
        """The kernels, the device and the number of processes."""
        kernels = self.kernels if self.device == "cpu" else "Flux's"
        return {"kernels": kernels, "device": self.device, "processes": str(self.processes)}

    def get_state(self) -> State:
        """Return a copy of the state; see `Model.get_state`."""
        with self._lock:
            state = self._call("get_state", self._model, self._optimizer if self.slots else None)
            return {name: tensor.copy() for name, tensor in state.arrays.items()}

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        with self._lock:
            optimizer = self._optimizer if OPTIMIZER_STEP in state else None
            self._call("set_state", self._model, optimizer, named=state)

    def _reset_optimizer(self, config: TrainConfig) -> None:
        with self._lock:
            optimizer = self._call("new_optimizer", self._model, text=config.to_json())
            self._optimizer = optimizer.handle

    def _predict(self, images: np.ndarray) -> np.ndarray:
        logits = np.empty((len(images), self.config.num_classes), self.dtype)
        with self._lock:
            self._call("predict", self._model, self._workspace, inputs=(images, logits))
        return logits

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        classes, dtype = self.config.num_classes, self.dtype
        with self._lock:
            if self.device == "cpu":
                frozen = self._call("freeze", self._model)
                return FrozenCall(self.backend.calls, frozen, classes, dtype)
            frozen = self._call("freeze_on_device", self._model, self._workspace)
        lock = threading.Lock()

        def predict(images: np.ndarray) -> np.ndarray:
            logits = np.empty((len(images), classes), dtype)
            with lock:
                self._call("call_frozen", frozen.handle, inputs=(images, logits))
            return logits

        return predict

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        if self.device != "cpu":
            raise ConfigError(
                "activations is supported with device='cpu' only. "
                f"Received: a model with device={self.device!r}"
            )
        with self._lock:
            result = self._call(
                "activations", self._model, inputs=(images,), named=masks, flag=train
            )
        return dict(result.arrays)

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        with self._lock:
            objects = (self._model, self._workspace)
            result = self._call("loss_and_grads", *objects, inputs=(images, labels), named=masks)
        return result.value, dict(result.arrays)

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, Mapping[str, np.ndarray]]:
        with self._lock:
            objects = (self._model, self._workspace, self._optimizer, self._processes)
            inputs = (images, labels)
            result = self._call("step", *objects, inputs=inputs, named=masks, number=rate)
            if self._is_fitting:
                return result.value, LazyArrays(result)
            return result.value, {name: grad.copy() for name, grad in result.arrays.items()}

    def split(self, cut: int) -> tuple[JuliaPart, JuliaPart]:
        """Return front and back as functions with gradients; see `Model.split`."""
        if self.device != "cpu":
            return super().split(cut)  # type: ignore[return-value]  # raises
        sides = zip(("front", "back"), split_layers(self.config, cut), strict=True)
        is_fast, calls = self.kernels == "fast", self.backend.calls
        with self._lock:
            front, back = (
                JuliaPart(calls, self._model, cut, side, layers, is_fast) for side, layers in sides
            )
        return front, back

    def any_rank(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process; see `Model.any_rank`."""
        if self.processes == 1:
            return flag
        return bool(self._call("any_rank", self._processes, flag=flag).value)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Skip the copy of each step's gradients: they stay valid until the next step only."""
        self._is_fitting = True
        try:
            yield
        finally:
            self._is_fitting = False

    def _call(self, operation: str, *objects: Handle | None, **arguments: Any) -> Result:
        return self.backend.calls(operation, objects, **arguments)
