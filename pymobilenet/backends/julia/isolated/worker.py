"""The process in which an isolated Julia runs: ``python -m ...worker SOCKET FOLDER``.

It answers requests, one after the other, until the other process closes the connection. Requests
and answers are JSON; arrays travel in `blocks`.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia.isolated import blocks
from pymobilenet.config import MobileNetConfig, TrainConfig

KEY_VARIABLE = "PYMOBILENET_WORKER_KEY"


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
        model = self.backend.from_state(MobileNetConfig.from_json(config), arrays, **options)
        self._models[number] = model
        return {"model": number, "compute_options": model.compute_options}, {}

    def drop(self, _arrays: Any, models: list[int]) -> tuple[Any, Any]:
        for number in models:
            self._models.pop(number, None)
            self._last_grads.pop(number, None)
        return None, {}

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


def serve(connection: Connection, folder: Path) -> None:
    """Answer requests (operation, arguments, arrays) with (status, value or error, arrays).

    Args:
        connection: To the process that started this one.
        folder: For the blocks of this process.
    """
    own_blocks = blocks.Blocks(folder, "worker-")
    try:
        worker = _Worker()
    except Exception as error:
        send(connection, (False, error_of(error), None))
        return
    send(connection, (True, None, None))
    while True:
        try:
            operation, arguments, description = receive(connection)
        except EOFError:
            return
        arrays = blocks.read(description)
        try:
            value, results = getattr(worker, operation)(arrays, **arguments)
            answer = (True, value, own_blocks.write(results))
        except Exception as error:
            answer = (False, error_of(error), None)
        del arrays
        send(connection, answer)


def send(connection: Connection, values: tuple[Any, ...]) -> None:
    """Send values.

    Args:
        connection: To the other process.
        values: Of JSON's types.
    """
    connection.send_bytes(json.dumps(values).encode())


def receive(connection: Connection) -> list[Any]:
    """Receive what `send` has sent.

    Args:
        connection: To the other process.

    Returns:
        The values.
    """
    return json.loads(connection.recv_bytes())


def error_of(error: Exception) -> tuple[str, str]:
    """Describe an error.

    Args:
        error: Of any class.

    Returns:
        The name of its class, and its text.
    """
    return type(error).__name__, str(error)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process is interrupted, and asks
    address, path = sys.argv[1:]
    key = bytes.fromhex(os.environ.pop(KEY_VARIABLE))
    serve(Client(address, authkey=key), Path(path))
