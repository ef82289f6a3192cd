"""Layouts of this package, torchvision and timm.

All have PyTorch's axes. Sources: torchvision 0.29, models/mobilenetv2.py; timm 1.0, models/
efficientnet.py (`_gen_mobilenet_v1`, `_gen_mobilenet_v2`) and _efficientnet_blocks.py.
"""

from __future__ import annotations

from pymobilenet.config import MobileNetConfig
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.unit_names import (
    COUNT,
    HALF,
    IMAGENET,
    PYTORCH,
    UnitNames,
    classifier_table,
    counts,
)
from pymobilenet.weights import state_shapes


def _canonical(config: MobileNetConfig) -> dict[str, str]:
    return {name: name for name in state_shapes(config)}


_TORCHVISION = UnitNames(
    stem=("features.0.0", "features.0.1"),
    first={
        "depthwise": ("features.1.conv.0.0", "features.1.conv.0.1"),
        "project": ("features.1.conv.1", "features.1.conv.2"),
    },
    blocks={
        "expand": ("features.{n}.conv.0.0", "features.{n}.conv.0.1"),
        "depthwise": ("features.{n}.conv.1.0", "features.{n}.conv.1.1"),
        "project": ("features.{n}.conv.2", "features.{n}.conv.3"),
    },
    head=("features.18.0", "features.18.1"),
)

_TIMM_SEPARABLE = {
    "depthwise": ("blocks.{s}.{r}.conv_dw", "blocks.{s}.{r}.bn1"),
    "pointwise": ("blocks.{s}.{r}.conv_pw", "blocks.{s}.{r}.bn2"),
    "project": ("blocks.{s}.{r}.conv_pw", "blocks.{s}.{r}.bn2"),
}
_TIMM_INVERTED = {
    "expand": ("blocks.{s}.{r}.conv_pw", "blocks.{s}.{r}.bn1"),
    "depthwise": ("blocks.{s}.{r}.conv_dw", "blocks.{s}.{r}.bn2"),
    "project": ("blocks.{s}.{r}.conv_pwl", "blocks.{s}.{r}.bn3"),
}
_TIMM = {
    "v1": UnitNames(
        stem=("conv_stem", "bn1"),
        first=_TIMM_SEPARABLE,
        blocks=_TIMM_SEPARABLE,
        head=("conv_head", "bn2"),
    ),
    "v2": UnitNames(
        stem=("conv_stem", "bn1"),
        first=_TIMM_SEPARABLE,
        blocks=_TIMM_INVERTED,
        head=("conv_head", "bn2"),
    ),
}

CANONICAL = Layout(
    name="canonical",
    families=("v1", "v1_bottleneck", "v2"),
    fixed={},
    rename=_canonical,
    has_variants=True,
)

FLUX_STATE = Layout(
    name="flux",
    families=("v1", "v1_bottleneck", "v2"),
    # Metalhead.jl, convnets/builders/mobilenet.jl, and Flux's BatchNorm
    fixed={
        "stem_stride": 2,
        "padding": "symmetric",
        "activation": "relu6",
        "norm_eps": 1e-5,
        "norm_momentum": 0.1,
    },
    rename=_canonical,
    has_variants=True,
    source="Metalhead",
)
"""A state of Flux or Lux, whose layers MobileNets.jl has given canonical names."""

_TORCHVISION_FIXED = {
    "stem_stride": 2,  # models/mobilenetv2.py, MobileNetV2.__init__: features[0]
    "rounding": "multiple_of_8",  # the same, round_nearest; models/_utils.py, _make_divisible
    "padding": "symmetric",  # ops/misc.py, ConvNormActivation: (kernel_size - 1) // 2
    "activation": "relu6",  # models/mobilenetv2.py: activation_layer=nn.ReLU6
    **PYTORCH,  # the same, norm_layer=nn.BatchNorm2d
    "dropout": 0.2,  # the same, dropout: float = 0.2
    "softmax": False,
}

TORCHVISION = Layout(
    name="torchvision",
    families=("v2",),
    fixed=_TORCHVISION_FIXED,
    rename=classifier_table({"v2": _TORCHVISION}, "classifier.1"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts({"v2": _TORCHVISION}),
    images={"v2": IMAGENET},
    source="torchvision",
    namesakes="nets for CIFAR, as those of chenyaofo, have the same names and stem_stride 1",
    namesake_classes=(10, 100),
)

CHENYAOFO = Layout(
    name="chenyaofo",
    families=("v2",),
    # pytorch_cifar_models/mobilenetv2.py: the stem's and the second stage's stride are 1
    fixed=_TORCHVISION_FIXED | {"stem_stride": 1, "resolution": 32},
    rename=classifier_table({"v2": _TORCHVISION}, "classifier.1"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts({"v2": _TORCHVISION}),
    source="chenyaofo/pytorch-cifar-models",
    shared_names=True,
)

TIMM = Layout(
    name="timm",
    families=("v1", "v2"),
    fixed={
        "stem_stride": 2,  # models/efficientnet.py, EfficientNet.__init__: conv_stem
        "rounding": "multiple_of_8",  # models/_efficientnet_builder.py, round_channels
        "padding": "symmetric",  # layers/padding.py, get_padding, with pad_type=""
        "activation": "relu6",  # models/efficientnet.py, _gen_mobilenet_v1 and _v2: act_layer
        **PYTORCH,  # _efficientnet_builder.py, resolve_bn_args
        "dropout": 0.0,  # models/efficientnet.py, EfficientNet.__init__: drop_rate
        "softmax": False,
    },
    rename=classifier_table(_TIMM, "classifier"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_TIMM),
    # models/efficientnet.py, default_cfgs: IMAGENET_INCEPTION_MEAN for mobilenetv1_100 and _125
    images={"v1": HALF, "v2": IMAGENET},
    source="timm",
    has_variants=True,
)
