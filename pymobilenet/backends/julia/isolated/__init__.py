"""Julia in a process of its own: a crash of Julia is a `BackendCrashed`, and Python goes on.

Several can run side by side, of different versions of Julia and Flux.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.base import Backend
from pymobilenet.backends.julia.executable import HOW_TO_GET_JULIA, find_julia
from pymobilenet.backends.julia.isolated.model import IsolatedModel
from pymobilenet.backends.julia.isolated.process import Process
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import BackendCrashed, BackendUnavailable, ConfigError

OPTIONS = ("executable", "project", "threads", "timeout")
"""What `IsolatedBackend` takes."""


class IsolatedBackend(Backend):
    """Julia in a child process; see `pymobilenet.backend`.

    Args:
        executable: A Julia; the usual one if left out. With `project`.
        project: A Julia project that holds MobileNets and PythonCall. It is part of the backend's
            name: ``julia@PROJECT``.
        threads: Julia threads.
        timeout: Seconds after which a call is given up and the process ended; None: never.

    Raises:
        ConfigError: `executable` without `project`, or `project` is not a folder with a
            Project.toml.
        BackendUnavailable: Julia is not installed, or does not start.
    """

    options = ("kernels", "device")

    def __init__(
        self,
        executable: str | Path | None = None,
        project: str | Path | None = None,
        threads: int | None = None,
        timeout: float | None = None,
    ) -> None:
        if project is None and executable is not None:
            raise ConfigError(
                "executable requires project, a Julia project that contains MobileNets and "
                f"PythonCall. Received: executable={str(executable)!r} alone"
            )
        if project is not None and not (Path(project) / "Project.toml").is_file():
            raise ConfigError(
                f"project must be a folder with a Project.toml. Received: {str(project)!r}"
            )
        if project is not None and executable is None and (executable := find_julia()) is None:
            raise BackendUnavailable(f"no Julia is installed. {HOW_TO_GET_JULIA}")
        self.name = "julia" if project is None else f"julia@{project}"
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
