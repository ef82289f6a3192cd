"""The architecture against the paper's table and the published counts."""

import doctest

import paper
import pytest

from pymobilenet import MobileNetConfig, backends
from pymobilenet.architecture import (
    Layer,
    activation_names,
    families,
    feature_channels,
    last_map_size,
    layers,
    mult_adds,
    num_params,
    parameter_shapes,
    scaled,
    shapes,
    statistic_shapes,
)
from pymobilenet.config import model
from pymobilenet.errors import ConfigError

# Table 6 of the paper: 4.2M/569M, 2.6/325, 1.3/149, 0.5/41
WIDTHS = [
    (1, 4_231_976, 568_740_352),
    (0.75, 2_585_560, 325_400_448),
    (0.5, 1_331_592, 149_497_088),
    (0.25, 470_072, 41_030_272),
]


@pytest.mark.parametrize(("width_mult", "parameters", "operations"), WIDTHS)
def test_published_counts_of_every_width(width_mult, parameters, operations):
    cfg = MobileNetConfig(width_mult=width_mult)
    assert (num_params(cfg), mult_adds(cfg)) == (parameters, operations)


@pytest.mark.parametrize(
    ("resolution", "operations"), [(192, 418_121_728), (160, 290_675_200), (128, 186_400_768)]
)
def test_published_counts_of_every_resolution(resolution, operations):
    cfg = MobileNetConfig(resolution=resolution)
    assert mult_adds(cfg) == mult_adds(MobileNetConfig(), (resolution, resolution)) == operations
    assert num_params(cfg) == 4_231_976


@pytest.mark.parametrize(("stem_stride", "last"), [(2, (1, 1)), (1, (2, 2))])
def test_published_counts_for_100_classes_at_32_pixels(stem_stride, last):
    cfg = MobileNetConfig(resolution=32, num_classes=100, stem_stride=stem_stride)
    assert num_params(cfg) == 3_309_476
    if stem_stride == 2:
        assert mult_adds(cfg) == 11_688_448
    else:
        assert f"{mult_adds(cfg) / 1e6:.2f}" == "46.45"
    assert last_map_size(cfg, 32, 32) == last


def test_multiply_adds_are_counted_with_rows_and_columns_of_each_layer():
    height, width, expected = 33, 100, 10 * 1024
    for kind, stride, inputs, outputs, _ in paper.TABLE:
        height, width = -(-height // stride), -(-width // stride)
        per_value = {"conv": 9 * inputs, "dw": 9, "pw": inputs}[kind]
        expected += height * width * outputs * per_value
    assert mult_adds(MobileNetConfig(num_classes=10), (33, 100)) == expected


def test_the_layers_are_the_rows_of_the_papers_table():
    rows, strides = [], []
    size = 224
    for layer in layers(MobileNetConfig()):
        kind = "pw" if layer.kernel == 1 else "dw" if layer.groups > 1 else "conv"
        rows.append((kind, layer.in_channels, layer.out_channels, size))
        strides.append(layer.stride)
        size = layer.output_size(size)
    assert rows == [(kind, i, o, size) for kind, _, i, o, size in paper.TABLE]
    printed = [stride for _, stride, *_ in paper.TABLE]
    assert strides == printed
    assert len(rows) + 1 == 28  # with the classifier, as the paper counts
    assert size == 7
    assert last_map_size(MobileNetConfig(), 224, 192) == (7, 6)


@pytest.mark.parametrize("width_mult", [2, 1, 0.75, 0.3, 0.1, 1 / 32])
def test_names_and_shapes_of_parameters_follow_the_table(width_mult):
    cfg = MobileNetConfig(width_mult=width_mult, num_classes=7, in_channels=5)
    assert list(parameter_shapes(cfg).items()) == paper.shapes(width_mult, 7, in_channels=5)


def test_running_statistics_have_one_value_per_channel():
    cfg = MobileNetConfig(width_mult=0.25)
    parameters, statistics = parameter_shapes(cfg), statistic_shapes(cfg)
    assert list(statistics)[:2] == ["stem.norm.running_mean", "stem.norm.running_var"]
    assert len(statistics) == 2 * 27
    for name, shape in statistics.items():
        assert (
            shape == parameters[name.replace("running_mean", "bias").replace("running_var", "bias")]
        )


def test_activations_are_named_by_module_in_forward_order():
    names = activation_names(MobileNetConfig())
    assert names[:4] == ("stem.conv", "stem.norm", "stem.act", "blocks.0.depthwise.conv")
    assert names[-3:] == ("blocks.12.pointwise.act", "pool", "logits")
    assert len(set(names)) == len(names) == 3 * 27 + 2


def test_the_classifier_reads_the_last_feature_maps():
    assert feature_channels(MobileNetConfig(width_mult=0.3)) == 307


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_size_is_the_number_of_kernel_positions(kernel, stride):
    for before, after in ((kernel // 2, kernel // 2), (0, kernel // 2)):
        layer = Layer("any", 1, 1, kernel, stride, (before, after), 1)
        for size in range(2, 40):
            positions = range(-before, size + after - kernel + 1, stride)
            assert layer.output_size(size) == len(positions)


@pytest.mark.parametrize(
    ("channels", "width_mult", "width"),
    [(32, 0.7, 22), (1024, 0.3, 307), (64, 0.999, 63), (3, 1, 3)],
)
def test_widths_of_v1_are_truncated(channels, width_mult, width):
    assert scaled(channels, MobileNetConfig(width_mult=width_mult)) == width


@pytest.mark.parametrize(
    ("rounding", "channels", "width_mult", "width"),
    [
        ("nearest", 1024, 0.3, 307),
        ("nearest", 64, 0.999, 64),
        ("nearest", 5, 0.5, 2),
        ("nearest", 7, 0.5, 4),
        ("multiple_of_8", 24, 0.35, 8),
        ("multiple_of_8", 160, 0.35, 56),
        ("multiple_of_8", 32, 0.35, 16),  # 11.2 would lose more than a tenth at 8
        ("multiple_of_8", 96, 0.75, 72),
        ("multiple_of_8", 3, 0.1, 8),
    ],
)
def test_widths_of_the_other_roundings(rounding, channels, width_mult, width):
    config = MobileNetConfig(width_mult=width_mult, rounding=rounding)
    assert scaled(channels, config) == width


def test_a_layer_without_channels_is_refused():
    with pytest.raises(ConfigError, match=r"width_mult 0\.04 leaves none of 12 channels"):
        scaled(12, MobileNetConfig(width_mult=0.04))


@pytest.mark.parametrize("module", [model, families, shapes, backends], ids=lambda m: m.__name__)
def test_examples_in_docstrings_run(module):
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0
