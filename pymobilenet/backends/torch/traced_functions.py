"""What a trace says of functions of torch that are called outside of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pymobilenet.backends.torch.traced_modules import (
    as_pairs,
    describe_resizing,
    same_padding,
    symmetric,
)

FunctionDescription = tuple[str, dict[str, torch.Tensor | None], dict[str, Any], int]
"""Kind, parameters, settings, and how many of the first tensors are inputs."""

Describe = Callable[[tuple, dict, torch.Tensor], FunctionDescription | None]
"""Maps the arguments and the result of a call to a description; None for a call of another kind."""


def _argument(args: tuple, kwargs: dict, position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _activation(function: str) -> Describe:
    return lambda _args, _kwargs, _output: ("activation", {}, {"function": function}, 1)


def _leaky_relu(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
    slope = float(_argument(args, kwargs, 1, "negative_slope", 0.01))
    return "activation", {}, {"function": "leaky_relu", "slope": slope}, 1


def _hardtanh(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
    low = float(_argument(args, kwargs, 1, "min_val", -1.0))
    high = float(_argument(args, kwargs, 2, "max_val", 1.0))
    return "activation", {}, {"function": "hardtanh", "low": low, "high": high}, 1


def _clamp(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription | None:
    low, high = _argument(args, kwargs, 1, "min"), _argument(args, kwargs, 2, "max")
    if any(isinstance(bound, torch.Tensor) for bound in (low, high)):
        return None
    settings = {
        "function": "hardtanh",
        "low": float("-inf") if low is None else float(low),
        "high": float("inf") if high is None else float(high),
    }
    return "activation", {}, settings, 1


def _gelu(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
    approximate = _argument(args, kwargs, 1, "approximate", "none")
    function = "gelu_tanh" if approximate == "tanh" else "gelu"
    return "activation", {}, {"function": function}, 1


def _softmax(kind: str) -> Describe:
    def describe(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
        return kind, {}, {"axis": _argument(args, kwargs, 1, "dim")}, 1

    return describe


def _reshape(args: tuple, _kwargs: dict, output: torch.Tensor) -> FunctionDescription | None:
    value = args[0]
    is_flatten = output.ndim == 2 and value.ndim > 2 and len(output) == len(value)
    return ("flatten", {}, {}, 1) if is_flatten else None


def _pairwise(kind: str) -> Describe:
    def describe(args: tuple, _kwargs: dict, output: torch.Tensor) -> FunctionDescription | None:
        operands = args[:2]
        both = len(operands) == 2 and all(isinstance(value, torch.Tensor) for value in operands)
        if not both or any(value.ndim != output.ndim for value in operands):
            return None
        return kind, {}, {}, 2

    return describe


def _concat(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
    return "concat", {}, {"axis": _argument(args, kwargs, 1, "dim", 0)}, len(args[0])


def _mean(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription | None:
    axes = _argument(args, kwargs, 1, "dim")
    value = args[0]
    if axes is None or isinstance(axes, int) or value.ndim != 4:
        return None
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        return None
    return "mean_pool", {}, {"output_size": (1, 1)}, 1


def _adaptive(kind: str) -> Describe:
    def describe(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
        size = _argument(args, kwargs, 1, "output_size")
        return kind, {}, {"output_size": as_pairs(size, 2)}, 1

    return describe


def _pool(kind: str) -> Describe:
    def describe(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
        size = as_pairs(_argument(args, kwargs, 1, "kernel_size"), 2)
        stride = _argument(args, kwargs, 2, "stride")
        settings = {
            "size": size,
            "stride": as_pairs(stride, 2) if stride not in (None, []) else size,
            "padding": symmetric(_argument(args, kwargs, 3, "padding", 0), 2),
            "ceil": bool(kwargs.get("ceil_mode", False)),
        }
        if kind == "mean_pool":
            settings["count_padding"] = bool(_argument(args, kwargs, 5, "count_include_pad", True))
        return kind, {}, settings, 1

    return describe


def _interpolate(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription | None:
    description = describe_resizing(
        _argument(args, kwargs, 3, "mode", "nearest"),
        _argument(args, kwargs, 1, "size"),
        _argument(args, kwargs, 2, "scale_factor"),
        _argument(args, kwargs, 4, "align_corners"),
        bool(_argument(args, kwargs, 6, "antialias", False)),
    )
    return None if description is None else (*description, 1)


def _conv(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
    weight, bias = args[1], _argument(args, kwargs, 2, "bias")
    axes = weight.ndim - 2
    dilation = as_pairs(_argument(args, kwargs, 5, "dilation", 1), axes)
    padding = _argument(args, kwargs, 4, "padding", 0)
    settings = {
        "stride": as_pairs(_argument(args, kwargs, 3, "stride", 1), axes),
        "padding": (
            same_padding(tuple(weight.shape[2:]), dilation)
            if padding == "same"
            else symmetric(0 if padding == "valid" else padding, axes)
        ),
        "dilation": dilation,
        "groups": int(_argument(args, kwargs, 6, "groups", 1)),
    }
    return "conv", {"weight": weight, "bias": bias}, settings, 1


def _linear(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
    return "dense", {"weight": args[1], "bias": _argument(args, kwargs, 2, "bias")}, {}, 1


def _batch_norm(args: tuple, kwargs: dict, _output: torch.Tensor) -> FunctionDescription:
    names = ("running_mean", "running_var", "weight", "bias")
    params = {name: _argument(args, kwargs, 1 + i, name) for i, name in enumerate(names)}
    settings = {
        "eps": float(_argument(args, kwargs, 7, "eps", 1e-5)),
        "training": bool(_argument(args, kwargs, 5, "training", False)),
        "momentum": float(_argument(args, kwargs, 6, "momentum", 0.1)),
    }
    return "batch_norm", params, settings, 1


FUNCTIONS: dict[str, Describe] = {
    **{
        name: _activation(name)
        for name in (
            "relu",
            "relu6",
            "hardswish",
            "hardsigmoid",
            "silu",
            "sigmoid",
            "tanh",
            "mish",
            "softplus",
        )
    },
    "leaky_relu": _leaky_relu,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "gelu": _gelu,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "add": _pairwise("add"),
    "iadd": _pairwise("add"),
    "mul": _pairwise("multiply"),
    "imul": _pairwise("multiply"),
    "cat": _concat,
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive("mean_pool"),
    "adaptive_max_pool2d": _adaptive("max_pool"),
    "max_pool2d": _pool("max_pool"),
    "avg_pool2d": _pool("mean_pool"),
    "interpolate": _interpolate,
    "conv1d": _conv,
    "conv2d": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "dropout": lambda args, kwargs, _output: (
        "dropout",
        {},
        {"p": float(_argument(args, kwargs, 1, "p", 0.5))},
        1,
    ),
}
"""Name of a function or method, without underscores at both ends -> its description."""
