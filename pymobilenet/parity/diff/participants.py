"""Find out what a user wants to compare: objects in memory, files, functions that build a model."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.trace import Participant, Trace
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.model_participant import ModelParticipant

HOW = (
    "a model must be a torch.nn.Module, a keras.Model, a model of this package, a Julia object, "
    "Lux's (model, ps, st), a function of arrays, a Participant, or text: a file (.onnx, or a "
    "format that `convert` reads), package.module:function, file.py:function or file.jl:function"
)


class FunctionParticipant(Participant):
    """A function of an array: only what it returns is compared.

    Args:
        function: Maps (N, ...) to (N, classes).
        name: How reports call it.
    """

    framework = "Python"
    dtypes = ("float64", "float32")
    runs_layers = False

    def __init__(self, function: Callable[[np.ndarray], Any], name: str) -> None:
        self.name = name
        self._function = function

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:  # noqa: ARG002
        """Call the function; see `Participant.trace`."""
        return Trace((), np.array(self._function(inputs.astype(dtype)), dtype))

    def versions(self) -> dict[str, str]:
        """Return Python's version."""
        return {"python": ".".join(map(str, sys.version_info[:3]))}


def julia(spec: str, name: str | None = None) -> Participant:
    """Return the Flux model that a function of a Julia file builds.

    Args:
        spec: ``file.jl:function``; the function has no arguments.
        name: How reports call it.

    Raises:
        ConfigError: No such file, or no function is named.
        JuliaError: The file or the function throws.
        BackendUnavailable: Julia is not available.
    """
    from pymobilenet.backends.julia.tracing import FluxParticipant

    path, _, function = spec.rpartition(":")
    if not path:
        raise ConfigError(f"a Julia model must be file.jl:function. Received: {spec}")
    return FluxParticipant.from_file(Path(path), function, name)


def load_onnx(path: str | Path, name: str | None = None) -> Participant:
    """Return an ONNX file, run by ONNX Runtime without optimizations.

    Args:
        path: The file.
        name: How reports call it.

    Raises:
        BackendUnavailable: onnx or onnxruntime is not installed.
        ConfigError: The file is not ONNX, or has several inputs.
    """
    from pymobilenet.parity.diff.onnx_participant import OnnxParticipant

    return OnnxParticipant(Path(path), name)


def participant(model: Any, name: str | None = None) -> Participant:
    """Return a model in any form as a `Participant`.

    Args:
        model: See `HOW`; or a tuple of a model and its loss, a function of outputs and labels.
        name: How reports call it; by default its class, file or function.

    Raises:
        ConfigError: The model is of another kind.
    """
    if isinstance(model, Participant):
        return model
    if isinstance(model, tuple) and len(model) == 2 and callable(model[1]):
        found = participant(model[0], name)
        found.loss = model[1]
        return found
    if isinstance(model, tuple) and len(model) == 3 and _is_julia(model[0]):
        from pymobilenet.backends.julia.tracing import FluxParticipant

        return FluxParticipant.of_lux(model, name or "Lux")
    if isinstance(model, str | Path):
        return _from_text(str(model), name)
    if isinstance(model, Model):
        return _from_backend(model, name)
    keras = sys.modules.get("keras")  # with the backend torch, its models are modules of torch, too
    if keras is not None and isinstance(model, keras.Model):
        from pymobilenet.parity.diff.keras_participant import KerasParticipant

        return KerasParticipant(model, name or str(model.name))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from pymobilenet.backends.torch.tracing import TorchParticipant

        return TorchParticipant(model, name or type(model).__name__)
    if _is_julia(model):
        from pymobilenet.backends.julia.tracing import FluxParticipant

        return FluxParticipant(model, name or "julia")
    if callable(model):
        return FunctionParticipant(model, name or str(getattr(model, "__name__", "function")))
    raise ConfigError(f"{HOW}. Received: {type(model).__name__}")


def _is_julia(value: Any) -> bool:
    return type(value).__module__.startswith("juliacall")


def _from_backend(model: Model, name: str | None) -> Participant:
    """Return one of this package's models by its framework's own module."""
    module = getattr(model, "module", None)
    if module is not None:
        return participant(module, name or "torch")
    julia_model = getattr(model, "model", None)
    if julia_model is not None:
        from pymobilenet.backends.julia.tracing import FluxParticipant

        return FluxParticipant.stock(julia_model, name or "julia")
    return ModelParticipant(model, name or model.backend.name)


def _from_text(spec: str, name: str | None) -> Participant:
    path, _, function = spec.rpartition(":")
    if path.endswith(".jl"):
        return julia(spec, name)
    if path.endswith(".py"):
        return participant(_call(_module_of_file(Path(path)), function, spec), name or spec)
    if path and not Path(spec).exists():
        try:
            module = importlib.import_module(path)
        except ImportError as error:
            raise ConfigError(f"{spec}: the module cannot be imported: {error}") from error
        return participant(_call(module, function, spec), name or spec)
    if not Path(spec).exists():
        raise ConfigError(f"{HOW}. Received: {spec!r}, and there is no such file")
    if spec.endswith(".onnx"):
        return load_onnx(spec, name)
    from pymobilenet.backends import backend
    from pymobilenet.formats import load_any

    loaded = load_any(Path(spec))
    model = backend("torch").build(loaded.config)
    model.set_state(loaded.state)
    return participant(model, name or Path(spec).name)


def _module_of_file(path: Path) -> Any:
    """Run a Python file that the user names, as a module of its own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"the Python file must exist. Received: {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _call(module: Any, function: str, spec: str) -> Any:
    """Return what a function without arguments builds, or the object itself if it is a model.

    A function may also return a model and its loss.
    """
    value = getattr(module, function, None)
    if value is None:
        raise ConfigError(f"{spec}: {module.__name__} has no {function!r}")
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    is_model = (torch is not None and isinstance(value, torch.nn.Module)) or (
        keras is not None and isinstance(value, keras.Model)
    )
    return value if is_model or not callable(value) else value()
