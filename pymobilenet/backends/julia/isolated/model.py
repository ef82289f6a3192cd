"""A model in the process of an isolated Julia."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.weights import State

if TYPE_CHECKING:
    from pymobilenet.backends.julia.isolated import IsolatedBackend


class IsolatedModel(Model):
    """A model in the process of an `IsolatedBackend`."""

    def __init__(
        self,
        backend: IsolatedBackend,
        config: MobileNetConfig,
        dtype: np.dtype,
        options: dict[str, Any],
    ) -> None:
        super().__init__(config, dtype)
        self.backend: IsolatedBackend = backend
        self._backend_options = options
        self._remote: _Remote | None = None
        self._compute_options: dict[str, str] = {}
        self._is_fitting = False

    @property
    def compute_options(self) -> dict[str, str]:
        """Those of `JuliaModel`, and ``isolated``."""
        return {**self._compute_options, "isolated": "True"}

    def get_state(self) -> State:
        """Return a copy of the state; see `Model.get_state`."""
        return self._request("get_state")[1]

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        if self._remote is None:
            options = self._backend_options
            about, _ = self.backend.request(
                "build", state, config=self.config.to_json(), options=options
            )
            self._remote = _Remote(self.backend, about["model"])
            self._compute_options = about["compute_options"]
        else:
            self._request("set_state", state)

    def _reset_optimizer(self, config: TrainConfig) -> None:
        self._request("set_optimizer", config=config.to_json())

    def _predict(self, images: np.ndarray) -> np.ndarray:
        return self._request("predict", {"images": images})[1]["logits"]

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        number, _ = self._request("freeze")
        frozen = _Remote(self.backend, number)
        return lambda images: frozen.request("call_frozen", {"images": images})[1]["logits"]

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        return self._request("activations", {"images": images, **masks}, train=train)[1]

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        return self._request("loss_and_grads", {"images": images, "labels": labels, **masks})

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, Mapping[str, np.ndarray]]:
        arrays, is_fitting = {"images": images, "labels": labels, **masks}, self._is_fitting
        loss, grads = self._request("step", arrays, rate=rate, is_fitting=is_fitting)
        return loss, _LastGrads(self._request) if is_fitting else grads

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Leave each step's gradients in the other process unless they are read."""
        self._is_fitting = True
        try:
            yield
        finally:
            self._is_fitting = False

    def _request(
        self, operation: str, arrays: Mapping[str, np.ndarray] | None = None, **arguments: Any
    ) -> tuple[Any, dict[str, np.ndarray]]:
        assert self._remote is not None
        return self._remote.request(operation, arrays, **arguments)


class _Remote:
    """A model or frozen model in the other process, dropped there when it is dropped here."""

    def __init__(self, backend: IsolatedBackend, number: int) -> None:
        self._backend, self._number, self._generation = backend, number, backend.generation

    def request(
        self, operation: str, arrays: Mapping[str, np.ndarray] | None = None, **arguments: Any
    ) -> tuple[Any, dict[str, np.ndarray]]:
        return self._backend.request(
            operation, arrays, self._generation, model=self._number, **arguments
        )

    def __del__(self) -> None:
        self._backend.drop(self._generation, self._number)


class _LastGrads(Mapping[str, np.ndarray]):
    """The gradients of the last step, fetched when they are read."""

    def __init__(self, request: Callable[..., tuple[Any, dict[str, np.ndarray]]]) -> None:
        self._request = request
        self._grads: dict[str, np.ndarray] | None = None

    def _arrays(self) -> dict[str, np.ndarray]:
        if self._grads is None:
            self._grads = self._request("last_grads")[1]
        return self._grads

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays())

    def __len__(self) -> int:
        return len(self._arrays())
