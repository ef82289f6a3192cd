"""Inference of configs from shapes, for every multiplier and rounding."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymobilenet import MobileNetConfig
from pymobilenet.architecture import layers
from pymobilenet.config import FAMILIES, ROUNDINGS
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats.infer_config import PUBLISHED, infer_config
from pymobilenet.weights import state_shapes

MULTIPLIERS = st.one_of(
    st.sampled_from(PUBLISHED["width_mult"]),
    st.integers(3, 200).map(lambda hundredths: hundredths / 100),
    st.floats(0.03, 2, exclude_min=True),
)


@st.composite
def configs(draw):
    family = draw(st.sampled_from(FAMILIES))
    ratio = draw(st.none() | st.floats(0, 1, exclude_min=True))
    try:
        config = MobileNetConfig(
            family,
            width_mult=draw(MULTIPLIERS),
            rounding=draw(st.sampled_from(ROUNDINGS)),
            num_classes=draw(st.integers(1, 2000)),
            in_channels=draw(st.integers(1, 9)),
            bottleneck_ratio=ratio if family == "v1_bottleneck" else None,
        )
        layers(config)
    except ConfigError:  # no channel left
        return MobileNetConfig(family)
    return config


def inferred(config, rounding=None):
    return infer_config(config.family, state_shapes(config), rounding)


@pytest.mark.slow
@settings(deadline=None, database=None, max_examples=150)
@given(config=configs(), known=st.booleans())
def test_the_config_of_any_net_is_inferred_from_its_shapes(config, known):
    result = inferred(config, config.rounding if known else None)
    assert layers(result) == layers(config)
    assert state_shapes(result) == state_shapes(config)
    if known:
        assert result.rounding == config.rounding


@settings(deadline=None, database=None, max_examples=60)
@given(config=configs())
def test_inferring_an_inferred_config_gives_the_same_config(config):
    once = inferred(config, config.rounding)
    assert inferred(once, config.rounding) == once


@pytest.mark.parametrize("family", ["v1", "v2"])
@pytest.mark.parametrize("width_mult", [1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 1.3])
def test_a_published_multiplier_is_reported_as_published(family, width_mult):
    assert inferred(MobileNetConfig(family, width_mult=width_mult)).width_mult == width_mult


def test_the_case_studys_net_is_reported_as_it_is():
    config = MobileNetConfig("v1_bottleneck", num_classes=10)
    assert inferred(config) == config


@pytest.mark.parametrize(
    ("family", "rounding", "width_mult", "expected"),
    [
        ("v1", "floor", 0.6, 0.6),
        ("v1", "floor", 0.3331, 0.3331),
        ("v1", "floor", 341 / 1024, 0.3331),
        ("v1", "nearest", 0.7, 0.7),
        ("v2", "multiple_of_8", 0.9, 0.9),
        ("v2", "multiple_of_8", 0.013, 0.01),  # all but the head are 8 wide
    ],
)
def test_another_multiplier_is_the_shortest_decimal(family, rounding, width_mult, expected):
    config = MobileNetConfig(family, width_mult=width_mult, rounding=rounding)
    assert inferred(config, rounding).width_mult == expected


@pytest.mark.parametrize("width_mult", [0.3, 0.77, 1.01])
@pytest.mark.parametrize("towards", [0, 2])
def test_a_multiplier_at_the_very_edge_of_a_width_is_not_passed_over(width_mult, towards):
    """int(0.3 * 1024) is 307, and 307 / 1024 is the least float that gives it."""
    edge = int(width_mult * 1024) / 1024
    config = MobileNetConfig(width_mult=math.nextafter(edge, towards))
    assert layers(inferred(config)) == layers(config)


def test_without_a_rule_the_familys_own_is_tried_first():
    assert inferred(MobileNetConfig("v2", rounding="floor")).rounding == "multiple_of_8"
    odd = MobileNetConfig("v2", width_mult=0.7, rounding="nearest")
    assert inferred(odd).rounding == "nearest"


def shapes_with(config, **changes):
    return state_shapes(config) | {name.replace("__", "."): s for name, s in changes.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"blocks__3__pointwise__conv__weight": (250, 128, 1, 1)},
            "blocks.3.pointwise has 250 channels, but 256 or more wherever width_mult gives stem "
            r"its 32 \(rounding floor\)",
        ),
        (
            {"blocks__3__pointwise__conv__weight": (2500, 128, 1, 1)},
            r"blocks.3.pointwise has 2500 channels; width_mult 2.0 gives it only 512",
        ),
        (
            {"stem__norm__bias": (31,)},
            r"stem.norm.bias must have shape \(32,\). Received: \(31,\)",
        ),
        (
            {"blocks__0__depthwise__conv__weight": (32, 2, 3, 3)},
            r"blocks.0.depthwise.conv.weight must have shape \(32, 1, 3, 3\)",
        ),
        ({"classifier__weight": (1000,)}, r"classifier.weight must have 2 axes. Received: "),
        ({"stem__conv__weight": ()}, r"stem.conv.weight must have 4 axes. Received: \(\)"),
        (
            {"stem__conv__weight": (32, 0, 3, 3)},
            r"in_channels must be in \[1, 4096\]. Received: 0",
        ),
    ],
)
def test_shapes_of_no_net_are_refused_by_layer_or_tensor(changes, message):
    with pytest.raises(WeightsError, match=message):
        infer_config("v1", shapes_with(MobileNetConfig(), **changes), "floor")


def test_widths_of_another_rule_are_refused_where_the_rule_is_known():
    config = MobileNetConfig("v2", width_mult=0.7, rounding="nearest")
    with pytest.raises(WeightsError, match=r"stem has 22 channels.*\(rounding multiple_of_8\)"):
        inferred(config, "multiple_of_8")


def test_a_bottleneck_ratio_that_no_block_agrees_on_is_refused():
    config = replace(MobileNetConfig("v1_bottleneck"), width_mult=1.0, bottleneck_ratio=0.5)
    shapes = shapes_with(config, blocks__5__reduce__conv__weight=(100, 256, 1, 1))
    with pytest.raises(WeightsError, match=r"reduce has .* wherever bottleneck_ratio gives"):
        infer_config("v1_bottleneck", shapes)
