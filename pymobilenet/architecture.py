"""The MobileNet architecture as one table of named fields, and all that follows from it.

`layers` turns a config into the list of layers every backend builds from; canonical names, weight
shapes, parameter and multiply-add counts are read off that list and written nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError

STEM_CHANNELS = 32


class Stage(NamedTuple):
    """`repeats` depthwise separable blocks; only the first of them has `stride`."""

    channels: int
    stride: int
    repeats: int


V1 = (
    Stage(channels=64, stride=1, repeats=1),
    Stage(channels=128, stride=2, repeats=2),
    Stage(channels=256, stride=2, repeats=2),
    Stage(channels=512, stride=2, repeats=6),
    Stage(channels=1024, stride=2, repeats=2),
)
"""Howard et al., arXiv:1704.04861, table 1, without the stem. The table prints stride 2 for the
last depthwise layer too, where its own output size of 7x7 requires 1."""


@dataclass(frozen=True)
class Layer:
    """A convolution without bias, its norm and its activation: the unit all blocks are made of.

    `name` is the canonical name of the unit: its tensors are ``<name>.conv.weight`` of shape
    (out_channels, in_channels / groups, kernel, kernel) and ``<name>.norm.*`` of shape
    (out_channels,). Padding is symmetric, `padding` pixels on each side.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int
    groups: int

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I/g, kH, kW)."""
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)

    def output_size(self, size: int) -> int:
        """Rows (or columns) of the output for `size` rows (or columns) of input."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


def scaled(channels: int, width_mult: float) -> int:
    """`channels` after the width multiplier: ``int(width_mult * channels)``, at least 1."""
    width = int(width_mult * channels)
    if width < 1:
        raise ConfigError(f"width_mult {width_mult!r} leaves none of {channels} channels")
    return width


def layers(config: MobileNetConfig) -> tuple[Layer, ...]:
    """The layers before the pooling, in order: ``stem``, then each block's depthwise, pointwise.

    >>> [layer.name for layer in layers(MobileNetConfig())][:3]
    ['stem', 'blocks.0.depthwise', 'blocks.0.pointwise']
    """
    width = scaled(STEM_CHANNELS, config.width_mult)
    table = [Layer("stem", config.in_channels, width, 3, config.stem_stride, 1, 1)]
    block = 0
    for stage in V1:
        out = scaled(stage.channels, config.width_mult)
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            table.append(Layer(f"blocks.{block}.depthwise", width, width, 3, stride, 1, width))
            table.append(Layer(f"blocks.{block}.pointwise", width, out, 1, 1, 0, 1))
            width, block = out, block + 1
    return tuple(table)


def feature_channels(config: MobileNetConfig) -> int:
    """Channels of the last map, which the classifier reads after pooling."""
    return layers(config)[-1].out_channels


def parameter_shapes(config: MobileNetConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of everything that is trained, in the order of the layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(config):
        shapes[f"{layer.name}.conv.weight"] = layer.weight_shape
        shapes[f"{layer.name}.norm.weight"] = (layer.out_channels,)
        shapes[f"{layer.name}.norm.bias"] = (layer.out_channels,)
    shapes["classifier.weight"] = (config.num_classes, feature_channels(config))
    shapes["classifier.bias"] = (config.num_classes,)
    return shapes


def statistic_shapes(config: MobileNetConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of the running statistics, in the order of the layers."""
    return {
        f"{layer.name}.norm.{statistic}": (layer.out_channels,)
        for layer in layers(config)
        for statistic in ("running_mean", "running_var")
    }


def activation_names(config: MobileNetConfig) -> tuple[str, ...]:
    """Names of all activations in the order they are computed."""
    units = [f"{layer.name}.{part}" for layer in layers(config) for part in ("conv", "norm", "act")]
    return (*units, "pool", "logits")


def num_params(config: MobileNetConfig) -> int:
    """Number of trained values.

    >>> num_params(MobileNetConfig())
    4231976
    """
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def mult_adds(config: MobileNetConfig, size: tuple[int, int] | None = None) -> int:
    """Multiply-adds of the convolutions and the classifier for one image, as the paper counts.

    `size` is (height, width) in pixels, the config's resolution if not given.

    >>> mult_adds(MobileNetConfig())
    568740352
    """
    height, width = size or (config.resolution, config.resolution)
    total = 0
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
        total += math.prod(layer.weight_shape) * height * width
    return total + config.num_classes * feature_channels(config)


def last_map_size(config: MobileNetConfig, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the map that is pooled, for images of `height` x `width` pixels."""
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
    return height, width
