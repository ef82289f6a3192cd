"""This project's own names, and those of torchvision's and timm's MobileNets.

All have PyTorch's axes. Sources: torchvision 0.29, models/mobilenetv2.py; timm 1.0, models/
efficientnet.py (`_gen_mobilenet_v1`, `_gen_mobilenet_v2`) and _efficientnet_blocks.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pymobilenet.architecture import V1, V2, Layer, layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.formats.layout import Layout
from pymobilenet.weights import state_shapes

NORM = ("weight", "bias", "running_mean", "running_var")
"""The names of a norm's tensors, in the order of a module's state dict, here as in PyTorch."""

COUNT = "num_batches_tracked"
"""What PyTorch's norms count, an int64 scalar; it is read only where their momentum is None."""


def _canonical(config: MobileNetConfig) -> dict[str, str]:
    return {name: name for name in state_shapes(config)}


def _torchvision_unit(config: MobileNetConfig, unit: Layer) -> tuple[str, str]:
    """torchvision's names of a unit's convolution and of its norm."""
    if unit.role in ("stem", "head"):
        group = "features.0" if unit.role == "stem" else f"features.{_blocks(config) + 1}"
        return f"{group}.0", f"{group}.1"
    index = _index(unit)
    parts = ["depthwise", "project"] if index == 0 else ["expand", "depthwise", "project"]
    place = parts.index(unit.role)
    group = f"features.{index + 1}.conv"
    if unit.role == "project":  # a Conv2d and a BatchNorm2d, where the others are a Sequential each
        return f"{group}.{place}", f"{group}.{place + 1}"
    return f"{group}.{place}.0", f"{group}.{place}.1"


def _timm_unit(config: MobileNetConfig, unit: Layer) -> tuple[str, str]:
    """timm's names of a unit's convolution and of its norm."""
    if unit.role in ("stem", "head"):
        return ("conv_stem", "bn1") if unit.role == "stem" else ("conv_head", "bn2")
    repeats = [stage.repeats for stage in (V1 if config.family == "v1" else V2)]
    places = [(stage, repeat) for stage, count in enumerate(repeats) for repeat in range(count)]
    stage, repeat = places[_index(unit)]
    separable = config.family == "v1" or stage == 0  # DepthwiseSeparableConv, InvertedResidual
    conv, norm = (_TIMM_SEPARABLE if separable else _TIMM_INVERTED)[unit.role]
    return f"blocks.{stage}.{repeat}.{conv}", f"blocks.{stage}.{repeat}.{norm}"


_TIMM_SEPARABLE = {
    "depthwise": ("conv_dw", "bn1"),
    "pointwise": ("conv_pw", "bn2"),
    "project": ("conv_pw", "bn2"),
}
_TIMM_INVERTED = {
    "expand": ("conv_pw", "bn1"),
    "depthwise": ("conv_dw", "bn2"),
    "project": ("conv_pwl", "bn3"),
}


def _index(unit: Layer) -> int:
    return int(unit.block.removeprefix("blocks."))


def _blocks(config: MobileNetConfig) -> int:
    return len({unit.block for unit in layers(config)} - {"stem", "head"})


UnitNames = Callable[[MobileNetConfig, Layer], tuple[str, str]]


def _renamer(unit_names: UnitNames, classifier: str) -> Callable[[MobileNetConfig], dict[str, str]]:
    def rename(config: MobileNetConfig) -> dict[str, str]:
        names: dict[str, str] = {}
        for unit in layers(config):
            conv, norm = unit_names(config, unit)
            names[f"{unit.name}.conv.weight"] = f"{conv}.weight"
            names |= {f"{unit.name}.norm.{part}": f"{norm}.{part}" for part in NORM}
        names |= {f"classifier.{part}": f"{classifier}.{part}" for part in ("weight", "bias")}
        return names

    return rename


def _counts(unit_names: UnitNames) -> Callable[[MobileNetConfig], dict[str, np.ndarray]]:
    def besides(config: MobileNetConfig) -> dict[str, np.ndarray]:
        norms = [unit_names(config, unit)[1] for unit in layers(config)]
        return {f"{norm}.{COUNT}": np.zeros((), np.int64) for norm in norms}

    return besides


CANONICAL = Layout(
    name="canonical", families=("v1", "v1_bottleneck", "v2"), fixed={}, rename=_canonical
)

TORCHVISION = Layout(
    name="torchvision",
    families=("v2",),
    fixed={
        "stem_stride": 2,  # models/mobilenetv2.py, MobileNetV2.__init__: features[0]
        "rounding": "multiple_of_8",  # the same, round_nearest; models/_utils.py, _make_divisible
        "padding": "symmetric",  # ops/misc.py, ConvNormActivation: (kernel_size - 1) // 2
        "activation": "relu6",  # models/mobilenetv2.py: activation_layer=nn.ReLU6
        "norm_eps": 1e-5,  # the same, norm_layer=nn.BatchNorm2d: torch's defaults
        "norm_momentum": 0.1,
        "dropout": 0.2,  # the same, dropout: float = 0.2
        "softmax": False,
    },
    rename=_renamer(_torchvision_unit, "classifier.1"),
    ignored=rf".*\.{COUNT}",
    besides=_counts(_torchvision_unit),
)

TIMM = Layout(
    name="timm",
    families=("v1", "v2"),
    fixed={
        "stem_stride": 2,  # models/efficientnet.py, EfficientNet.__init__: conv_stem
        "rounding": "multiple_of_8",  # models/_efficientnet_builder.py, round_channels
        "padding": "symmetric",  # layers/padding.py, get_padding, with pad_type=""
        "activation": "relu6",  # models/efficientnet.py, _gen_mobilenet_v1 and _v2: act_layer
        "norm_eps": 1e-5,  # _efficientnet_builder.py, resolve_bn_args: torch's defaults
        "norm_momentum": 0.1,
        "dropout": 0.0,  # models/efficientnet.py, EfficientNet.__init__: drop_rate
        "softmax": False,
    },
    rename=_renamer(_timm_unit, "classifier"),
    ignored=rf".*\.{COUNT}",
    besides=_counts(_timm_unit),
    hint="timm's mobilenetv2_110d and mobilenetv2_120d (deeper, the stem and the head of width 1) "
    "and mobilenetv1_100h (a head after the blocks) are other nets than these families have",
)
