"""What a trace says of each class of ``torch.nn``: kind, parameters and settings of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Description = tuple[str, dict[str, torch.Tensor | None], dict[str, Any]]
"""Kind, parameters and settings; see `pymobilenet.backends.trace.Layer`."""

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Mish: "mish",
    nn.Softplus: "softplus",
}
"""Activation functions without settings."""


def describe_module(module: nn.Module) -> Description | None:
    """Return what a trace says of a module, or None for one that is not a layer of a known kind."""
    for classes, describe in DESCRIPTIONS:
        if isinstance(module, classes):
            return describe(module)
    return None


def as_pairs(value: Any, axes: int) -> tuple[int, ...]:
    """Return a size for each spatial axis.

    Args:
        value: One number, or one for each axis.
        axes: The number of spatial axes.
    """
    return (int(value),) * axes if isinstance(value, int) else tuple(int(v) for v in value)


def symmetric(value: Any, axes: int) -> tuple[tuple[int, int], ...]:
    """Return the pixels before and after each axis, from torch's symmetric padding.

    Args:
        value: One number, or one for each axis.
        axes: The number of spatial axes.
    """
    return tuple((size, size) for size in as_pairs(value, axes))


def same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the pixels that torch's ``padding="same"`` adds: the odd one comes last.

    Args:
        kernel: The size along each spatial axis.
        dilation: The same.
    """
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _conv(module: Any) -> Description:
    axes = len(module.kernel_size)
    padding: tuple[tuple[int, int], ...]
    if module.padding == "same":
        padding = same_padding(module.kernel_size, module.dilation)
    else:
        padding = symmetric(0 if module.padding == "valid" else module.padding, axes)
    settings = {
        "stride": tuple(module.stride),
        "padding": padding,
        "dilation": tuple(module.dilation),
        "groups": module.groups,
    }
    if module.padding_mode != "zeros":
        settings["padding_mode"] = module.padding_mode
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        settings["output_padding"] = tuple(module.output_padding)
        kind = "conv_transpose"
    else:
        kind = "conv"
    return kind, {"weight": module.weight, "bias": module.bias}, settings


def _norm(kind: str) -> Callable[[Any], Description]:
    def describe(module: Any) -> Description:
        names = ("weight", "bias", "running_mean", "running_var")
        params = {name: getattr(module, name, None) for name in names}
        uses_batch = module.training or params["running_mean"] is None
        settings = {"eps": float(module.eps), "training": uses_batch}
        return kind, params, {**settings, "momentum": getattr(module, "momentum", None)}

    return describe


def _group_norm(module: Any) -> Description:
    settings = {"eps": float(module.eps), "groups": module.num_groups}
    return "group_norm", {"weight": module.weight, "bias": module.bias}, settings


def _layer_norm(module: Any) -> Description:
    settings = {"eps": float(module.eps), "axes": len(module.normalized_shape)}
    return "layer_norm", {"weight": module.weight, "bias": module.bias}, settings


def _pool(kind: str) -> Callable[[Any], Description]:
    def describe(module: Any) -> Description:
        axes = 1 if type(module).__name__.endswith("1d") else 2
        stride = module.kernel_size if module.stride is None else module.stride
        settings = {
            "size": as_pairs(module.kernel_size, axes),
            "stride": as_pairs(stride, axes),
            "padding": symmetric(module.padding, axes),
            "ceil": module.ceil_mode,
        }
        if kind == "mean_pool":
            settings["count_padding"] = module.count_include_pad
        return kind, {}, settings

    return describe


def _adaptive(kind: str) -> Callable[[Any], Description]:
    def describe(module: Any) -> Description:
        size = module.output_size
        return (
            kind,
            {},
            {"output_size": as_pairs(size, 2) if isinstance(size, int) else tuple(size)},
        )

    return describe


def describe_resizing(
    mode: str, size: Any, scale: Any, align_corners: bool | None, antialias: bool = False
) -> Description | None:
    """Return what a trace says of a layer that resizes maps, or None for one that is not computed.

    Args:
        mode: Of `torch.nn.functional.interpolate`; only ``nearest`` and ``bilinear`` are known.
        size: One number, one for each axis, or None.
        scale: The same.
        align_corners: Of `interpolate`.
        antialias: Of `interpolate`.
    """
    if mode not in ("nearest", "bilinear"):
        return None
    settings = {"mode": mode, "align_corners": bool(align_corners), "antialias": antialias}
    if size is not None:
        return "resize", {}, {**settings, "output_size": as_pairs(size, 2)}
    scales = (scale, scale) if isinstance(scale, (int, float)) else scale
    return "resize", {}, {**settings, "scale": tuple(float(value) for value in scales)}


def _upsample(module: Any) -> Description | None:
    return describe_resizing(module.mode, module.size, module.scale_factor, module.align_corners)


def _activation(module: nn.Module) -> Description:
    return "activation", {}, {"function": ACTIVATIONS[type(module)]}


DESCRIPTIONS: tuple[tuple[Any, Callable[[Any], Description | None]], ...] = (
    (
        (
            nn.Conv1d,
            nn.Conv2d,
            nn.Conv3d,
            nn.ConvTranspose1d,
            nn.ConvTranspose2d,
            nn.ConvTranspose3d,
        ),
        _conv,
    ),
    (nn.Linear, lambda m: ("dense", {"weight": m.weight, "bias": m.bias}, {})),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _norm("batch_norm")),
    ((nn.InstanceNorm1d, nn.InstanceNorm2d), _norm("instance_norm")),
    (nn.GroupNorm, _group_norm),
    (nn.LayerNorm, _layer_norm),
    ((nn.MaxPool1d, nn.MaxPool2d), _pool("max_pool")),
    ((nn.AvgPool2d,), _pool("mean_pool")),
    (nn.AdaptiveAvgPool2d, _adaptive("mean_pool")),
    (nn.AdaptiveMaxPool2d, _adaptive("max_pool")),
    (nn.Upsample, _upsample),
    (tuple(ACTIVATIONS), _activation),
    (
        nn.Hardtanh,
        lambda m: (
            "activation",
            {},
            {"function": "hardtanh", "low": float(m.min_val), "high": float(m.max_val)},
        ),
    ),
    (
        nn.LeakyReLU,
        lambda m: (
            "activation",
            {},
            {"function": "leaky_relu", "slope": float(m.negative_slope)},
        ),
    ),
    (nn.ELU, lambda m: ("activation", {}, {"function": "elu", "slope": float(m.alpha)})),
    (
        nn.GELU,
        lambda m: (
            "activation",
            {},
            {"function": "gelu_tanh" if m.approximate == "tanh" else "gelu"},
        ),
    ),
    (nn.Softmax, lambda m: ("softmax", {}, {"axis": m.dim})),
    (nn.LogSoftmax, lambda m: ("log_softmax", {}, {"axis": m.dim})),
    (nn.Flatten, lambda _m: ("flatten", {}, {})),
    ((nn.Dropout, nn.Dropout2d), lambda m: ("dropout", {}, {"p": float(m.p)})),
    (nn.Identity, lambda _m: ("identity", {}, {})),
)
"""Classes -> description. ReLU6 is a subclass of Hardtanh, and so comes first."""
