"""Record the layers of a torch module while it runs: hooks on modules, and calls of functions."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pymobilenet.backends.torch.traced_functions import FUNCTIONS
from pymobilenet.backends.torch.traced_modules import describe_module
from pymobilenet.backends.trace import Layer

Run = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Runs one layer on other inputs."""

DROPOUTS = frozenset(
    {
        *("dropout", "dropout1d", "dropout2d", "dropout3d"),
        *("alpha_dropout", "feature_alpha_dropout", "feature_dropout"),
    }
)
"""Functions that drop values at random; each framework draws other ones."""


class Recorder(TorchFunctionMode):
    """Records the layers of a module while this context is active.

    A module without children is a layer; so is a function of `FUNCTIONS` that is called outside of
    one, for example ``F.relu(x)`` in the ``forward`` of a block.

    Args:
        module: The module that will run.
        drops_values: Whether dropout, as a layer or as a function, does anything.

    Attributes:
        layers: In order of execution.
        runs: Name of a layer -> function that runs it again.
        tensors: Name of a layer -> name of a parameter -> the module's own tensor.
    """

    def __init__(self, module: nn.Module, *, drops_values: bool = True) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.runs: dict[str, Run] = {}
        self.tensors: dict[str, dict[str, torch.Tensor]] = {}
        self._drops_values = drops_values
        self._module = module
        self._paths: list[str] = []
        self._inside: str | None = None  # the path of the layer that is running
        self._inputs: list[torch.Tensor] = []
        self._calls: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Recorder:
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
            self._add(path, kind, self._inputs, output, params, settings, run)

        return hook

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._drops_values and _function_name(func) in DROPOUTS:
            return args[0] if args else kwargs["input"]
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
            self._add(path, kind, copies[:inputs], output, params, settings, run)
        return output

    def _add(
        self,
        path: str,
        kind: str,
        inputs: list[torch.Tensor],
        output: torch.Tensor,
        params: dict[str, torch.Tensor | None],
        settings: dict[str, Any],
        run: Run,
    ) -> None:
        self._calls[path] += 1
        name = path if self._calls[path] == 1 else f"{path}#{self._calls[path]}"
        arrays = tuple(tensor.numpy() for tensor in inputs)
        value = output.detach().clone().numpy()
        self.layers.append(Layer(name, kind, arrays, value, as_arrays(params), settings))
        self.runs[name] = run
        self.tensors[name] = {key: tensor for key, tensor in params.items() if tensor is not None}


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


def as_arrays(params: Mapping[str, torch.Tensor | None]) -> dict[str, np.ndarray]:
    """Return copies of tensors as arrays, without those that are None.

    Args:
        params: Name -> tensor or None.
    """
    return {
        name: tensor.detach().clone().numpy()
        for name, tensor in params.items()
        if tensor is not None
    }
