"""The other families: published counts, names, shapes, residuals, padding."""

import copy
import math
import pickle
from dataclasses import replace
from itertools import groupby

import pytest

from pymobilenet import MobileNetConfig
from pymobilenet.architecture import (
    activation_names,
    feature_channels,
    last_map_size,
    layers,
    mult_adds,
    num_params,
    parameter_shapes,
)
from pymobilenet.errors import ConfigError


def blocks(config):
    """The units of each block, by role."""
    grouped = groupby(layers(config), key=lambda layer: layer.block)
    return [
        {unit.role: unit for unit in units} for name, units in grouped if name.startswith("blocks")
    ]


# torchvision's model card (mobilenet_v2: 3,504,872) and the same with 100 classes
@pytest.mark.parametrize(("classes", "parameters"), [(1000, 3_504_872), (100, 2_351_972)])
def test_published_parameters_of_v2(classes, parameters):
    assert num_params(MobileNetConfig("v2", num_classes=classes)) == parameters


# timm 1.0.31, mobilenetv2_110d and mobilenetv2_120d
@pytest.mark.parametrize(
    ("width_mult", "depth_mult", "parameters"), [(1.1, 1.2, 4_516_520), (1.2, 1.4, 5_831_144)]
)
def test_parameters_of_timms_deeper_nets(width_mult, depth_mult, parameters):
    assert num_params(MobileNetConfig("v2", width_mult, depth_mult=depth_mult)) == parameters


# chenyaofo/pytorch-cifar-models, README, CIFAR-100: millions of parameters and of multiply-adds
@pytest.mark.parametrize(
    ("width_mult", "parameters", "operations"),
    [
        (0.5, "0.82", "28.08"),
        (0.75, "1.48", "59.43"),
        (1.0, "2.35", "88.09"),
        (1.4, "4.50", "170.23"),
    ],
)
def test_published_counts_of_v2_in_its_cifar_form(width_mult, parameters, operations):
    cfg = MobileNetConfig("v2", width_mult, resolution=32, num_classes=100, stem_stride=1)
    assert f"{num_params(cfg) / 1e6:.2f}" == parameters
    assert f"{mult_adds(cfg) / 1e6:.2f}" == operations


def test_v2_equals_the_papers_table():
    """Sandler et al., table 2: input size, t, c, n and s of each row."""
    table = [
        (112, 1, 16, 1, 1),
        (112, 6, 24, 2, 2),
        (56, 6, 32, 3, 2),
        (28, 6, 64, 4, 2),
        (14, 6, 96, 3, 1),
        (14, 6, 160, 3, 2),
        (7, 6, 320, 1, 1),
    ]
    v2_blocks = blocks(MobileNetConfig("v2"))
    expected, size, width = [], 112, 32
    for printed, expansion, channels, repeats, stride in table:
        assert size == printed
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            expected.append((width, expansion * width, channels, step))
            width, size = channels, size // step
    rows = [
        (
            next(iter(block.values())).in_channels,
            block["depthwise"].out_channels,
            block["project"].out_channels,
            block["depthwise"].stride,
        )
        for block in v2_blocks
    ]
    assert rows == expected
    assert "expand" not in v2_blocks[0]
    assert all("expand" in block for block in v2_blocks[1:])


def test_only_the_last_layer_of_a_v2_block_is_linear():
    for layer in layers(MobileNetConfig("v2")):
        assert layer.activation == (layer.role != "project")


@pytest.mark.parametrize("width_mult", [0.35, 1.0, 1.4])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_residuals_are_where_shapes_allow_and_nowhere_else(width_mult, stem_stride):
    config = MobileNetConfig("v2", width_mult, stem_stride=stem_stride)
    for block in blocks(config):
        first, last = next(iter(block.values())), block["project"]
        fits = first.in_channels == last.out_channels and block["depthwise"].stride == 1
        assert last.residual == fits
        assert not any(unit.residual for role, unit in block.items() if role != "project")
    residuals = [block["project"].residual for block in blocks(MobileNetConfig("v2"))]
    assert sum(residuals) == 10  # 17 blocks, 7 of which start a stage


