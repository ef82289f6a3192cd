"""Inference alone: every norm folded into the convolution before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pymobilenet.architecture import Layer, layers
from pymobilenet.config import MobileNetConfig


class Folded(NamedTuple):
    """A layer with the norm in its weight and bias."""

    layer: Layer
    weight: Tensor
    bias: Tensor


def fold(layer: Layer, state: Mapping[str, Tensor], eps: float) -> Folded:
    """``(conv - mean) / sqrt(var + eps) * w + b`` as one convolution, in float64, rounded once.

    On the CPU, since not every device has float64.
    """

    def wide(part: str) -> Tensor:
        return state[f"{layer.name}.{part}"].cpu().double()

    factor = wide("norm.weight") / torch.sqrt(wide("norm.running_var") + eps)
    weight = wide("conv.weight") * factor[:, None, None, None]
    bias = wide("norm.bias") - wide("norm.running_mean") * factor
    like = state[f"{layer.name}.conv.weight"]
    return Folded(layer, weight.to(like, memory_format=torch.channels_last), bias.to(like))


def freeze(config: MobileNetConfig, state: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Images (N, C, H, W) to logits (N, classes), by copies of these tensors."""
    folded = [fold(layer, state, config.norm_eps) for layer in layers(config)]
    weight, bias = (state[f"classifier.{part}"].clone() for part in ("weight", "bias"))
    ceiling = 6.0 if config.activation == "relu6" else None

    def run(x: Tensor) -> Tensor:
        x = x.to(memory_format=torch.channels_last)
        block, entered = "", x
        for unit in folded:
            if unit.layer.block != block:
                block, entered = unit.layer.block, x
            x = _convolve(x, unit)
            if unit.layer.activation:
                x = x.clamp_(0, ceiling)
            if unit.layer.residual:
                x = x.add_(entered)
        return F.linear(x.mean((2, 3)), weight, bias)

    return run


def _convolve(x: Tensor, unit: Folded) -> Tensor:
    layer, (before, after) = unit.layer, unit.layer.padding
    if before != after:
        x, before = F.pad(x, (before, after, before, after)), 0
    return F.conv2d(x, unit.weight, unit.bias, layer.stride, before, groups=layer.groups)
