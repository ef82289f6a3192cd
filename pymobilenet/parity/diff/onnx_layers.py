"""What a trace says of the nodes of an ONNX graph: kind, parameters and settings of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pymobilenet.parity.diff.map_ops import same_padding
from pymobilenet.parity.diff.onnx_graph import IDENTITIES, NORM

ACTIVATIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSigmoid": "hardsigmoid",
    "HardSwish": "hardswish",
    "Softplus": "softplus",
    "Mish": "mish",
    "Gelu": "gelu",
}
"""Operators without settings -> activation function."""


def _pairs(pads: Sequence[int]) -> tuple[tuple[int, int], ...]:
    axes = len(pads) // 2
    return tuple((pads[axis], pads[axis + axes]) for axis in range(axes))


def describe(
    operators: tuple[str, ...],
    attributes: dict[str, Any],
    weights: list[np.ndarray],
    inputs: tuple[np.ndarray, ...],
) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """Return kind, parameters and settings of a layer.

    Args:
        operators: Of its nodes.
        attributes: Of the first node.
        weights: Constants, in the order in which the nodes take them.
        inputs: (N, C, H, W) or (N, features).
    """
    if operators == NORM:
        mean, scale, shift = (weight.ravel() for weight in weights)
        params = {"weight": scale, "bias": shift, "running_mean": mean}
        params["running_var"] = np.ones_like(mean)
        return "batch_norm", params, {"eps": 0.0, "training": False}
    operator = operators[0]
    if operator in ("Conv", "ConvTranspose"):
        axes = weights[0].ndim - 2
        settings = {
            "stride": tuple(attributes.get("strides", (1,) * axes)),
            "padding": _padding(attributes, weights[0].shape[2:], inputs[0].shape[2:]),
            "dilation": tuple(attributes.get("dilations", (1,) * axes)),
            "groups": attributes.get("group", 1),
        }
        if operator == "ConvTranspose":
            settings["output_padding"] = tuple(attributes.get("output_padding", (0,) * axes))
        kind = "conv" if operator == "Conv" else "conv_transpose"
        bias = [weight.ravel() for weight in weights[1:]]
        return kind, dict(zip(("weight", "bias"), [weights[0], *bias], strict=False)), settings
    if operator in ("Gemm", "MatMul") and weights:
        weight = weights[0] if attributes.get("transB") else weights[0].T
        return (
            "dense",
            dict(
                zip(("weight", "bias"), [weight, *(w.ravel() for w in weights[1:])], strict=False)
            ),
            {},
        )
    if operator == "BatchNormalization":
        names = ("weight", "bias", "running_mean", "running_var")
        settings = {"eps": attributes.get("epsilon", 1e-5), "training": False}
        return "batch_norm", dict(zip(names, weights, strict=False)), settings
    if operator == "LayerNormalization":
        settings = {"eps": attributes.get("epsilon", 1e-5), "axes": weights[0].ndim}
        return "layer_norm", dict(zip(("weight", "bias"), weights, strict=False)), settings
    if operator in ACTIVATIONS:
        return "activation", {}, {"function": ACTIVATIONS[operator]}
    if operator == "Clip":
        bounds = [float(bound) for bound in weights or (attributes["min"], attributes["max"])]
        is_relu6 = bounds == [0.0, 6.0]
        limits = {} if is_relu6 else {"low": bounds[0], "high": bounds[-1]}
        return "activation", {}, {"function": "relu6" if is_relu6 else "hardtanh", **limits}
    if operator == "LeakyRelu":
        return "activation", {}, {"function": "leaky_relu", "slope": attributes.get("alpha", 0.01)}
    if operator in ("GlobalAveragePool", "ReduceMean"):
        return "mean_pool", {}, {"output_size": (1, 1)}
    if operator == "GlobalMaxPool":
        return "max_pool", {}, {"output_size": (1, 1)}
    if operator in ("MaxPool", "AveragePool"):
        size = tuple(attributes["kernel_shape"])
        settings = {
            "size": size,
            "stride": tuple(attributes.get("strides", (1,) * len(size))),
            "padding": _padding(attributes, size, inputs[0].shape[2:]),
            "ceil": bool(attributes.get("ceil_mode", 0)),
        }
        if operator == "AveragePool":
            settings["count_padding"] = bool(attributes.get("count_include_pad", 0))
        return "max_pool" if operator == "MaxPool" else "mean_pool", {}, settings
    if operator in ("Softmax", "LogSoftmax"):
        kind = "softmax" if operator == "Softmax" else "log_softmax"
        return kind, {}, {"axis": attributes.get("axis", -1)}
    if operator in ("Flatten", "Reshape", "Squeeze"):
        return "flatten", {}, {}
    if operator in ("Add", "Mul") and len(inputs) == 2:
        return "add" if operator == "Add" else "multiply", {}, {}
    if operator == "Concat":
        return "concat", {}, {"axis": attributes["axis"]}
    if operator in IDENTITIES:
        return "identity", {}, {}
    return "other", {}, {"function": operator}


def zero_padding(
    attributes: dict[str, Any], constants: Sequence[np.ndarray], is_channels_last: bool
) -> tuple[tuple[int, int], ...] | None:
    """Return the pixels that a Pad node adds to each spatial axis; None if it does something else.

    Args:
        attributes: Of the node.
        constants: Its other inputs: the pixels before each axis and after each axis, the value.
        is_channels_last: Whether its input is (N, H, W, C).
    """
    if (
        attributes.get("mode", b"constant") != b"constant"
        or not constants
        or any(map(np.any, constants[1:2]))
    ):
        return None
    pairs = _pairs([int(pixels) for pixels in constants[0]])
    spatial = pairs[1:-1] if is_channels_last else pairs[2:]
    others = (pairs[0], pairs[-1]) if is_channels_last else pairs[:2]
    return None if any(map(any, others)) else spatial


def _padding(
    attributes: dict[str, Any], kernel: Sequence[int], sizes: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Return the pixels before and after each axis, also of ``auto_pad``."""
    axes = len(kernel)
    mode = attributes.get("auto_pad", b"NOTSET")
    if mode not in (b"SAME_UPPER", b"SAME_LOWER"):
        return _pairs(attributes.get("pads", (0,) * 2 * axes))
    strides = attributes.get("strides", (1,) * axes)
    pairs = same_padding(sizes, kernel, strides, attributes.get("dilations"))
    return pairs if mode == b"SAME_UPPER" else tuple((high, low) for low, high in pairs)
