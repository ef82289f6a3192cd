"""MobileNet as an ordinary `nn.Module` of PyTorch.

The module's ``state_dict`` has the canonical names, no more and no fewer: torch's own
``num_batches_tracked`` is left out, because nothing reads it while the norm's momentum is a number
and no other framework has it.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pymobilenet.architecture import Layer, feature_channels, layers
from pymobilenet.config import MobileNetConfig

if TYPE_CHECKING:
    from pymobilenet.backends.torch.processes import Processes


class Norm(nn.Module):
    """Batch normalisation as `nn.BatchNorm2d`, without its ``num_batches_tracked``.

    With `processes` set, a batch is what all of them have, in equal shares.
    """

    processes: Processes | None = None

    def __init__(self, channels: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.processes is not None:
            return self._over_all(x, self.processes)
        statistics = (self.running_mean, self.running_var)
        affine = (self.weight, self.bias)
        return F.batch_norm(x, *statistics, *affine, self.training, self.momentum, self.eps)

    def _over_all(self, x: Tensor, processes: Processes) -> Tensor:
        """Training mode, mean and variance over all processes; `nn.SyncBatchNorm` has no CPU."""
        shape = (1, -1, 1, 1)
        wide = x.to(self.weight.dtype)
        mean = processes.mean(wide.mean((0, 2, 3)))
        centred = wide - mean.view(shape)
        variance = processes.mean(centred.square().mean((0, 2, 3)))
        count = processes.count * x.numel() / x.shape[1]
        with torch.no_grad():
            unbiased = variance * (count / (count - 1))
            self.running_mean.mul_(1 - self.momentum).add_(mean, alpha=self.momentum)
            self.running_var.mul_(1 - self.momentum).add_(unbiased, alpha=self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class Activation(nn.Module):
    """ReLU or ReLU6; with `masks` set, the linear piece of each value is prescribed.

    See `pymobilenet.backends.activation_masks`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.function = {"relu6": F.relu6, "relu": F.relu}[kind]
        self.masks: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.masks is None:
            return self.function(x)
        return torch.where(self.masks == 1, x, 6 * (self.masks == 2).to(x.dtype))


class Dropout(nn.Dropout):
    """`nn.Dropout`, unless the factors to multiply with are prescribed."""

    factors: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.factors is None else x * self.factors


class Unit(nn.Sequential):
    """Convolution, norm and, unless the layer is linear, activation: one `architecture.Layer`."""

    def __init__(self, layer: Layer, config: MobileNetConfig) -> None:
        super().__init__()
        before, after = layer.padding
        if before != after:
            self.add_module("pad", nn.ZeroPad2d((before, after, before, after)))
        self.add_module(
            "conv",
            nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel,
                layer.stride,
                before if before == after else 0,
                groups=layer.groups,
                bias=False,
            ),
        )
        self.add_module("norm", Norm(layer.out_channels, config.norm_eps, config.norm_momentum))
        if layer.activation:
            self.add_module("act", Activation(config.activation))


class Block(nn.Sequential):
    """A block's units, by the names of their parts."""

    def __init__(self, units: list[Layer], config: MobileNetConfig) -> None:
        super().__init__()
        for layer in units:
            self.add_module(layer.role, Unit(layer, config))


class Add(nn.Module):
    """A sum, as a module: what a hook can see."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Residual(Block):
    """A block whose input is added to its output."""

    def __init__(self, units: list[Layer], config: MobileNetConfig) -> None:
        super().__init__(units, config)
        self.add_module("add", Add())

    def forward(self, x: Tensor) -> Tensor:
        *units, add = self.children()
        y = x
        for unit in units:
            y = unit(y)
        return add(x, y)


class Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class MobileNet(nn.Module):
    """Images (N, C, H, W) to logits (N, classes), also where the config has a softmax."""

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        blocks = []
        for block, found in groupby(layers(config), key=lambda layer: layer.block):
            units = list(found)
            if block == "stem":
                self.stem = Unit(units[0], config)
            elif block == "head":
                self.head = Unit(units[0], config)
            else:
                blocks.append((Residual if units[-1].residual else Block)(units, config))
        self.blocks = nn.Sequential(*blocks)
        self.pool = Pool()
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(feature_channels(config), config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        x = self.head(x) if hasattr(self, "head") else x
        return self.classifier(self.dropout(self.pool(x)))
