"""What a MobileNet is and how it is trained, as two frozen, validated dataclasses.

Both go to and from plain dictionaries, JSON (sorted keys, the form stored in weight files) and
TOML (the form people write). Nothing here knows a framework.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pymobilenet.errors import ConfigError
from pymobilenet.strict_json import parse_object

FAMILIES = ("v1", "v1_bottleneck", "v2")
ROUNDINGS = ("floor", "nearest", "multiple_of_8")
PADDINGS = ("symmetric", "keras")
ACTIVATIONS = ("relu6", "relu")
OPTIMIZERS = ("sgd", "adam")
PREPROCESSINGS = ("unit", "standard", "keras")

RESOLUTIONS = (224, 192, 160, 128)
"""The input sizes of Howard et al., arXiv:1704.04861, section 3.4."""

STEM_CHANNELS = 32
"""Channels of the first convolution of every family, before the width multiplier."""

FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "v1": {"width_mult": 1.0, "rounding": "floor", "bottleneck_ratio": None},
    "v1_bottleneck": {"width_mult": 0.1, "rounding": "nearest", "bottleneck_ratio": 0.9997},
    "v2": {"width_mult": 1.0, "rounding": "multiple_of_8", "bottleneck_ratio": None},
}
"""What a field is where nothing is given, for the fields whose default depends on the family."""


def rounded(channels: int, width_mult: float, rounding: str) -> int:
    """`channels` after the width multiplier, by one of `ROUNDINGS`; it may be 0.

    ``floor`` cuts off, as the V1 paper's and Keras' code does; ``nearest`` takes the even one of
    two that are equally near; ``multiple_of_8`` is torchvision's ``_make_divisible``
    (models/_utils.py): the nearest multiple of 8, at least 8, and the next one where that would
    lose more than a tenth.

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


