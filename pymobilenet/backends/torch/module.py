"""MobileNet as an ordinary `nn.Module`.

The module's ``state_dict`` has exactly the canonical names. `nn.BatchNorm2d`'s
``num_batches_tracked`` is omitted: it is used only if the norm's momentum is None, and no other
framework has it. `torch.jit.script` compiles the module, which is why annotations here are types
rather than texts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pymobilenet.architecture import Layer, feature_channels, layers
from pymobilenet.backends.torch.arrays import to_numpy
from pymobilenet.config import MobileNetConfig
from pymobilenet.weights import State

if TYPE_CHECKING:
    from pymobilenet.backends.torch.processes import Processes


class Norm(nn.Module):
    """`nn.BatchNorm2d` without ``num_batches_tracked``.

    Attributes:
        processes: If set, training mode uses the statistics of all processes' shards, which have
            equal sizes.
    """

    processes: "Processes | None" = None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise feature maps.

        Args:
            x: (N, C, H, W).

        Returns:
            (N, C, H, W).
        """
        if not torch.jit.is_scripting():  # noqa: SIM102  # a script compiles all but such a branch
            if self.training and self.processes is not None:
                return self._synchronised(x, self.processes)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def _synchronised(self, x: Tensor, processes: "Processes") -> Tensor:
        """Normalise with the statistics of all processes; `nn.SyncBatchNorm` supports only CUDA."""
        shape = (1, -1, 1, 1)
        values = x.to(self.weight.dtype)
        mean = processes.mean(values.mean((0, 2, 3)))
        centred = values - mean.view(shape)
        variance = processes.mean(centred.square().mean((0, 2, 3)))
        count = processes.count * x.numel() / x.shape[1]
        with torch.no_grad():
            unbiased = variance * (count / (count - 1))
            self.running_mean.mul_(1 - self.momentum).add_(mean, alpha=self.momentum)
            self.running_var.mul_(1 - self.momentum).add_(unbiased, alpha=self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class Activation(nn.Module):
    """ReLU or ReLU6.

    Attributes:
        masks: If set, uint8 of the input's shape: which linear piece of the function to use for
            each value; see `pymobilenet.backends.activation_masks`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.function = {"relu6": F.relu6, "relu": F.relu}[kind]
        self.masks: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function, or the linear pieces that `masks` selects.

        Args:
            x: Any shape.

        Returns:
            The same shape.
        """
        masks = self.masks
        if masks is None:
            return self.function(x)
        return torch.where(masks == 1, x, 6 * (masks == 2).to(x.dtype))


class Dropout(nn.Dropout):
    """`nn.Dropout`, whose random factors can be replaced.

    Attributes:
        factors: If set, (N, C): multiplied with the input instead of random factors.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.factors: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop features.

        Args:
            x: (N, C).

        Returns:
            (N, C).
        """
        factors = self.factors
        return F.dropout(x, self.p, self.training) if factors is None else x * factors


class Unit(nn.Sequential):
    """The convolution, norm and optional activation of one `architecture.Layer`."""

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
    """The units of a block, named by their roles."""

    def __init__(self, units: list[Layer], config: MobileNetConfig) -> None:
        super().__init__()
        for layer in units:
            self.add_module(layer.role, Unit(layer, config))


class Add(nn.Module):
    """Addition as a module, so that forward hooks see its output."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add two tensors of the same shape.

        Args:
            x: Any shape.
            y: The same shape.

        Returns:
            The same shape.
        """
        return x + y


class Residual(Block):
    """A block whose input is added to its output."""

    if TYPE_CHECKING:  # TorchScript has no types of modules
        expand: Unit
        depthwise: Unit
        project: Unit
        add: Add

    def __init__(self, units: list[Layer], config: MobileNetConfig) -> None:
        super().__init__(units, config)
        self.add_module("add", Add())

    def forward(self, x: Tensor) -> Tensor:
        """Run the block.

        Args:
            x: (N, C, H, W).

        Returns:
            (N, C, H, W).
        """
        y = self.expand(x) if hasattr(self, "expand") else x
        return self.add(x, self.project(self.depthwise(y)))


class Pool(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the mean of each feature map.

        Args:
            x: (N, C, H, W).

        Returns:
            (N, C).
        """
        return x.mean((2, 3))


class MobileNet(nn.Module):
    """A MobileNet that returns logits, also if the config has a softmax.

    Args:
        config: The architecture.
    """

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        blocks = []
        for block, block_layers in groupby(layers(config), key=lambda layer: layer.block):
            units = list(block_layers)
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
        """Compute logits.

        Args:
            x: Images (N, C, H, W), normalised.

        Returns:
            Logits (N, classes).
        """
        x = self.blocks(self.stem(x))
        if hasattr(self, "head"):
            x = self.head(x)
        return self.classifier(self.dropout(self.pool(x)))


@contextmanager
def recorded_activations(module: nn.Module) -> Iterator[State]:
    """Record the activations of the calls inside a ``with`` block, as copies.

    Args:
        module: A MobileNet, or a part of one with the same names.

    Yields:
        Name -> activation, which the calls fill; see `Model.activations`.
    """
    activations: State = {}

    def record(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _input, output: activations.__setitem__(name, to_numpy(output))

    hooks = [
        each.register_forward_hook(record("logits" if name == "classifier" else name))
        for name, each in module.named_modules()
        if isinstance(each, (nn.Conv2d, Norm, Activation, Add, Pool, nn.Linear))
    ]
    try:
        yield activations
    finally:
        for hook in hooks:
            hook.remove()
