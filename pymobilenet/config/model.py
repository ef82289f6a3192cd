"""The architecture of a MobileNet, as a frozen, validated dataclass."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Self

from pymobilenet.config.record import Record
from pymobilenet.errors import ConfigError

FAMILIES = ("v1", "v1_bottleneck", "v2")
ROUNDINGS = ("floor", "nearest", "multiple_of_8")
PADDINGS = ("symmetric", "keras")
ACTIVATIONS = ("relu6", "relu")

DEPTHS = (1.0, 1.2, 1.4)
"""The depth multipliers of published V2s: timm, models/efficientnet.py."""

DEPTH_RULE = "1 or, in the family v2, 1.2 or 1.4"

RESOLUTIONS = (224, 192, 160, 128)
"""The input sizes of Howard et al., arXiv:1704.04861, section 3.4."""

STEM_CHANNELS = 32
"""Channels of the first convolution of every family, before the width multiplier."""


class _DefaultFloat(float):
    """A float that a field has by default, not because a user has set it."""


class _DefaultStr(str):
    """A text that a field has by default, not because a user has set it."""

    __slots__ = ()


FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "v1": {
        "width_mult": _DefaultFloat(1.0),
        "rounding": _DefaultStr("floor"),
        "bottleneck_ratio": None,
    },
    "v1_bottleneck": {
        "width_mult": _DefaultFloat(0.1),
        "rounding": _DefaultStr("nearest"),
        "bottleneck_ratio": _DefaultFloat(0.9997),
    },
    "v2": {
        "width_mult": _DefaultFloat(1.0),
        "rounding": _DefaultStr("multiple_of_8"),
        "bottleneck_ratio": None,
    },
}
"""Defaults of the fields whose default depends on the family.