class _Record:
    """Conversions shared by the two configurations; each field's annotation is its type."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def to_json(self) -> str:
        """JSON with sorted keys and no spaces: equal configurations give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from a mapping; unknown names are refused, absent ones take their default."""
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no field {unknown[0]!r}; its fields are "
                f"{', '.join(sorted(known))}"
            )
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            return cls.from_dict(parse_object(text))
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read the table named after the class in lower case (``[model]`` or ``[train]``)."""
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not TOML ({error})") from None
        if not isinstance(document.get(cls._table), dict):
            raise ConfigError(f"{path}: no table [{cls._table}]; it has {sorted(document)}")
        try:
            return cls.from_dict(document[cls._table])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """The table that `from_toml` reads. JSON's strings, numbers and booleans are TOML's too."""
        given = {name: value for name, value in self.to_dict().items() if value is not None}
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        return f"[{self._table}]\n" + "\n".join(lines) + "\n"

    _table = ""

    def _set_number(self, name: str, kind: type, low: float, high: float, rule: str) -> None:
        """Store field `name` as `kind` (int or float), or refuse it with the rule it broke."""
        value = getattr(self, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise ConfigError(f"{name} must be {rule}. Received: {value!r}")
        if kind is int and value != int(value):
            raise ConfigError(f"{name} must be a whole number, {rule}. Received: {value!r}")
        object.__setattr__(self, name, kind(value) + 0)  # -0.0 is 0.0, in the text too

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ConfigError(
                f"{name} must be one of {', '.join(choices)}. Received: {getattr(self, name)!r}"
            )

    def _check_flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise ConfigError(f"{name} must be true or false. Received: {getattr(self, name)!r}")


@dataclass(frozen=True)
class MobileNetConfig(_Record):
    """The architecture of one MobileNet.

    Attributes:
        family: ``v1`` (Howard et al., arXiv:1704.04861), ``v1_bottleneck`` (the Flux case study's
            V1, whose blocks have a second 1x1 convolution) or ``v2`` (Sandler et al.,
            arXiv:1801.04381).
        width_mult: The V1 paper's alpha, in (0, 2]. Default 1, for ``v1_bottleneck`` 0.1.
        resolution: Pixels; the V1 paper's rho times 224: the size of the images the net is meant
            for, a property of the input and of no weight.
        stem_stride: 2 in the papers. 1 keeps 32x32 images from shrinking to one pixel; in ``v2``
            it is the CIFAR form, where the second stage's stride is 1 too.
        rounding: How scaled widths become whole, see `rounded`. Default ``floor`` for ``v1``,
            ``nearest`` for ``v1_bottleneck``, ``multiple_of_8`` for ``v2``.
        padding: Zeros around maps: ``symmetric``, or ``keras``: at stride 2 below and to the right
            only.
        bottleneck_ratio: For ``v1_bottleneck``, in (0, 1]: channels of a block's first 1x1
            convolution over those of its input. Default 0.9997. None for the other families.
        norm_momentum: The weight of the new batch in the running statistics.
        dropout: The probability of dropping a feature before the classifier.
        softmax: `predict` gives probabilities. Training takes the logits all the same.

    Raises:
        ConfigError: A value outside its range; the message names field, rule and value.
    """

    family: str = "v1"
    width_mult: float = None  # type: ignore[assignment]  # by the family, as the other two
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

    _table = "model"

    def __post_init__(self) -> None:
        self._check_choice("family", FAMILIES)
        for name, value in FAMILY_DEFAULTS[self.family].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check_choice("rounding", ROUNDINGS)
        self._check_choice("padding", PADDINGS)
        self._check_choice("activation", ACTIVATIONS)
        self._set_number("width_mult", float, math.ulp(0), 2, "in (0, 2]")
        if rounded(STEM_CHANNELS, self.width_mult, self.rounding) < 1:
            raise ConfigError(
                f"width_mult must leave the {STEM_CHANNELS} channels of the stem at least one, "
                f"with rounding {self.rounding!r}. Received: {self.width_mult!r}"
            )
        self._set_number("resolution", int, 32, 4096, "in [32, 4096] pixels")
        self._set_number("num_classes", int, 1, 10**6, "in [1, 1000000]")
        self._set_number("in_channels", int, 1, 4096, "in [1, 4096]")
        self._set_number("stem_stride", int, 1, 2, "1 or 2")
        self._set_number("norm_eps", float, 1e-12, 1, "in [1e-12, 1]")
        self._set_number("norm_momentum", float, 0, 1, "in [0, 1]")
        self._set_number("dropout", float, 0, 0.999, "in [0, 0.999]")
        self._check_flag("softmax")
        if self.family == "v1_bottleneck":
            self._set_number("bottleneck_ratio", float, math.ulp(0), 1, "in (0, 1]")
        elif self.bottleneck_ratio is not None:
            raise ConfigError(
                "bottleneck_ratio belongs to the family v1_bottleneck alone. "
                f"Received: {self.bottleneck_ratio!r} with {self.family}"
            )

    @classmethod
    def from_multipliers(cls, alpha: float, rho: float, **fields: Any) -> Self:
        """The config for the paper's two multipliers.

        `alpha` becomes `width_mult`. ``rho * 224`` is rarely a size the paper used, so the nearest
        of 224, 192, 160 and 128 is taken, and a warning reports both when they differ.

        >>> MobileNetConfig.from_multipliers(0.5, 6 / 7).resolution
        192
        """
        if isinstance(rho, bool) or not isinstance(rho, (int, float)) or not 0 < rho <= 1:
            raise ConfigError(f"rho must be in (0, 1]. Received: {rho!r}")
        wanted = rho * 224
        resolution = min(RESOLUTIONS, key=lambda size: abs(size - wanted))
        if abs(resolution - wanted) > 1e-6:
            warnings.warn(
                f"rho {rho} times 224 is {wanted:.2f} pixels; the nearest of "
                f"{', '.join(map(str, RESOLUTIONS))} is used: resolution {resolution}",
                stacklevel=2,
            )
        return cls(width_mult=alpha, resolution=resolution, **fields)


@dataclass(frozen=True)
class TrainConfig(_Record):
    """How a model is trained: optimizer, rate, batches, and how images are moved about.

    SGD is ``v = momentum * v + g; p -= rate * v``; Adam is Kingma & Ba, arXiv:1412.6980,
    algorithm 1, with ``eps`` added outside the root. `seed` fixes the order of the images, the
    crops and the flips (see `pymobilenet.data.BatchPlan`). `crop_padding` is in pixels.

    Images are rotated by up to `rotation` degrees either way, lose a square of `cutout` pixels, and
    are mixed in pairs where `mixup` is 1 (the alpha of its Beta distribution; of others there is no
    sampler that every language shares to the bit). `preprocessing` makes numbers of their bytes:
    ``unit`` 0 ... 1, ``keras`` -1 ... 1, ``standard`` by the mean and deviation of the training
    images.
    """

    optimizer: str = "sgd"
    rate: float = 0.1
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    batch_size: int = 128
    steps: int = 200
    seed: int = 0
    crop_padding: int = 4
    flip: bool = True
    rotation: int = 0
    cutout: int = 0
    mixup: float = 0.0
    preprocessing: str = "standard"

    _table = "train"

    def __post_init__(self) -> None:
        self._check_choice("optimizer", OPTIMIZERS)
        self._set_number("rate", float, 0, 1e6, "in [0, 1e6]")
        self._set_number("momentum", float, 0, 1, "in [0, 1]")
        self._set_number("beta1", float, 0, 1 - 1e-12, "in [0, 1)")
        self._set_number("beta2", float, 0, 1 - 1e-12, "in [0, 1)")
        self._set_number("eps", float, 0, 1, "in [0, 1]")
        self._set_number("batch_size", int, 1, 10**7, "at least 1")
        self._set_number("steps", int, 0, 10**9, "at least 0")
        self._set_number("seed", int, 0, 2**63 - 1, "in [0, 2**63)")
        self._set_number("crop_padding", int, 0, 1024, "in [0, 1024] pixels")
        self._check_flag("flip")
        self._set_number("rotation", int, 0, 180, "in [0, 180] degrees")
        self._set_number("cutout", int, 0, 4096, "in [0, 4096] pixels")
        self._set_number("mixup", float, 0, 1, "0 (off) or 1 (uniform weights)")
        if self.mixup not in (0, 1):
            raise ConfigError(
                f"mixup must be 0 (off) or 1 (uniform weights). Received: {self.mixup!r}"
            )
        self._check_choice("preprocessing", PREPROCESSINGS)

    @property
    def slots(self) -> tuple[str, ...]:
        """The moments the optimizer keeps for each parameter, by their names in a weight file.

        SGD without momentum keeps none, and counts no steps.
        """
        if self.optimizer == "sgd":
            return ("momentum",) if self.momentum > 0 else ()
        return ("exp_avg", "exp_avg_sq")