def test_the_cifar_form_of_v2_keeps_the_second_stages_size():
    wide, narrow = MobileNetConfig("v2", stem_stride=1), MobileNetConfig("v2")
    strides = [[block["depthwise"].stride for block in blocks(c)] for c in (wide, narrow)]
    assert strides[0] == [1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    assert strides[1] == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    assert last_map_size(wide, 32, 32) == (4, 4)
    assert last_map_size(narrow, 224, 224) == (7, 7)


@pytest.mark.parametrize(
    ("width_mult", "head"), [(0.35, 1280), (0.75, 1280), (1.0, 1280), (1.4, 1792), (2, 2560)]
)
def test_the_head_of_v2_is_never_narrower_than_1280(width_mult, head):
    assert feature_channels(MobileNetConfig("v2", width_mult)) == head


def test_the_bottleneck_family_has_twelve_blocks_of_three_convolutions():
    config = MobileNetConfig("v1_bottleneck", 1.0)
    v1_blocks = blocks(config)
    assert len(v1_blocks) == 12
    assert [list(block) for block in v1_blocks] == [["depthwise", "reduce", "pointwise"]] * 12
    outs = [block["pointwise"].out_channels for block in v1_blocks]
    assert outs == [64, 128, 128, 256, 256, *[512] * 5, 1024, 1024]
    strides = [block["depthwise"].stride for block in v1_blocks]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 2, 1]
    for block in v1_blocks:
        width = block["reduce"].in_channels
        assert block["reduce"].out_channels == round(0.9997 * width)
    assert v1_blocks[-1]["reduce"].out_channels == 1024
    halved = MobileNetConfig("v1_bottleneck", 1.0, bottleneck_ratio=0.5)
    assert blocks(halved)[0]["reduce"].out_channels == 16


def test_defaults_follow_the_family():
    small, second = MobileNetConfig("v1_bottleneck"), MobileNetConfig("v2")
    assert (small.width_mult, small.rounding, small.bottleneck_ratio) == (0.1, "nearest", 0.9997)
    assert (second.width_mult, second.rounding) == (1.0, "multiple_of_8")
    for config in (small, second, MobileNetConfig()):
        assert MobileNetConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("first", ["v1", "v1_bottleneck", "v2"])
@pytest.mark.parametrize("second", ["v1", "v1_bottleneck", "v2"])
def test_replacing_the_family_replaces_its_defaults_only(first, second):
    replaced = replace(MobileNetConfig(first, num_classes=7), family=second)
    assert replaced == MobileNetConfig(second, num_classes=7)
    assert replaced.to_json() == MobileNetConfig(second, num_classes=7).to_json()
    assert replace(replaced, family=first) == MobileNetConfig(first, num_classes=7)
    chosen = replace(MobileNetConfig(first, 0.5, rounding="nearest"), family=second)
    assert chosen == MobileNetConfig(second, 0.5, rounding="nearest")
    assert replace(replaced, rounding="floor").rounding == "floor"
    copied = pickle.loads(pickle.dumps(MobileNetConfig(first)))
    assert replace(copy.deepcopy(copied), family=second) == MobileNetConfig(second)


def test_a_bottleneck_ratio_of_another_family_is_an_error():
    with pytest.raises(ConfigError, match=r"bottleneck_ratio belongs to.*Received: 0\.5 with v1"):
        replace(MobileNetConfig("v1_bottleneck", bottleneck_ratio=0.5), family="v1")


@pytest.mark.parametrize("family", ["v1", "v1_bottleneck", "v2"])
def test_keras_pads_below_and_to_the_right_at_stride_two(family):
    for layer in layers(MobileNetConfig(family, padding="keras")):
        expected = (0, 0) if layer.kernel == 1 else (0, 1) if layer.stride == 2 else (1, 1)
        assert layer.padding == expected


@pytest.mark.parametrize("family", ["v1", "v1_bottleneck", "v2"])
def test_names_are_unique_and_activations_follow_the_units(family):
    config = MobileNetConfig(family, softmax=True)
    names = activation_names(config)
    assert len(set(names)) == len(names)
    assert names[-3:] == ("pool", "logits", "probabilities")
    assert sum(math.prod(s) for s in parameter_shapes(config).values()) == num_params(config)
    linear = {f"{layer.name}.act" for layer in layers(config) if not layer.activation}
    assert not linear & set(names)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounding": "up"}, "rounding must be one of floor, nearest, multiple_of_8"),
        ({"padding": "same"}, "padding must be one of symmetric, keras"),
        ({"softmax": 1}, "softmax must be true or false. Received: 1"),
        (
            {"bottleneck_ratio": 0.5},
            "bottleneck_ratio belongs to the family v1_bottleneck",
        ),
        (
            {"family": "v1_bottleneck", "bottleneck_ratio": 1.5},
            r"bottleneck_ratio must be in \(0, 1",
        ),
        ({"family": "v1_bottleneck", "width_mult": 0.01}, "width_mult must leave the 32 channels"),
        ({"family": "v3"}, "family must be one of v1, v1_bottleneck, v2"),
    ],
)
def test_fields_that_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        MobileNetConfig(**fields)
