"""Julia in a process of its own: a crash of Julia is a `BackendCrashed`, and Python goes on.

Several can run side by side, of different versions of Julia and Flux.
"""

from __future__ import annotations

import atexit
import os
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
from pymobilenet.backends.julia.project import ensure_julia
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import BackendCrashed, BackendUnavailable, ConfigError

OPTIONS = ("executable", "project", "threads", "timeout")
"""What `IsolatedBackend` takes."""

IN_FORK = (
    "this process is a fork of the one that started the isolated Julia, and cannot use it. Start "
    'processes with multiprocessing.get_context("spawn") or "forkserver", or use the Julia backend '
    "in the first process only"
)


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
        if project is None:
            ensure_julia()  # here, where its messages are seen
        self._timeout = timeout
        self._lock = threading.Lock()
        self._dropped: deque[tuple[int, int]] = deque()
        self._process: Process | None = None
        self._generation = 0
        atexit.register(self.close)
        self._about = self._started().about

    def versions(self) -> dict[str, str]:
        """Return the versions in the other process; see `JuliaBackend.versions`."""
        return self._about["versions"]

    def threads(self) -> dict[str, int]:
        """Return the numbers of Julia and BLAS threads in the other process."""
        return self._about["threads"]

    def restart(self) -> None:
        """End the process and start another. Models of the old one are lost."""
        self.close()
        with self._lock:
            self._about = self._started().about

    def close(self) -> None:
        """End the process."""
        if self._process is None or self._process.owner != os.getpid():
            return
        with self._lock:
            self._end_process()

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
            BackendUnavailable: Julia does not start there, or this process is a fork.
        """
        if self._process is not None and self._process.owner != os.getpid():
            raise BackendUnavailable(IN_FORK)
        with self._lock:
            if self._process is not None and not self._process.is_alive:
                self._end_process()
            if generation is not None and (self._process is None or generation != self._generation):
                raise BackendCrashed(
                    "the process of this isolated model has ended, and the model with it. Build or "
                    "load the model again"
                )
            process, numbers = self._started(), []
            while self._dropped:
                of_generation, number = self._dropped.popleft()
                if of_generation == self._generation:
                    numbers.append(number)
            return process.request(operation, arrays or {}, arguments, numbers)

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

    def _started(self) -> Process:
        """The process, started if none is running."""
        if self._process is None:
            self._generation += 1
            self._process = Process(self._environment, self._timeout)
        return self._process

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> IsolatedModel:
        return IsolatedModel(self, config, dtype, options)
