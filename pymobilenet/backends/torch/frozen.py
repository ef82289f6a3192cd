"""Fast inference: every batch norm folded into the convolution before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pymobilenet.architecture import Layer, layers
from pymobilenet.config import MobileNetConfig


class FoldedLayer(NamedTuple):
    """A convolution with the following norm folded into its weight and bias."""

    layer: Layer
    weight: Tensor
    bias: Tensor


def fold(layer: Layer, state: Mapping[str, Tensor], eps: float) -> FoldedLayer:
    """Fold ``(conv - mean) / sqrt(var + eps) * w + b`` into one convolution with bias.

    The new weights are computed in float64 on the CPU, since not every device supports float64, and
    rounded once.

    Args:
        layer: The layer.
        state: The module's ``state_dict``.
        eps: The norm's eps.

    Returns:
        The folded layer, with the dtype and device of the convolution's weight.
    """

    def float64(name: str) -> Tensor:
        return state[f"{layer.name}.{name}"].cpu().double()

    factor = float64("norm.weight") / torch.sqrt(float64("norm.running_var") + eps)
    weight = float64("conv.weight") * factor[:, None, None, None]
    bias = float64("norm.bias") - float64("norm.running_mean") * factor
    like = state[f"{layer.name}.conv.weight"]
    return FoldedLayer(layer, weight.to(like, memory_format=torch.channels_last), bias.to(like))


def freeze(config: MobileNetConfig, state: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a prediction function with copies of the weights.

    Args:
        config: The architecture.
        state: The module's ``state_dict``.

    Returns:
        A function from images (N, C, H, W) to logits (N, classes).
    """
    folded_layers = [fold(layer, state, config.norm_eps) for layer in layers(config)]
    weight, bias = (state[f"classifier.{name}"].clone() for name in ("weight", "bias"))
    clip_value = 6.0 if config.activation == "relu6" else None

    def predict(x: Tensor) -> Tensor:
        x = x.to(memory_format=torch.channels_last)
        block, block_input = "", x
        for folded in folded_layers:
            if folded.layer.block != block:
                block, block_input = folded.layer.block, x
            x = _convolve(x, folded)
            if folded.layer.activation:
                x = x.clamp_(0, clip_value)
            if folded.layer.residual:
                x = x.add_(block_input)
        return F.linear(x.mean((2, 3)), weight, bias)

    return predict


def _convolve(x: Tensor, folded: FoldedLayer) -> Tensor:
    layer, (before, after) = folded.layer, folded.layer.padding
    if before != after:
        x, before = F.pad(x, (before, after, before, after)), 0
    return F.conv2d(x, folded.weight, folded.bias, layer.stride, before, groups=layer.groups)
