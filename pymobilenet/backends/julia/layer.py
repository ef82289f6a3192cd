"""A Flux layer whose arrays Python shares: what it computes, and its pullbacks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends.julia.calls import Calls, Handle, Result
from pymobilenet.backends.julia.interop import translate_julia_errors
from pymobilenet.errors import ConfigError

if TYPE_CHECKING:
    from pymobilenet.backends.julia import JuliaBackend

OF_INPUTS, OF_PARAMETERS = 1, 2
"""Of what a call wants gradients: a sum of these."""


class LayerPullback:
    """The pullback of one call of a layer; see `JuliaLayer.call`. Keeps the inputs alive."""

    def __init__(
        self, calls: Calls, lock: threading.RLock, handle: Handle, inputs: Sequence[np.ndarray]
    ) -> None:
        self._calls, self._lock, self._handle, self._inputs = calls, lock, handle, inputs

    def __call__(
        self, gradients: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray | None], list[np.ndarray | None]]:
        """Return the gradients of inputs and parameters.

        Args:
            gradients: Of the outputs, C-contiguous.

        Returns:
            The gradient of each input and of each parameter; None where the outputs do not depend
            on it or it was not wanted. They are views of memory that nothing else uses.

        Raises:
            JuliaError: The pullback throws.
        """
        with self._lock:
            result = self._calls("pull_back", [self._handle], inputs=gradients)
        views = iter(result.views)
        found = [next(views) if letter == "g" else None for letter in result.message]
        return found[: len(self._inputs)], found[len(self._inputs) :]


class JuliaLayer:
    """A layer of Flux in the running Julia. Any thread may call it; calls wait for each other.

    Attributes:
        arrays (dict): Name -> NumPy view of each array of the layer, with its axes reversed. The
            name is the path in the layer, such as ``layers.1.weight``, in Julia's counting.
        addresses (dict): Name -> address of each array.
        dtype (np.dtype): Of the arrays; that of the first if they differ, None without arrays.
        parameters (tuple of str): The names of those that are trained; the others are buffers.
        spec (str): ``file.jl:function``, or empty.
    """

    def __init__(self, calls: Calls, shared: Result, spec: str = "") -> None:
        assert shared.handle is not None
        self._calls, self._handle, self.spec = calls, shared.handle, spec
        self._lock = threading.RLock()
        self.arrays = dict(shared.arrays)
        self.dtype = next((array.dtype for array in self.arrays.values()), None)
        self.addresses = {name: array.ctypes.data for name, array in self.arrays.items()}
        kinds = dict(zip(self.arrays, shared.message, strict=True))
        self.parameters = tuple(name for name, kind in kinds.items() if kind == "p")

    @classmethod
    def of(cls, layer: Any) -> JuliaLayer:
        """Share a Julia object, or what a function of a Julia file builds.

        Args:
            layer: A Julia object of juliacall, or the text ``file.jl:function``. The file is run;
                the function has no arguments and returns a layer, or a model.

        Returns:
            The layer, whose arrays are shared.

        Raises:
            ConfigError: There is no such file, or no function is named.
            JuliaError: The file or the function throws, or an array of the layer cannot be shared.
            BackendUnavailable: Julia is not available.
        """
        spec = ""
        if isinstance(layer, str):
            path, _, function = layer.rpartition(":")
            if not path.endswith(".jl") or not Path(path).is_file():
                raise ConfigError(
                    f"a Julia layer must be file.jl:function, with an existing file. "
                    f"Received: {layer}"
                )
            file = str(Path(path).resolve())
            spec, tracing = f"{file}:{function}", _backend_with("Flux").julia.Tracing
            with translate_julia_errors():
                layer = tracing.from_file(file, function)
        elif not type(layer).__module__.startswith("juliacall"):
            raise ConfigError(
                "a Julia layer must be a Julia object or the text file.jl:function. "
                f"Received: {type(layer).__name__}"
            )
        backend = _backend_with("Flux")
        with translate_julia_errors():
            number = int(backend.julia.c_handle(layer))
        calls = backend.calls
        return cls(calls, calls("share_layer", [calls.handle(number)]), spec)

    @property
    def object(self) -> Any:
        """The Julia object, through juliacall."""
        return _backend_with().object(self._handle).layer

    def call(
        self,
        inputs: Sequence[np.ndarray],
        train: bool,
        wanted: int = 0,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[list[np.ndarray], LayerPullback | None]:
        """Call the layer.

        Args:
            inputs: C-contiguous arrays of `calls.DTYPES`; Julia sees their axes reversed. Their
                memory must stay as it is while the pullback is used.
            train: Whether the layer is in training mode.
            wanted: Of what gradients will be asked for: `OF_INPUTS`, `OF_PARAMETERS`, their sum, 0.
            masks: For parts of a MobileNet only; see `Model.loss_and_grads`.

        Returns:
            The outputs, views of memory that nothing else uses, and their pullback if gradients
            are wanted.

        Raises:
            JuliaError: The layer throws, or returns what is no array.
        """
        with self._lock:
            result = self._calls(
                "call_layer",
                [self._handle],
                inputs=inputs,
                named=masks,
                number=wanted,
                flag=train,
                text="" if masks is None else "masks",
            )
        outputs = result.views
        if not result.value:
            return outputs, None
        handle = self._calls.handle(int(result.value))
        return outputs, LayerPullback(self._calls, self._lock, handle, inputs)

    def restore_arrays(self) -> None:
        """Take over arrays that the layer has replaced; see ``Interop.restore_arrays!``."""
        with self._lock:
            self._calls("restore_arrays", [self._handle])

    def copied(self) -> JuliaLayer:
        """Return a copy, which shares nothing with this layer."""
        with self._lock:
            return JuliaLayer(self._calls, self._calls("copy_layer", [self._handle]), self.spec)

    def converted(self, dtype: np.dtype) -> JuliaLayer:
        """Return a copy with arrays of another dtype.

        Args:
            dtype: float32 or float64.
        """
        text = {"float32": "Float32", "float64": "Float64"}[dtype.name]
        with self._lock:
            shared = self._calls("convert_layer", [self._handle], text=text)
            return JuliaLayer(self._calls, shared, self.spec)


def _backend_with(*packages: str) -> JuliaBackend:
    from pymobilenet.backends.julia.runtime import backend_with  # which imports the backend

    return backend_with(*packages)
