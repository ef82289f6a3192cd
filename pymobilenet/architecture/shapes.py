"""Canonical names, shapes and counts, derived from the layers of a config."""

from __future__ import annotations

import math

from pymobilenet.architecture.families import layers
from pymobilenet.config import MobileNetConfig


def feature_channels(config: MobileNetConfig) -> int:
    """Return the number of features that the classifier reads.

    Args:
        config: The architecture.
    """
    return layers(config)[-1].out_channels


def parameter_shapes(config: MobileNetConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all trained parameters.

    Args:
        config: The architecture.

    Returns:
        Canonical name -> shape, in the order of the layers.

    Examples:
        >>> parameter_shapes(MobileNetConfig())["stem.conv.weight"]
        (32, 3, 3, 3)
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(config):
        shapes[f"{layer.name}.conv.weight"] = layer.weight_shape
        shapes[f"{layer.name}.norm.weight"] = (layer.out_channels,)
        shapes[f"{layer.name}.norm.bias"] = (layer.out_channels,)
    shapes["classifier.weight"] = (config.num_classes, feature_channels(config))
    shapes["classifier.bias"] = (config.num_classes,)
    return shapes


def statistic_shapes(config: MobileNetConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all running statistics.

    Args:
        config: The architecture.

    Returns:
        Canonical name -> shape, in the order of the layers.
    """
    return {
        f"{layer.name}.norm.{statistic}": (layer.out_channels,)
        for layer in layers(config)
        for statistic in ("running_mean", "running_var")
    }


def activation_names(config: MobileNetConfig) -> tuple[str, ...]:
    """Return the names of all activations in forward order, as in `Model.activations`.

    Args:
        config: The architecture.

    Examples:
        >>> activation_names(MobileNetConfig())[:3]
        ('stem.conv', 'stem.norm', 'stem.act')
    """
    names: list[str] = []
    for layer in layers(config):
        names += [f"{layer.name}.conv", f"{layer.name}.norm"]
        names += [f"{layer.name}.act"] if layer.activation else []
        names += [f"{layer.block}.add"] if layer.residual else []
    return (*names, "pool", "logits", *(["probabilities"] if config.softmax else []))


def num_params(config: MobileNetConfig) -> int:
    """Return the number of trained values.

    Args:
        config: The architecture.

    Examples:
        >>> num_params(MobileNetConfig())
        4231976
    """
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def mult_adds(config: MobileNetConfig, size: tuple[int, int] | None = None) -> int:
    """Return the multiply-adds of the convolutions and the classifier for one image.

    Args:
        config: The architecture.
        size: (height, width) in pixels. Default: the config's resolution.

    Examples:
        >>> mult_adds(MobileNetConfig())  # the paper prints 569 million
        568740352
    """
    height, width = size or (config.resolution, config.resolution)
    total = 0
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
        total += math.prod(layer.weight_shape) * height * width
    return total + config.num_classes * feature_channels(config)


def last_map_size(config: MobileNetConfig, height: int, width: int) -> tuple[int, int]:
    """Return the size (rows, columns) of the last feature map, which is pooled.

    Args:
        config: The architecture.
        height: Of the images, in pixels.
        width: Of the images, in pixels.

    Returns:
        Rows and columns.
    """
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
    return height, width
