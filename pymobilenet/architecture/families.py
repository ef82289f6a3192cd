"""The MobileNet architectures: a table per family, and the layers of a config."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pymobilenet.config import DEPTHS, STEM_CHANNELS, MobileNetConfig, rounded
from pymobilenet.errors import ConfigError

HEAD_CHANNELS = {"v1": 1024, "v2": 1280}
"""Channels of the last 1x1 convolution for width multipliers up to 1: of V2 as in torchvision,
Keras and section 6.1 of the paper; of V1 with `head_conv` as in timm, models/efficientnet.py."""


class Stage(NamedTuple):
    """`repeats` blocks, of which only the first has `stride`."""

    channels: int
    stride: int
    repeats: int


class InvertedStage(NamedTuple):
    """`repeats` inverted residual blocks, expanded to `expansion` times their input channels."""

    expansion: int
    channels: int
    stride: int
    repeats: int


S = TypeVar("S", Stage, InvertedStage)

V1 = (
    Stage(channels=64, stride=1, repeats=1),
    Stage(channels=128, stride=2, repeats=2),
    Stage(channels=256, stride=2, repeats=2),
    Stage(channels=512, stride=2, repeats=6),
    Stage(channels=1024, stride=2, repeats=2),
)
"""Howard et al., arXiv:1704.04861, table 1, without the stem. The table prints stride 2 for the
last depthwise layer, too, but its output size of 7x7 requires 1."""

V1_BOTTLENECK = (
    Stage(channels=64, stride=1, repeats=1),
    Stage(channels=128, stride=2, repeats=2),
    Stage(channels=256, stride=2, repeats=2),
    Stage(channels=512, stride=2, repeats=5),
    Stage(channels=1024, stride=2, repeats=2),
)
"""The model of the Flux case study: one block of 512 channels fewer than V1."""

V2 = (
    InvertedStage(expansion=1, channels=16, stride=1, repeats=1),
    InvertedStage(expansion=6, channels=24, stride=2, repeats=2),
    InvertedStage(expansion=6, channels=32, stride=2, repeats=3),
    InvertedStage(expansion=6, channels=64, stride=2, repeats=4),
    InvertedStage(expansion=6, channels=96, stride=1, repeats=3),
    InvertedStage(expansion=6, channels=160, stride=2, repeats=3),
    InvertedStage(expansion=6, channels=320, stride=1, repeats=1),
)
"""Sandler et al., arXiv:1801.04381, table 2, without the stem and the last 1x1 convolution."""


TRUNKS = (
    MobileNetConfig("v1"),
    MobileNetConfig("v1", head_conv=True),
    MobileNetConfig("v1_bottleneck"),
    *(MobileNetConfig("v2", depth_mult=depth_mult) for depth_mult in DEPTHS),
)
"""A config for each list of layers that a net can have."""


_STAGES: dict[str, Sequence[Stage | InvertedStage]] = {
    "v1": V1,
    "v1_bottleneck": V1_BOTTLENECK,
    "v2": V2,
}


@dataclass(frozen=True)
class Layer:
    """A convolution without bias, its norm and its activation: the unit of all blocks.

    Attributes:
        name: The canonical name. The layer's tensors are ``<name>.conv.weight`` (out_channels,
            in_channels / groups, kernel, kernel) and ``<name>.norm.*`` (out_channels,).
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Side of the kernel.
        stride: Stride along both axes.
        padding: Zeros (before, after): above and left, below and right.
        groups: Groups of channels; equal to `in_channels` for a depthwise convolution.
        activation: Whether the layer has an activation function. V2's ``project`` has none.
        residual: Whether the input of the layer's block is added to its output.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: tuple[int, int]
    groups: int
    activation: bool = True
    residual: bool = False

    @property
    def block(self) -> str:
        """The name of the block, ``blocks.<index>``; ``stem`` and ``head`` are their own blocks."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def role(self) -> str:
        """The role in the block: ``depthwise``, ``project``, ...; or ``stem``, ``head``."""
        return self.name.rpartition(".")[2]

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """The shape of the convolution's weight, (O, I/g, kH, kW)."""
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)

    def output_size(self, size: int) -> int:
        """Return the number of rows (or columns) of the output.

        Args:
            size: Rows (or columns) of the input.
        """
        return (size + sum(self.padding) - self.kernel) // self.stride + 1


def scaled(channels: int, config: MobileNetConfig) -> int:
    """Return a number of channels after the width multiplier and rounding, at least 1.

    Args:
        channels: Channels at a width multiplier of 1.
        config: For `width_mult` and `rounding`.

    Raises:
        ConfigError: No channel is left.
    """
    width = rounded(channels, config.width_mult, config.rounding)
    if width < 1:
        raise ConfigError(f"width_mult {config.width_mult!r} leaves none of {channels} channels")
    return width


