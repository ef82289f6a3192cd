"""Inference of a model's config from the shapes of its tensors.

Every rounding rule is monotone in the width multiplier, so the multipliers that give a net's widths
are an interval of floating-point numbers. Bisection finds its ends exactly. All numbers in the
interval build the same net; the result is a published multiplier, or else the shortest decimal.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from pymobilenet.architecture import TRUNKS, layers
from pymobilenet.config import FAMILY_DEFAULTS, ROUNDINGS, MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.weights import state_shapes

PUBLISHED = {
    "width_mult": (1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 1.3, 1.25, 0.1),
    "bottleneck_ratio": (0.9997,),
}
"""Multipliers in the order of preference: Howard et al., arXiv:1704.04861, table 6; Keras'
MobileNetV2 (0.35 to 1.4); timm's mobilenetv1_125; the Flux case study (0.1 and 0.9997). Julia's
`PUBLISHED_MULTIPLIERS` has the same, so that both languages infer the same multiplier."""

LARGEST = {"width_mult": 2.0, "bottleneck_ratio": 1.0}
"""The largest value of each field; see `MobileNetConfig`."""

Shapes = Mapping[str, tuple[int, ...]]
"""Canonical name -> shape."""


def infer_config(family: str, shapes: Shapes, rounding: str | None = None) -> MobileNetConfig:
    """Return the config of a family whose state has exactly these shapes.

    Args:
        family: One of `pymobilenet.config.FAMILIES`.
        shapes: Canonical name -> shape, of every tensor of the state.
        rounding: The rule that the net was built with, if it is known. Otherwise the default rule
            of the family is tried first, then the others.

    Returns:
        The config; fields that shapes do not determine have their defaults.

    Raises:
        WeightsError: No config has these shapes. The message names the tensor or the layer.
    """
    trunk = trunk_of(family, shapes)
    for name, shape in state_shapes(trunk).items():
        if len(shapes[name]) != len(shape):
            raise WeightsError(f"{name} must have {len(shape)} axes. Received: {shapes[name]}")
    default = FAMILY_DEFAULTS[family]["rounding"]
    rules = [rounding] if rounding else [default, *(rule for rule in ROUNDINGS if rule != default)]
    errors = []
    for rule in rules:
        try:
            return _infer(trunk, shapes, rule)
        except (ConfigError, WeightsError) as error:
            errors.append(f"{error} (rounding {rule})")
    raise WeightsError(errors[0])


def trunk_of(family: str, shapes: Shapes) -> MobileNetConfig:
    """Return the config in `architecture.TRUNKS` of a family whose layers a state has.

    Args:
        family: One of `pymobilenet.config.FAMILIES`.
        shapes: Canonical name -> shape.

    Raises:
        WeightsError: The state has more or fewer layers than every published net of the family.
    """
    names = {name.removesuffix(".conv.weight") for name in shapes if name.endswith(".conv.weight")}
    for trunk in TRUNKS:
        if trunk.family == family and {layer.name for layer in layers(trunk)} == names:
            return trunk
    raise WeightsError(f"no net of family {family} has these layers. Received: {len(names)} layers")


def _infer(trunk: MobileNetConfig, shapes: Shapes, rounding: str) -> MobileNetConfig:
    config = replace(
        trunk,
        num_classes=shapes["classifier.weight"][0],
        in_channels=shapes["stem.conv.weight"][1],
        rounding=rounding,
    )
    table = layers(config)
    units = [layer.name for layer in table if layer.role != "reduce"]
    config = _infer_multiplier(config, "width_mult", units, shapes)
    if config.bottleneck_ratio is not None:
        units = [layer.name for layer in table if layer.role == "reduce"]
        config = _infer_multiplier(config, "bottleneck_ratio", units, shapes)
    for name, shape in state_shapes(config).items():
        if shapes[name] != shape:
            raise WeightsError(f"{name} must have shape {shape}. Received: {shapes[name]}")
    return config


def _infer_multiplier(
    config: MobileNetConfig, field: str, units: Sequence[str], shapes: Shapes
) -> MobileNetConfig:
    """Return `config` with the value of `field` that gives the `units` the channels of `shapes`."""
    expected = [shapes[f"{unit}.conv.weight"][0] for unit in units]

    def channels(value: float) -> list[int]:
        try:
            table = {row.name: row.out_channels for row in layers(_replaced(config, field, value))}
        except ConfigError:  # so small that a layer would have no channel
            return [0] * len(units)
        return [table[unit] for unit in units]

    def is_wide_enough(value: float) -> bool:
        return all(count >= want for count, want in zip(channels(value), expected, strict=True))

    def is_too_wide(value: float) -> bool:
        return any(count > want for count, want in zip(channels(value), expected, strict=True))

    low = _least(is_wide_enough, LARGEST[field])
    high = _least(is_too_wide, LARGEST[field])
    if low >= high:
        _raise_contradiction(field, units, expected, channels, min(low, LARGEST[field]))
    published = [value for value in PUBLISHED[field] if low <= value < high]
    return _replaced(config, field, published[0] if published else _shortest(low, high))


def _replaced(config: MobileNetConfig, field: str, value: float) -> MobileNetConfig:
    return replace(config, **{field: value})  # type: ignore[arg-type]


def _least(predicate: Callable[[float], bool], largest: float) -> float:
    """Return the least float in (0, `largest`] for which a monotone predicate is true.

    If it is true for none, the float after `largest` is returned.
    """
    low, high = 0, _bits(largest) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if predicate(_float(middle)) else (middle, high)
    return _float(high)


def _bits(value: float) -> int:
    """Return the bits of a positive float as an integer; both have the same order."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


def _shortest(low: float, high: float) -> float:
    """Return the number in [low, high) with the fewest decimals, and of these the least."""
    for decimals in range(1, 18):
        value = math.ceil(Fraction(low) * 10**decimals) / 10**decimals
        if low <= value < high:
            return value
    return low


def _raise_contradiction(
    field: str,
    units: Sequence[str],
    expected: Sequence[int],
    channels: Callable[[float], list[int]],
    low: float,
) -> None:
    """Raise an error that names the two layers that contradict each other, or the one too wide."""
    rows = list(zip(units, expected, channels(low), strict=True))
    for unit, want, count in rows:
        if count < want:
            raise WeightsError(f"{unit} has {want} channels; {field} {low} gives it only {count}")
    below = channels(math.nextafter(low, 0))
    other, other_want = next(
        (unit, want) for (unit, want, _), count in zip(rows, below, strict=True) if count < want
    )
    for unit, want, count in rows:
        if count > want:
            raise WeightsError(
                f"{unit} has {want} channels, but {count} or more wherever {field} gives "
                f"{other} its {other_want}"
            )
