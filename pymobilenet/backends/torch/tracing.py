"""Record what each layer of a torch module computes, and functions outside of layers."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pymobilenet.backends.torch.traced_functions import FUNCTIONS
from pymobilenet.backends.torch.traced_modules import describe_module
from pymobilenet.backends.trace import Layer, Participant, Trace
from pymobilenet.errors import ConfigError
from pymobilenet.files import atomic_write
from pymobilenet.weights.perturb import move_ulps

Run = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Runs one layer on other inputs."""


class TorchParticipant(Participant):
    """A ``torch.nn.Module``.

    The module is copied; its own weights, mode and hooks stay as they are.

    Args:
        module: Takes one tensor with the batch as first axis and returns one tensor.
        name: How reports call it.
    """

    framework = "torch"
    dtypes = ("float64", "float32")
    moves_weights = True

    def __init__(self, module: nn.Module, name: str = "torch") -> None:
        self.name = name
        self._module = module
        self._runs: dict[str, Run] = {}

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Run a copy of the module in evaluation mode; see `Participant.trace`.

        Raises:
            ConfigError: The module returns something else than one tensor.
        """
        module = copy.deepcopy(self._module).to("cpu", getattr(torch, dtype)).eval()
        if draw is not None:
            _move_by_one_ulp(module, draw)
        recorder = _Recorder(module)
        with torch.no_grad(), recorder:
            output = module(torch.from_numpy(np.array(inputs, dtype, order="C")))
        if not isinstance(output, torch.Tensor):
            raise ConfigError(
                f"{self.name}: the module must return one tensor. Received: {type(output).__name__}"
            )
        if draw is None:
            self._runs = recorder.runs
        return Trace(tuple(recorder.layers), output.numpy())

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run one layer on other inputs; see `Participant.run_layer`."""
        with torch.no_grad():
            tensors = [torch.from_numpy(np.array(array, order="C")) for array in inputs]
            return self._runs[layer.name](tensors).numpy()

    def load_params(self, layer: Layer, params: Mapping[str, np.ndarray]) -> None:
        """Copy parameters into a layer of the module; see `Participant.load_params`."""
        target = self._module.get_submodule(layer.name.partition("#")[0])
        with torch.no_grad():
            for name, array in params.items():
                getattr(target, name).copy_(torch.from_numpy(array))

    def save_weights(self, path: Path) -> str:
        """Write the state dict with `torch.save`; see `Participant.save_weights`."""
        with atomic_write(path) as file:
            torch.save(self._module.state_dict(), file)
        return f'module.load_state_dict(torch.load("{path}", weights_only=True))'

    def versions(self) -> dict[str, str]:
        """Return torch's version."""
        return {"torch": torch.__version__}


def _move_by_one_ulp(module: nn.Module, draw: int) -> None:
    """Move every value of every parameter up or down by one unit in the last place."""
    for index, parameter in enumerate(module.parameters()):
        parameter.data = torch.from_numpy(move_ulps(parameter.detach().numpy(), draw, index))


class _Recorder(TorchFunctionMode):
    """Records the layers of a module while this context is active.

    A module without children is a layer; so is a function of `FUNCTIONS` that is called outside of
    one, for example ``F.relu(x)`` in the ``forward`` of a block.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.runs: dict[str, Run] = {}
        self._module = module
        self._paths: list[str] = []
        self._inside: str | None = None  # the path of the layer that is running
        self._inputs: list[torch.Tensor] = []
        self._calls: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Recorder:
        for path, module in self._module.named_modules():
            before = module.register_forward_pre_hook(self._before(path), with_kwargs=True)
            after = module.register_forward_hook(self._after(path), always_call=True)
            self._stack.callback(before.remove)
            self._stack.callback(after.remove)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._stack.close()

    def _before(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self._paths.append(path)
            if self._inside is None and describe_module(module) is not None:
                self._inside = path
                self._inputs = _copies((*args, *kwargs.values()))

        return hook

    def _after(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, _args: tuple, output: Any) -> None:
            self._paths.pop()
            if self._inside != path:
                return
            self._inside = None
            description = describe_module(module)
            if description is None or not isinstance(output, torch.Tensor):
                return
            kind, params, settings = description
            run = functools.partial(_call, module)
            self._add(path, kind, self._inputs, output, _arrays(params), settings, run)

        return hook

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        describe = None if self._inside is not None else FUNCTIONS.get(_function_name(func))
        if describe is None:
            return func(*args, **kwargs)
        tensors = _tensors(args)
        copies = _copies(tensors)
        output = func(*args, **kwargs)
        if not isinstance(output, torch.Tensor) or not tensors:
            return output
        description = describe(args, kwargs, output)
        if description is not None:
            kind, params, settings, inputs = description
            path = ".".join(
                filter(None, (self._paths[-1] if self._paths else "", func.__name__.strip("_")))
            )
            run = _rerun(func, args, kwargs, inputs)
            self._add(path, kind, copies[:inputs], output, _arrays(params), settings, run)
        return output

    def _add(
        self,
        path: str,
        kind: str,
        inputs: list[torch.Tensor],
        output: torch.Tensor,
        params: dict[str, np.ndarray],
        settings: dict[str, Any],
        run: Run,
    ) -> None:
        self._calls[path] += 1
        name = path if self._calls[path] == 1 else f"{path}#{self._calls[path]}"
        arrays = tuple(tensor.numpy() for tensor in inputs)
        self.layers.append(Layer(name, kind, arrays, output.clone().numpy(), params, settings))
        self.runs[name] = run


def _call(module: nn.Module, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return module(*tensors)


def _function_name(func: Callable) -> str:
    """Return the name of a torch function without the marks of operators and in-place forms."""
    return getattr(func, "__name__", "").strip("_")


def _rerun(func: Callable, args: tuple, kwargs: dict, inputs: int) -> Run:
    """Return a function that calls `func` with its first `inputs` tensors replaced."""

    def run(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        replacements = iter(tensors[:inputs])
        return func(*_replace(args, replacements), **kwargs)

    return run


def _replace(args: Any, replacements: Iterator[torch.Tensor]) -> Any:
    if isinstance(args, torch.Tensor):
        return next(replacements, args)
    if isinstance(args, (tuple, list)):
        return type(args)(_replace(value, replacements) for value in args)
    return args


def _tensors(args: Any) -> list[torch.Tensor]:
    if isinstance(args, torch.Tensor):
        return [args]
    if isinstance(args, (tuple, list)):
        return [tensor for value in args for tensor in _tensors(value)]
    return []


def _copies(args: Any) -> list[torch.Tensor]:
    """Return copies of all tensors, since layers may work in place."""
    return [tensor.detach().clone() for tensor in _tensors(args)]


def _arrays(params: dict[str, torch.Tensor | None]) -> dict[str, np.ndarray]:
    return {
        name: tensor.detach().clone().numpy()
        for name, tensor in params.items()
        if tensor is not None
    }