@functools.lru_cache(maxsize=256)
def layers(config: MobileNetConfig) -> tuple[Layer, ...]:
    """Return the layers before the pooling, in order: ``stem``, the blocks', perhaps ``head``.

    They are derived once for each config: shapes and names are asked for at every step and file.

    Args:
        config: The architecture.

    Returns:
        The layers.

    Raises:
        ConfigError: The width multiplier leaves a layer without channels.

    Examples:
        >>> [layer.name for layer in layers(MobileNetConfig())][:3]
        ['stem', 'blocks.0.depthwise', 'blocks.0.pointwise']
        >>> [layer.name for layer in layers(MobileNetConfig("v2"))][3:6]
        ['blocks.1.expand', 'blocks.1.depthwise', 'blocks.1.project']
    """
    blocks = {"v1": _v1, "v1_bottleneck": _v1_bottleneck, "v2": _v2}[config.family]
    stride = config.stem_stride
    width = STEM_CHANNELS if config.depth_mult > 1 else scaled(STEM_CHANNELS, config)
    stem = Layer("stem", config.in_channels, width, 3, stride, _padding(config, stride), 1)
    return (stem, *blocks(config, width))


def _v1(config: MobileNetConfig, width: int) -> Iterator[Layer]:
    for name, stage, stride in _blocks(V1, config):
        out = scaled(stage.channels, config)
        yield _depthwise(name, width, config, stride)
        yield _pointwise(f"{name}.pointwise", width, out)
        width = out
    if config.head_conv:
        yield _head(config, width)


def _v1_bottleneck(config: MobileNetConfig, width: int) -> Iterator[Layer]:
    assert config.bottleneck_ratio is not None
    for name, stage, stride in _blocks(V1_BOTTLENECK, config):
        reduced = max(1, round(width * config.bottleneck_ratio))
        out = scaled(stage.channels, config)
        yield _depthwise(name, width, config, stride)
        yield _pointwise(f"{name}.reduce", width, reduced)
        yield _pointwise(f"{name}.pointwise", reduced, out)
        width = out


def _v2(config: MobileNetConfig, width: int) -> Iterator[Layer]:
    for name, stage, stride in _blocks(V2, config):
        if stage is V2[1]:
            stride = min(stride, config.stem_stride)  # as in implementations for CIFAR
        hidden, out = stage.expansion * width, scaled(stage.channels, config)
        if stage.expansion > 1:
            yield _pointwise(f"{name}.expand", width, hidden)
        yield _depthwise(name, hidden, config, stride)
        residual = stride == 1 and width == out
        yield _pointwise(f"{name}.project", hidden, out, activation=False, residual=residual)
        width = out
    yield _head(config, width)


def _head(config: MobileNetConfig, width: int) -> Layer:
    """The last 1x1 convolution."""
    width_mult = 1.0 if config.depth_mult > 1 else max(1.0, config.width_mult)
    channels = rounded(HEAD_CHANNELS[config.family], width_mult, config.rounding)
    return _pointwise("head", width, channels)


def blocks_of_stages(config: MobileNetConfig) -> list[tuple[int, int]]:
    """Return (index of the stage, index in the stage) of each block.

    Args:
        config: The architecture.

    Examples:
        >>> blocks_of_stages(MobileNetConfig("v2"))[:4]
        [(0, 0), (1, 0), (1, 1), (2, 0)]
    """
    first, *inner, last = [stage.repeats for stage in _STAGES[config.family]]
    repeats = [first, *(math.ceil(count * config.depth_mult) for count in inner), last]
    return [(stage, repeat) for stage, count in enumerate(repeats) for repeat in range(count)]


def _blocks(stages: Sequence[S], config: MobileNetConfig) -> Iterator[tuple[str, S, int]]:
    """Yield the name, stage and stride of each block."""
    for index, (stage, repeat) in enumerate(blocks_of_stages(config)):
        yield f"blocks.{index}", stages[stage], stages[stage].stride if repeat == 0 else 1


def _depthwise(block: str, channels: int, config: MobileNetConfig, stride: int) -> Layer:
    padding = _padding(config, stride)
    return Layer(f"{block}.depthwise", channels, channels, 3, stride, padding, channels)


def _pointwise(
    name: str, inputs: int, outputs: int, activation: bool = True, residual: bool = False
) -> Layer:
    return Layer(name, inputs, outputs, 1, 1, (0, 0), 1, activation, residual)


def _padding(config: MobileNetConfig, stride: int) -> tuple[int, int]:
    """The padding of a 3x3 convolution."""
    return (0, 1) if config.padding == "keras" and stride == 2 else (1, 1)
