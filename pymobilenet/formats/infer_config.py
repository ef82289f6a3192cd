"""The config a model must have had, from the shapes of its tensors.

Every rounding rule is monotone in the width multiplier, so the multipliers that give a net's widths
are an interval of floating-point numbers; its ends are found exactly, by bisection. All numbers in
it build the same net. The one reported is a published multiplier, or else the shortest decimal.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from pymobilenet.architecture import layers
from pymobilenet.config import FAMILY_DEFAULTS, ROUNDINGS, MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.weights import state_shapes

PUBLISHED = {
    "width_mult": (1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 1.3, 1.25, 0.1),
    "bottleneck_ratio": (0.9997,),
}
"""Multipliers in the order they are preferred: Howard et al., arXiv:1704.04861, table 6; Keras'
MobileNetV2 (0.35 to 1.4); timm's mobilenetv1_125; the Flux case study (0.1 and 0.9997). Julia's
`PUBLISHED_MULTIPLIERS` has the same, so that a net has one multiplier, whoever reads it."""

LARGEST = {"width_mult": 2.0, "bottleneck_ratio": 1.0}
"""See `MobileNetConfig`."""

Shapes = Mapping[str, tuple[int, ...]]


def infer_config(family: str, shapes: Shapes, rounding: str | None = None) -> MobileNetConfig:
    """The config of `family` whose state has exactly these `shapes`, given by canonical name.

    Fields that shapes do not show have their defaults. `rounding` is the rule the net is known to
    have been built by; without one the family's own is tried first, then the others.

    Raises:
        WeightsError: No config gives these shapes; the message names the tensor, or the layer.
    """
    for name, like in state_shapes(MobileNetConfig(family)).items():
        if len(shapes[name]) != len(like):
            raise WeightsError(f"{name} must have {len(like)} axes. Received: {shapes[name]}")
    own = FAMILY_DEFAULTS[family]["rounding"]
    rules = [rounding] if rounding else [own, *(rule for rule in ROUNDINGS if rule != own)]
    refusals = []
    for rule in rules:
        try:
            return _infer(family, shapes, rule)
        except (ConfigError, WeightsError) as error:
            refusals.append(f"{error} (rounding {rule})")
    raise WeightsError(refusals[0])


def _infer(family: str, shapes: Shapes, rounding: str) -> MobileNetConfig:
    config = MobileNetConfig(
        family,
        num_classes=shapes["classifier.weight"][0],
        in_channels=shapes["stem.conv.weight"][1],
        rounding=rounding,
    )
    table = layers(config)
    config = _settle(
        config, "width_mult", [row.name for row in table if row.role != "reduce"], shapes
    )
    if config.bottleneck_ratio is not None:
        reduces = [row.name for row in table if row.role == "reduce"]
        config = _settle(config, "bottleneck_ratio", reduces, shapes)
    for name, shape in state_shapes(config).items():
        if shapes[name] != shape:
            raise WeightsError(f"{name} must have shape {shape}. Received: {shapes[name]}")
    return config


def _settle(
    config: MobileNetConfig, field: str, units: Sequence[str], shapes: Shapes
) -> MobileNetConfig:
    """`config` with the value of `field` that gives the `units` the channels of `shapes`."""
    wanted = [shapes[f"{unit}.conv.weight"][0] for unit in units]

    def widths(value: float) -> list[int]:
        try:
            table = {row.name: row.out_channels for row in layers(_with(config, field, value))}
        except ConfigError:  # so small that a layer would have no channel left
            return [0] * len(units)
        return [table[unit] for unit in units]

    def enough(value: float) -> bool:
        return all(width >= want for width, want in zip(widths(value), wanted, strict=True))

    def too_much(value: float) -> bool:
        return any(width > want for width, want in zip(widths(value), wanted, strict=True))

    low = _first(enough, LARGEST[field])
    high = _first(too_much, LARGEST[field])
    if low >= high:
        _refuse(field, units, wanted, widths, min(low, LARGEST[field]))
    published = [value for value in PUBLISHED[field] if low <= value < high]
    return _with(config, field, published[0] if published else _shortest(low, high))


def _with(config: MobileNetConfig, field: str, value: float) -> MobileNetConfig:
    return replace(config, **{field: value})  # type: ignore[arg-type]


def _first(true: Callable[[float], bool], largest: float) -> float:
    """The least float in (0, `largest`] for which the monotone `true` is; else the one after."""
    low, high = 0, _rank(largest) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if true(_float(middle)) else (middle, high)
    return _float(high)


def _rank(value: float) -> int:
    """Positive floats in their order are the integers of their bits in order."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _float(rank: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", rank))[0])


def _shortest(low: float, high: float) -> float:
    """The number in [low, high) with the fewest decimals, and of these the least."""
    for decimals in range(1, 18):
        value = math.ceil(Fraction(low) * 10**decimals) / 10**decimals
        if low <= value < high:
            return value
    return low


def _refuse(
    field: str,
    units: Sequence[str],
    wanted: Sequence[int],
    widths: Callable[[float], list[int]],
    low: float,
) -> None:
    """Name the two layers that cannot both be right, or the one that never can."""
    rows = list(zip(units, wanted, widths(low), strict=True))
    for unit, want, width in rows:
        if width < want:
            raise WeightsError(f"{unit} has {want} channels; {field} {low} gives it only {width}")
    below = widths(math.nextafter(low, 0))
    binding = next(
        (unit, want) for (unit, want, _), width in zip(rows, below, strict=True) if width < want
    )
    for unit, want, width in rows:
        if width > want:
            raise WeightsError(
                f"{unit} has {want} channels, but {width} or more wherever {field} gives "
                f"{binding[0]} its {binding[1]}"
            )
