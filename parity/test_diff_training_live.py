"""A training step of torch modules and Flux models is compared."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig, backend
from pymobilenet.cli import app
from pymobilenet.parity import compare, julia
from pymobilenet.parity.diff import participant, port_weights

pytestmark = pytest.mark.julia

LABELS = np.array([3, 0, 9, 9])

NET = """
using Flux

build(; momentum=0.1f0, rate=0.5) = Chain(
    Conv((3, 3), 3 => 8, relu; pad=1),
    Conv((3, 3), 8 => 8; stride=2, pad=1, groups=8, bias=false), BatchNorm(8, relu6; momentum),
    SkipConnection(Chain(Conv((1, 1), 8 => 8), BatchNorm(8, swish)), +),
    GlobalMeanPool(), Flux.flatten, Dropout(rate), Dense(8 => 10),
)
complement() = build(; momentum=0.9f0)
other_rate() = build(; rate=0.2)
total(y, t) = Flux.logitcrossentropy(y, t; agg=sum)
smoothed(y, t) = Flux.logitcrossentropy(y, Flux.label_smoothing(t, 0.1f0))
twice(y, t) = Flux.logitcrossentropy(softmax(y), t)
shifted(y, t) = Flux.logitcrossentropy(y, circshift(t, 1))
with_sum() = build(), total
with_smoothing() = build(), smoothed
with_softmax() = build(), twice
with_shift() = build(), shifted
"""


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x):
        return x + F.silu(self.norm(self.conv(x)))


def torch_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), nn.BatchNorm2d(8)),
        *(nn.ReLU6(), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Dropout(0.5), nn.Linear(8, 10)),
    )
    for norm in (net[3], net[5].norm):
        nn.init.uniform_(norm.weight, 0.5, 2)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "my_net.jl"
    path.write_text(NET)
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((4, 3, 9, 11))


def ported(net_file, images, function):
    first, second = participant(torch_net(), "torch"), julia(f"{net_file}:{function}", "Flux")
    port_weights(first, second, images)
    return first, second


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_correct_port_agrees_in_training(net_file, images, dtype):
    pair = ported(net_file, images, "build")
    report = compare(*pair, inputs=images, labels=LABELS, dtype=dtype)
    assert report.passed, str(report)
    rows = report.comparisons[0].training.rows
    quantities = [row.quantity for row in rows]
    assert quantities.count("gradient") == 1 + 11
    assert quantities.count("running statistics") == 4


@pytest.mark.parametrize(
    ("function", "difference"),
    [
        ("complement", "momentum of a norm"),
        ("other_rate", "structure"),
        ("with_sum", "reduction of the loss"),
        ("with_smoothing", "label smoothing"),
        ("with_softmax", "softmax and loss"),
        ("with_shift", "labels counted from 1"),
    ],
)
def test_a_fault_in_training_is_diagnosed(net_file, images, function, difference):
    pair = ported(net_file, images, function)
    report = compare(*pair, inputs=images, labels=LABELS)
    comparison = report.comparisons[0]
    assert comparison.passed_evaluation
    assert [fault.name for fault in comparison.training.faults] == [difference], str(report)


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_this_packages_own_models_agree_in_training(family):
    config = MobileNetConfig(family, width_mult=0.25, resolution=32, num_classes=10)
    models = [backend(name).build(config, seed=0) for name in ("torch", "julia")]
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32))
    report = compare(*models, inputs=images, labels=LABELS)
    assert report.passed, str(report)


def test_the_command_compares_a_training_step_and_the_code_loads_the_port(net_file, tmp_path):
    module = tmp_path / "net.py"
    module.write_text("from parity.test_diff_training_live import torch_net as build\n")
    models = [f"{module}:build", f"{net_file}:build"]
    port = tmp_path / "ported.jld2"
    options = ["--shape", "3,9,11", "--labels", "random", "--port", str(port)]
    done = CliRunner().invoke(app, ["diff", *models, *options])
    assert done.exit_code == 0, done.output
    assert "in a training step they agree" in done.output
    images = np.random.default_rng(1).standard_normal((3, 3, 9, 11))
    loaded = julia(f"{tmp_path}/load_ported.jl:ported")
    report = compare(torch_net(), loaded, inputs=images)
    assert report.passed, str(report)
    assert "MobileNets" not in (tmp_path / "load_ported.jl").read_text()