`dataclasses.replace` passes all fields of a config to a new one. The types of these values mark
them as defaults, so that ``replace(config, family="v2")`` takes those of the new family."""


def rounded(channels: int, width_mult: float, rounding: str) -> int:
    """Return the number of channels after the width multiplier; it may be 0.

    Args:
        channels: Channels at a width multiplier of 1.
        width_mult: The width multiplier.
        rounding: ``floor`` truncates, as the V1 paper's and Keras' code; ``nearest`` rounds half to
            even; ``multiple_of_8`` is torchvision's ``_make_divisible`` (models/_utils.py): the
            nearest multiple of 8, at least 8, and the next multiple if that would lose more than
            10 %.

    Examples:
        >>> [rounded(24, 0.35, rounding) for rounding in ROUNDINGS]
        [8, 8, 8]
        >>> [rounded(32, 0.55, rounding) for rounding in ROUNDINGS]
        [17, 18, 16]
    """
    width = width_mult * channels
    if rounding == "floor":
        return int(width)
    if rounding == "nearest":
        return round(width)
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


@dataclass(frozen=True)
class MobileNetConfig(Record):
    """The architecture of one MobileNet.

    Attributes:
        family: ``v1`` (Howard et al., arXiv:1704.04861), ``v1_bottleneck`` (the V1 of the Flux case
            study, whose blocks have a second 1x1 convolution) or ``v2`` (Sandler et al.,
            arXiv:1801.04381).
        width_mult: The width multiplier (alpha in the V1 paper), in (0, 2]. Default 1; 0.1 for
            ``v1_bottleneck``.
        resolution: Height and width in pixels of the images the model is meant for, in [32, 4096];
            224 times rho in the V1 paper. The weights do not depend on it.
        num_classes: Number of classes.
        in_channels: Number of image channels.
        stem_stride: Stride of the first convolution, 2 in the papers. 1 keeps 32x32 images from
            shrinking to one pixel; in ``v2`` the second stage then has stride 1, too.
        rounding: How scaled numbers of channels are rounded, see `rounded`. Default ``floor`` for
            ``v1``, ``nearest`` for ``v1_bottleneck``, ``multiple_of_8`` for ``v2``.
        padding: ``symmetric``, or ``keras``: at stride 2 zeros are added below and to the right
            only.
        bottleneck_ratio: For ``v1_bottleneck``, in (0, 1]: output channels of a block's first 1x1
            convolution divided by its input channels. Default 0.9997. None for the other families.
        activation: ``relu6`` or ``relu``.
        norm_eps: Added to the variance in batch norms.
        norm_momentum: The weight of the new batch in the running statistics, as in PyTorch.
        dropout: The probability of dropping a feature before the classifier, in training.
        softmax: Whether `Model.predict` returns probabilities. Training uses the logits.
        depth_mult: 1; in ``v2`` also 1.2 or 1.4, as timm's ``mobilenetv2_110d`` and ``_120d``: the
            repeats of all stages but the first and the last are multiplied and rounded up, and
            `width_mult` does not apply to the stem and the last 1x1 convolution
            (models/efficientnet.py, ``depth_multiplier`` and ``fix_stem_head``).
        head_conv: Whether ``v1`` has a last 1x1 convolution to 1024 channels, as timm's
            ``mobilenetv1_100h`` (models/efficientnet.py).

    Raises:
        ConfigError: A value is outside its range. The message names field, rule and value.

    Examples:
        >>> from dataclasses import replace
        >>> config = MobileNetConfig("v1", num_classes=100)
        >>> config.rounding, replace(config, family="v2").rounding
        ('floor', 'multiple_of_8')
    """

    family: str = "v1"
    width_mult: float = None  # type: ignore[assignment]  # None: the default of the family
    resolution: int = 224
    num_classes: int = 1000
    in_channels: int = 3
    stem_stride: int = 2
    rounding: str = None  # type: ignore[assignment]
    padding: str = "symmetric"
    bottleneck_ratio: float | None = None
    activation: str = "relu6"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    dropout: float = 0.0
    softmax: bool = False
    depth_mult: float = 1.0
    head_conv: bool = False

    _table = "model"

    def __post_init__(self) -> None:
        self._check_choice("family", FAMILIES)
        for name, default in FAMILY_DEFAULTS[self.family].items():
            value = getattr(self, name)
            if value is None or isinstance(value, (_DefaultFloat, _DefaultStr)):
                object.__setattr__(self, name, default)
        self._check_choice("rounding", ROUNDINGS)
        self._check_choice("padding", PADDINGS)
        self._check_choice("activation", ACTIVATIONS)
        self._set_unless_default("width_mult", 2, "in (0, 2]")
        if rounded(STEM_CHANNELS, self.width_mult, self.rounding) < 1:
            raise ConfigError(
                f"width_mult must leave the {STEM_CHANNELS} channels of the stem at least one, "
                f"with rounding {str(self.rounding)!r}. Received: {self.width_mult!r}"
            )
        self._set_number("resolution", int, 32, 4096, "in [32, 4096] pixels")
        self._set_number("num_classes", int, 1, 10**6, "in [1, 1000000]")
        self._set_number("in_channels", int, 1, 4096, "in [1, 4096]")
        self._set_number("stem_stride", int, 1, 2, "1 or 2")
        self._set_number("norm_eps", float, 1e-12, 1, "in [1e-12, 1]")
        self._set_number("norm_momentum", float, 0, 1, "in [0, 1]")
        self._set_number("dropout", float, 0, 0.999, "in [0, 0.999]")
        self._check_flag("softmax")
        self._set_number("depth_mult", float, 1, 2, DEPTH_RULE)
        if self.depth_mult not in (DEPTHS if self.family == "v2" else (1.0,)):
            raise ConfigError(
                f"depth_mult must be {DEPTH_RULE}. Received: {self.depth_mult!r} with {self.family}"
            )
        self._check_flag("head_conv")
        if self.head_conv and self.family != "v1":
            raise ConfigError(f"head_conv must be false except in v1. Received: {self.family}")
        if self.family == "v1_bottleneck":
            self._set_unless_default("bottleneck_ratio", 1, "in (0, 1]")
        elif self.bottleneck_ratio is not None:
            raise ConfigError(
                "bottleneck_ratio belongs to the family v1_bottleneck alone. "
                f"Received: {self.bottleneck_ratio!r} with {self.family}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, without the defaults of `depth_mult` and `head_conv`.

        Versions without these fields read the files of nets that do not need them.
        """
        fields = super().to_dict()
        later = {"depth_mult": 1.0, "head_conv": False}
        return {n: value for n, value in fields.items() if n not in later or later[n] != value}

    @property
    def is_variant(self) -> bool:
        """Whether the layers are others than those of the family's paper."""
        return self.depth_mult != 1 or self.head_conv

    def _set_unless_default(self, name: str, high: float, rule: str) -> None:
        """Convert and check a positive number, but leave the mark of a default in place."""
        if not isinstance(getattr(self, name), _DefaultFloat):
            self._set_number(name, float, math.ulp(0), high, rule)

    @classmethod
    def from_multipliers(cls, alpha: float, rho: float, **fields: Any) -> Self:
        """Build a config from the V1 paper's two multipliers.

        ``rho * 224`` is rarely a size that the paper used, so the nearest of 224, 192, 160 and 128
        is taken. A warning reports both sizes if they differ.

        Args:
            alpha: The width multiplier, `width_mult`.
            rho: The resolution multiplier, in (0, 1].
            fields: Other fields of the config.

        Returns:
            The config.

        Raises:
            ConfigError: A value is outside its range.

        Examples:
            >>> MobileNetConfig.from_multipliers(0.5, 6 / 7).resolution
            192
        """
        if isinstance(rho, bool) or not isinstance(rho, (int, float)) or not 0 < rho <= 1:
            raise ConfigError(f"rho must be in (0, 1]. Received: {rho!r}")
        exact = rho * 224
        resolution = min(RESOLUTIONS, key=lambda size: abs(size - exact))
        if abs(resolution - exact) > 1e-6:
            warnings.warn(
                f"rho {rho} times 224 is {exact:.2f} pixels; the nearest of "
                f"{', '.join(map(str, RESOLUTIONS))} is used: resolution {resolution}",
                stacklevel=2,
            )
        return cls(width_mult=alpha, resolution=resolution, **fields)
