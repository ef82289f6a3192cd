"""The protocol of every backend: `Backend` builds models, `Model` is one network.

`Model` holds a network with its running statistics and, after `Model.set_optimizer`, its optimizer;
see `pymobilenet.backends.model`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends import checks
from pymobilenet.backends.model import Model
from pymobilenet.config import MobileNetConfig
from pymobilenet.weights import check_state, initial_state

__all__ = ["Backend", "Model"]


class Backend(abc.ABC):
    """A framework that runs MobileNets. Returned by `pymobilenet.backend`.

    Attributes:
        name (str): "numpy", "torch", "julia", or ``julia@PROJECT`` for an isolated Julia.
        options (tuple of str): The keyword options of `build`, `from_state` and `load`.
    """

    name: str
    options: tuple[str, ...] = ()

    @abc.abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that compute, by name."""

    def threads(self) -> dict[str, int]:
        """Return the numbers of threads, by kind; empty if the backend cannot tell."""
        return {}

    def few_threads(self) -> AbstractContextManager[None]:
        """Return a context manager in which small nets are computed: by one thread, if possible.

        A thread that waits for others in every layer of a small net takes longer than the layer
        where the machine has something else to do, too.
        """
        return nullcontext()

    def product(self, a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        """Return a function that multiplies two matrices with this backend's BLAS.

        Args:
            a: (n, n), float32 or float64.
            b: The same shape and dtype.
        """
        return lambda: a @ b

    def supports_dtype(self, dtype: str) -> bool:  # noqa: ARG002 - every dtype, by default
        """Return whether models of this dtype can be built.

        Args:
            dtype: "float32" or "float64".
        """
        return True

    @abc.abstractmethod
    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> Model:
        """Return a model whose weights are set next; `options` are the backend's own."""

    def build(
        self,
        config: MobileNetConfig,
        seed: int = 0,
        dtype: str | np.dtype = "float32",
        init: str = "he",
        **options: Any,
    ) -> Model:
        """Build a model with random initial weights, which are bit-identical in every backend.

        Args:
            config: The architecture.
            seed: Seed of the initial weights, in [0, 2**63).
            dtype: "float32" or "float64". The NumPy backend supports float64 only.
            init: Initialization scheme: "he", "torch", "flux", "torchvision" or "keras"; see
                `pymobilenet.weights.initial_state`. Training runs start from "torch", from which V1
                trains better than from the default here; see docs/training.md.
            options: Options of the backend; see its class.

        Returns:
            A model in evaluation mode, without an optimizer.

        Raises:
            ConfigError: An argument is invalid, or the backend does not have the option.
            BackendUnavailable: The device or a package that an option requires is not available.

        Examples:
            >>> from pymobilenet import MobileNetConfig, backend
            >>> config = MobileNetConfig("v1", width_mult=0.25, num_classes=10)
            >>> model = backend("numpy").build(config, seed=0, dtype="float64")
            >>> model.get_state()["classifier.weight"].shape
            (10, 256)
        """
        state = initial_state(config, seed, checks.dtype(dtype), init)
        return self.from_state(config, state, **options)

    def from_state(
        self, config: MobileNetConfig, state: Mapping[str, np.ndarray], **options: Any
    ) -> Model:
        """Build a model with a copy of the given weights, and their dtype.

        Optimizer slots in `state` are ignored: call `Model.set_optimizer` and `Model.set_state` to
        restore them.

        Args:
            config: The architecture.
            state: Parameters and running statistics by canonical name; see `Model.get_state`.
            options: Options of the backend; see its class.

        Returns:
            A model in evaluation mode, without an optimizer.

        Raises:
            ConfigError: The backend does not have an option, or an option's value is invalid.
            BackendUnavailable: The device or a package that an option requires is not available.
            WeightsError: The state does not fit the config.
        """
        weights = _without_slots(state)
        any_weight = weights.get("classifier.weight")
        dtype = checks.dtype(any_weight.dtype if any_weight is not None else "float32")
        check_state(config, weights, dtype)
        return self.from_checked_state(config, weights, **options)

    def from_checked_state(
        self, config: MobileNetConfig, state: Mapping[str, np.ndarray], **options: Any
    ) -> Model:
        """Build a model from a state that has passed `check_state`; otherwise as `from_state`.

        Args:
            config: The model's config.
            state: Its weights; optimizer slots are ignored.
            options: Options of the backend; see its class.

        Raises:
            ConfigError: An option that the backend does not have, or of an unknown value.
            BackendUnavailable: The device is not available.
        """
        checks.options(self.name, self.options, options)
        weights = _without_slots(state)
        model = self._new(config, weights["classifier.weight"].dtype, **options)
        model.options = options
        model._set_state({name: np.asarray(weights[name], order="C") for name in weights})
        return model

    def load(self, path: str | Path, **options: Any) -> Model:
        """Load a model from an exchange file, with the file's config and dtype.

        Args:
            path: A ``.safetensors`` file written by `Model.save` in any backend. For other formats
                see `pymobilenet.formats.load_any`.
            options: Options of the backend; see its class.

        Returns:
            A model in evaluation mode, without an optimizer.

        Raises:
            WeightsError: The file is not a valid exchange file.
            ConfigError: The backend does not have an option, or an option's value is invalid.
            OSError: The file cannot be read.
        """
        from pymobilenet.formats.exchange import read_weights

        file = read_weights(path, mmap=True)  # which checks the state
        return self.from_checked_state(file.config, file.state, **options)


def _without_slots(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in state.items() if not name.startswith("optimizer.")}
