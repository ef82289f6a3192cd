"""The process in which an isolated Julia runs: ``python -m ...worker SOCKET FOLDER``.

It answers requests, one after the other, until the other process closes the connection.
"""

from __future__ import annotations

import itertools
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia.isolated.channel import Channel
from pymobilenet.config import MobileNetConfig, TrainConfig


class _Worker:
    """The models of this process, by number, and the operations on them."""

    def __init__(self) -> None:
        from pymobilenet.backends.julia import load_backend

        self.backend = load_backend()
        self._models: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._last_grads: dict[int, Mapping[str, np.ndarray]] = {}

    def versions(self, _arrays: Any) -> tuple[Any, Any]:
        return {"versions": self.backend.versions(), "threads": self.backend.threads()}, {}

    def build(
        self, arrays: dict[str, np.ndarray], config: str, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        number = next(self._numbers)
        parsed = MobileNetConfig.from_json(config)
        model = self.backend.from_checked_state(parsed, arrays, **options)
        self._models[number] = model
        return {"model": number, "compute_options": model.compute_options}, {}

    def drop(self, models: list[int]) -> None:
        for number in models:
            self._models.pop(number, None)
            self._last_grads.pop(number, None)

    def freeze(self, _arrays: Any, model: int) -> tuple[Any, Any]:
        number = next(self._numbers)
        self._models[number] = self._models[model]._freeze()
        return number, {}

    def call_frozen(self, arrays: dict[str, np.ndarray], model: int) -> tuple[Any, Any]:
        return None, {"logits": self._models[model](arrays["images"])}

    def predict(self, arrays: dict[str, np.ndarray], model: int) -> tuple[Any, Any]:
        return None, {"logits": self._model(model)._predict(arrays["images"])}

    def get_state(self, _arrays: Any, model: int) -> tuple[Any, Any]:
        return None, self._model(model).get_state()

    def set_state(self, arrays: dict[str, np.ndarray], model: int) -> tuple[Any, Any]:
        self._model(model)._set_state(arrays)
        return None, {}

    def set_optimizer(self, _arrays: Any, model: int, config: str) -> tuple[Any, Any]:
        self._model(model).set_optimizer(TrainConfig.from_json(config))
        return None, {}

    def activations(
        self, arrays: dict[str, np.ndarray], model: int, train: bool
    ) -> tuple[Any, Any]:
        images = arrays.pop("images")
        return None, self._model(model)._activations(images, train, arrays)

    def loss_and_grads(self, arrays: dict[str, np.ndarray], model: int) -> tuple[Any, Any]:
        images, labels = arrays.pop("images"), arrays.pop("labels")
        return self._model(model)._loss_and_grads(images, labels, arrays)

    def step(
        self, arrays: dict[str, np.ndarray], model: int, rate: float, is_fitting: bool
    ) -> tuple[Any, Any]:
        images, labels = arrays.pop("images"), arrays.pop("labels")
        with self._model(model).fitting():  # the gradients are copied into the block at once
            loss, grads = self._model(model)._step(images, labels, rate, arrays)
        if is_fitting:
            self._last_grads[model] = grads
            return loss, {}
        return loss, dict(grads)

    def last_grads(self, _arrays: Any, model: int) -> tuple[Any, Any]:
        return None, dict(self._last_grads[model])

    def _model(self, number: int) -> Model:
        return self._models[number]


def serve(channel: Channel) -> None:
    """Answer requests: a value and arrays, or an error's class and text.

    Args:
        channel: To the process that started this one.
    """
    worker: _Worker | None = None
    while True:
        try:
            (operation, arguments, dropped), arrays = channel.receive()
        except (EOFError, ConnectionError):
            return
        try:
            worker = worker or _Worker()
            worker.drop(dropped)
            value, results = getattr(worker, operation)(arrays, **arguments)
            del arrays
            channel.send((True, value), results)
        except Exception as error:
            channel.send((False, (type(error).__name__, str(error))), {})


if __name__ == "__main__":
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    folder = Path(sys.argv[2])
    try:
        serve(Channel(connection, folder, is_worker=True))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
