"""Julia in a process of its own: a crash of Julia is a `BackendCrashed`, and Python goes on.

Several can run side by side, of different versions of Julia and Flux.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import errors
from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.julia.isolated import blocks
from pymobilenet.backends.julia.isolated.worker import KEY_VARIABLE, receive, send
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import BackendCrashed
from pymobilenet.weights import State

OPTIONS = ("executable", "project", "threads", "timeout")
"""What `IsolatedBackend` takes."""

WORKER = "pymobilenet.backends.julia.isolated.worker"

START_SECONDS = 1800.0
"""How long a worker may take to start: its first start may resolve and compile packages."""

LAST_LINES = 15
"""Lines of a crashed Julia's output that the error quotes."""


class Process:
    """A worker process, its connection and its folder of blocks."""

    def __init__(self, environment: Mapping[str, str], timeout: float | None) -> None:
        self.folder, self._timeout = blocks.new_folder(), timeout
        self._blocks = blocks.Blocks(self.folder, "python-")
        self._output = (self.folder / "output").open("wb+")
        key = secrets.token_bytes(32)
        address = str(self.folder / "socket")
        with Listener(address, "AF_UNIX", authkey=key) as listener:
            self.process = subprocess.Popen(
                [sys.executable, "-m", WORKER, address, str(self.folder)],
                env={**os.environ, **environment, KEY_VARIABLE: key.hex()},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
            )
            self._release = weakref.finalize(self, _end, self.process, self.folder)
            self.connection = self._accept(listener)
        self._answer(START_SECONDS)

    def request(
        self, operation: str, arrays: Mapping[str, np.ndarray], arguments: Mapping[str, Any]
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Send a request and wait for its answer.

        Args:
            operation: The name of an operation of the worker.
            arrays: Name -> array, copied into shared memory.
            arguments: Values of JSON's types.

        Returns:
            A value, and arrays in shared memory.

        Raises:
            BackendCrashed: The other process has ended or does not answer in time.
        """
        try:
            request = (operation, dict(arguments), self._blocks.write(arrays))
            send(self.connection, request)
        except (OSError, ValueError):
            raise self._crash("has ended") from None
        return self._answer(self._timeout)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def end(self) -> None:
        """End the process and remove its folder."""
        self._release()
        self._output.close()

    def _accept(self, listener: Listener) -> Connection:
        """Wait for the worker to connect; it might end before it does."""
        accepted: list[Connection] = []
        thread = threading.Thread(target=_accept_one, args=(listener, accepted), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if not self.is_alive and thread.is_alive():
                raise self._crash("has ended")
        return accepted[0]

    def _answer(self, timeout: float | None) -> tuple[Any, dict[str, np.ndarray]]:
        try:
            if not self.connection.poll(timeout):
                self.process.kill()
                raise self._crash(f"did not answer within {timeout:g} s and was ended")
            is_done, value, description = receive(self.connection)
        except (EOFError, OSError):
            raise self._crash("has ended") from None
        except BaseException:  # an interrupt: the answer of this request would come later
            self.process.kill()
            raise
        if not is_done:
            name, text = value
            error_class = getattr(errors, name, None)
            if error_class is None:
                raise errors.JuliaError(f"{name}: {text}")
            raise error_class(text)
        return value, blocks.read(description)

    def _crash(self, what: str) -> BackendCrashed:
        """The error of a worker that has ended, with how it ended and what it wrote last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        status = self.process.poll()
        how = f", status {status}"
        if status is not None and status < 0:
            how = f", by {signal.Signals(-status).name}"
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        said = ". It wrote last:\n" + "\n".join(lines) if lines else ""
        return BackendCrashed(f"the process of the isolated Julia {what}{how}{said}")


def _accept_one(listener: Listener, accepted: list[Connection]) -> None:
    with contextlib.suppress(OSError):
        accepted.append(listener.accept())


def _end(process: subprocess.Popen, folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


class IsolatedBackend(Backend):
    """Julia in a child process; see `pymobilenet.backend`.

    Args:
        executable: A Julia; the usual one if left out. With `project`.
        project: A Julia project that holds MobileNets and PythonCall.
        threads: Julia threads.
        timeout: Seconds after which a call is given up and the process ended; None: never.
    """

    name = "julia"
    options = ("kernels", "device")

    def __init__(
        self,
        executable: str | Path | None = None,
        project: str | Path | None = None,
        threads: int | None = None,
        timeout: float | None = None,
    ) -> None:
        chosen = {
            "PYTHON_JULIACALL_EXE": executable,
            "PYTHON_JULIACALL_PROJECT": project,
            "PYTHON_JULIACALL_THREADS": threads,
        }
        self._environment = {name: str(value) for name, value in chosen.items() if value}
        self._timeout = timeout
        self._lock = threading.Lock()
        self._dropped: deque[tuple[int, int]] = deque()
        self._process: Process | None = None
        self._generation = 0
        atexit.register(self.close)
        self._about, _ = self.request("versions")

    def versions(self) -> dict[str, str]:
        """Return the versions in the other process; see `JuliaBackend.versions`."""
        return self._about["versions"]

    def threads(self) -> dict[str, int]:
        """Return the numbers of Julia and BLAS threads in the other process."""
        return self._about["threads"]

    def restart(self) -> None:
        """End the process; the next call starts another. Models of the old one are lost."""
        self.close()
        self._about, _ = self.request("versions")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process = None

    def request(
        self,
        operation: str,
        arrays: Mapping[str, np.ndarray] | None = None,
        generation: int | None = None,
        **arguments: Any,
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Call an operation of `worker`.

        Args:
            operation: Its name.
            arrays: Copied into shared memory.
            generation: Of the process that the models in `arguments` were built in; None for a call
                of no model, which starts a process where none is running.
            arguments: What else it takes.

        Returns:
            A value, and arrays in shared memory.

        Raises:
            BackendCrashed: The process has ended, or was ended after the timeout.
            BackendUnavailable: Julia does not start there.
        """
        with self._lock:
            if self._process is not None and not self._process.is_alive:
                self._process.end()
                self._process = None
            if generation is not None and (self._process is None or generation != self._generation):
                raise BackendCrashed(
                    "the process of this isolated model has ended, and the model with it. Build or "
                    "load the model again"
                )
            if self._process is None:
                self._generation += 1
                self._process = Process(self._environment, self._timeout)
            self._send_drops()
            return self._process.request(operation, arrays or {}, arguments)

    @property
    def generation(self) -> int:
        """The number of processes that were started, which says in which one a model was built."""
        return self._generation

    def drop(self, generation: int, number: int) -> None:
        """Drop a model or frozen model with the next request.

        Args:
            generation: Counts the worker processes; a model of an earlier one is gone.
            number: The model's number in the worker.
        """
        self._dropped.append((generation, number))

    def _send_drops(self) -> None:
        numbers = []
        while self._dropped:
            generation, number = self._dropped.popleft()
            if generation == self._generation:
                numbers.append(number)
        if numbers and self._process is not None:
            self._process.request("drop", {}, {"models": numbers})

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> IsolatedModel:
        return IsolatedModel(self, config, dtype, options)


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
