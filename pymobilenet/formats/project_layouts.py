"""Layouts of MobileNets in repositories that are often used.

Sources; settings that tensors do not show are the defaults of the repositories:

- kuangliu/pytorch-cifar, models/mobilenet.py; mean and deviation: main.py
- weiaicunzai/pytorch-cifar100, models/mobilenet.py; mean and deviation: conf/global_settings.py
- marvis/pytorch-mobilenet, main.py
- tonylins/pytorch-mobilenet-v2, MobileNetV2.py
- d-li14/mobilenetv2.pytorch, models/imagenet/mobilenetv2.py
- huggingface/transformers, models/mobilenet_v1 and mobilenet_v2: modeling_*.py and
  image_processing_*.py
"""

from __future__ import annotations

from pymobilenet.formats.layout import Layout
from pymobilenet.formats.unit_names import (
    COUNT,
    HALF,
    IMAGENET,
    PYTORCH,
    UnitNames,
    classifier_table,
    counts,
    scaled_by,
)

_RELU = {"padding": "symmetric", "activation": "relu", "softmax": False, **PYTORCH}
_RELU6 = {"padding": "symmetric", "activation": "relu6", "softmax": False, **PYTORCH}

_CIFAR10 = scaled_by((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100 = scaled_by(
    (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
    (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
)

_KUANGLIU_BLOCK = {
    "depthwise": ("layers.{i}.conv1", "layers.{i}.bn1"),
    "pointwise": ("layers.{i}.conv2", "layers.{i}.bn2"),
}
_KUANGLIU = {"v1": UnitNames(("conv1", "bn1"), _KUANGLIU_BLOCK, _KUANGLIU_BLOCK)}

KUANGLIU = Layout(
    name="kuangliu",
    families=("v1",),
    fixed=_RELU | {"stem_stride": 1, "rounding": "floor", "resolution": 32},
    rename=classifier_table(_KUANGLIU, "linear"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_KUANGLIU),
    images={"v1": _CIFAR10},
    source="kuangliu/pytorch-cifar",
    hint="its MobileNetV2 has a convolution in the shortcuts and is not supported",
)

_WEIAICUNZAI = {
    "v1": UnitNames(
        stem=("stem.0.conv", "stem.0.bn"),
        first={
            "depthwise": ("stem.1.depthwise.0", "stem.1.depthwise.1"),
            "pointwise": ("stem.1.pointwise.0", "stem.1.pointwise.1"),
        },
        blocks={
            "depthwise": ("conv{s}.{r}.depthwise.0", "conv{s}.{r}.depthwise.1"),
            "pointwise": ("conv{s}.{r}.pointwise.0", "conv{s}.{r}.pointwise.1"),
        },
        biased=("pointwise",),
    )
}

WEIAICUNZAI = Layout(
    name="weiaicunzai",
    families=("v1",),
    fixed=_RELU | {"stem_stride": 1, "rounding": "floor", "resolution": 32},
    rename=classifier_table(_WEIAICUNZAI, "fc"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_WEIAICUNZAI),
    images={"v1": _CIFAR100},
    source="weiaicunzai/pytorch-cifar100",
)

_MARVIS_BLOCK = {
    "depthwise": ("model.{n}.0", "model.{n}.1"),
    "pointwise": ("model.{n}.3", "model.{n}.4"),
}
_MARVIS = {"v1": UnitNames(("model.0.0", "model.0.1"), _MARVIS_BLOCK, _MARVIS_BLOCK)}

MARVIS = Layout(
    name="marvis",
    families=("v1",),
    fixed=_RELU | {"stem_stride": 2, "rounding": "floor"},
    rename=classifier_table(_MARVIS, "fc"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_MARVIS),
    images={"v1": IMAGENET},
    source="marvis/pytorch-mobilenet",
    needs_prefix=True,
)

_FLAT_FIRST = {
    "depthwise": ("features.1.conv.0", "features.1.conv.1"),
    "project": ("features.1.conv.3", "features.1.conv.4"),
}
_FLAT = {
    "expand": ("features.{n}.conv.0", "features.{n}.conv.1"),
    "depthwise": ("features.{n}.conv.3", "features.{n}.conv.4"),
    "project": ("features.{n}.conv.6", "features.{n}.conv.7"),
}
_STEM = ("features.0.0", "features.0.1")
_TONYLINS = {"v2": UnitNames(_STEM, _FLAT_FIRST, _FLAT, ("features.18.0", "features.18.1"))}
_D_LI14 = {"v2": UnitNames(_STEM, _FLAT_FIRST, _FLAT, ("conv.0", "conv.1"))}

TONYLINS = Layout(
    name="tonylins",
    families=("v2",),
    fixed=_RELU6 | {"stem_stride": 2},
    rename=classifier_table(_TONYLINS, "classifier"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_TONYLINS),
    classifiers=("classifier.1",),
    images={"v2": IMAGENET},
    source="tonylins/pytorch-mobilenet-v2",
)

D_LI14 = Layout(
    name="d-li14",
    families=("v2",),
    fixed=_RELU6 | {"stem_stride": 2, "rounding": "multiple_of_8"},
    rename=classifier_table(_D_LI14, "classifier"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_D_LI14),
    images={"v2": IMAGENET},
    source="d-li14/mobilenetv2.pytorch",
)


def _hf(name: str) -> tuple[str, str]:
    return f"{name}.convolution", f"{name}.normalization"


_HF_V1_BLOCK = {
    "depthwise": _hf("mobilenet_v1.layer.{a}"),
    "pointwise": _hf("mobilenet_v1.layer.{b}"),
}
_HF = {
    "v1": UnitNames(_hf("mobilenet_v1.conv_stem"), _HF_V1_BLOCK, _HF_V1_BLOCK),
    "v2": UnitNames(
        stem=_hf("mobilenet_v2.conv_stem.first_conv"),
        first={
            "depthwise": _hf("mobilenet_v2.conv_stem.conv_3x3"),
            "project": _hf("mobilenet_v2.conv_stem.reduce_1x1"),
        },
        blocks={
            "expand": _hf("mobilenet_v2.layer.{m}.expand_1x1"),
            "depthwise": _hf("mobilenet_v2.layer.{m}.conv_3x3"),
            "project": _hf("mobilenet_v2.layer.{m}.reduce_1x1"),
        },
        head=_hf("mobilenet_v2.conv_1x1"),
    ),
}
_HF_FIXED = {
    "stem_stride": 2,
    "padding": "keras",  # apply_tf_padding, at even sizes
    "activation": "relu6",
    "norm_eps": 1e-3,
    "softmax": False,
}

HUGGINGFACE_V1 = Layout(
    name="huggingface",
    families=("v1",),
    fixed=_HF_FIXED | {"rounding": "floor"},
    rename=classifier_table(_HF, "classifier"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_HF),
    images={"v1": HALF},
    source="transformers",
)

HUGGINGFACE_V2 = Layout(
    name="huggingface",
    families=("v2",),
    fixed=_HF_FIXED | {"rounding": "multiple_of_8"},
    rename=classifier_table(_HF, "classifier"),
    ignored=rf".*\.{COUNT}",
    extra_tensors=counts(_HF),
    images={"v2": HALF},
    source="transformers",
)

LAYOUTS = (KUANGLIU, WEIAICUNZAI, MARVIS, TONYLINS, D_LI14, HUGGINGFACE_V1, HUGGINGFACE_V2)
