"""Every planted fault is caught, located and diagnosed; a correct pair is not accused."""

import pytest
import torch
from diff.nets import FAULTS, Net, images
from torch import nn

from pymobilenet.parity import compare
from pymobilenet.parity.diff import participant
from pymobilenet.weights.perturb import distance


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_caught_located_and_diagnosed(fault):
    report = compare(Net(), fault.net(), inputs=images())
    assert not report.passed
    faults = report.comparisons[0].faults
    layers = [layer.name for each in faults for layer in (each.first, each.second) if layer]
    assert any(name.partition(".")[0] == fault.layer for name in layers), str(report)
    assert faults[0].name == fault.difference, str(report)


def test_several_faults_are_all_listed():
    net = Net()
    net.stem_norm.eps = 1e-3
    net.stem_act = nn.ReLU()
    with torch.no_grad():
        net.up.weight.copy_(net.up.weight.flip(2, 3).clone())
    faults = compare(Net(), net, inputs=images()).comparisons[0].faults
    assert [each.name for each in faults] == ["eps of a norm", "activation function", "kernel flip"]


def test_a_layer_behind_a_fault_is_not_accused():
    net = Net()
    net.stem_norm.eps = 1e-3
    comparison = compare(Net(), net, inputs=images()).comparisons[0]
    assert len(comparison.faults) == 1
    assert comparison.first_divergence.first.name == "stem_norm"
    later = [row for row in comparison.rows if row.ratio > 30]
    assert len(later) > 5


def test_functions_that_these_inputs_do_not_tell_apart_are_named():
    net = Net()
    net.stem_act = nn.ReLU()
    report = compare(Net(), net, inputs=images() / 1e3)
    assert report.comparisons[0].output_error == 0
    assert not report.passed
    assert "these inputs do not show the difference" in str(report)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_net_in_another_memory_format_agrees(seed):
    report = compare(Net(), Net().to(memory_format=torch.channels_last), inputs=images(seed=seed))
    assert report.passed, str(report)
    assert not report.comparisons[0].faults


def test_one_mistake_in_many_layers_is_told_once():
    net = Net()
    for name in ("stem", "depthwise", "up", "hidden", "square", "classifier"):
        nn.init.normal_(getattr(net, name).weight)
    net.stem_norm.eps = 1e-3
    report = compare(Net(), net, inputs=images())
    assert len(report.comparisons[0].faults) == 7
    lines = str(report).splitlines()[2:]
    places = [line.partition(": ")[0].strip() for line in lines if not line.startswith("    ")]
    assert places == [
        "stem (conv) / stem (conv)",
        "stem_norm (batch norm) / stem_norm (batch norm)",
    ]
    assert "      and 5 more: depthwise, up, hidden, ..." in lines


def test_float32_is_judged_by_the_first_models_float64():
    comparison = compare(Net(), Net(), inputs=images(), dtype="float32").comparisons[0]
    assert comparison.passed
    inputs = images().astype("float32")
    outputs = [participant(Net()).trace(inputs, dtype).output for dtype in ("float32", "float64")]
    assert comparison.output_error == distance(*outputs) > 0
    assert all(row.alone == 0 for row in comparison.rows)
    other = Net()
    other.stem_norm.eps = 1e-3
    (fault,) = compare(Net(), other, inputs=images(), dtype="float32").comparisons[0].faults
    assert fault.name == "eps of a norm"


def block(strides):
    """A block of ResNet-18 without its sum."""
    torch.manual_seed(0)
    first, second = strides
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, first, 1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, second, 1), nn.BatchNorm2d(4), nn.ReLU()),
    )


@pytest.mark.parametrize("strides", [((2, 1), (1, 2)), ((1, 2), (2, 1))])
def test_a_stride_on_the_wrong_convolution_is_named_at_both(strides):
    faults = compare(*map(block, strides), inputs=images()).comparisons[0].faults
    assert [(each.first.name, each.name) for each in faults] == [("0", "stride"), ("3", "stride")]
    words = [each.diagnosis.what for each in faults]
    (a, b), (c, d) = strides
    assert words[0].startswith(f"stride is ({c}, {c}) instead of ({a}, {a})")
    assert words[1].startswith(f"stride is ({d}, {d}) instead of ({b}, {b})")


def test_a_convolution_larger_than_the_other_models_maps_is_not_run_on_them():
    small = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.Conv2d(4, 4, 1))
    large = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5))
    names = {"0": "0", "1": "1"}
    row = compare(small, large, inputs=images(), names=names).comparisons[0].rows[1]
    assert row.chained is not None
    assert row.alone is None
    row = compare(large, small, inputs=images(), names=names).comparisons[0].rows[1]
    assert row.alone is not None


class Residual(nn.Module):
    """A sum with the input, which goes through a layer that changes nothing."""

    def __init__(self, shortcut):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut = shortcut

    def forward(self, x):
        x = self.stem(x)
        return self.shortcut(x) + self.conv(x)


@pytest.mark.parametrize("layer", [nn.Identity, nn.Dropout])
def test_a_sum_whose_input_goes_through_an_identity_is_no_fault(layer):
    first, second = Residual(lambda x: x), Residual(layer())
    for models in ((first, second), (second, first), (second, second)):
        report = compare(*models, inputs=images())
        assert report.passed
        assert not report.comparisons[0].faults, str(report)
