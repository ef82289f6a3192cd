"""Models of Lux, compared with torch modules."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typed_commands import run

from pymobilenet.errors import JuliaError
from pymobilenet.parity import compare, julia
from pymobilenet.parity.diff import participant, port_weights

pytestmark = [pytest.mark.peers, pytest.mark.julia, pytest.mark.usefixtures("julia_peers")]

NET = """
using Lux, Random

net(; eps=1f-5) = Chain(
    Conv((3, 3), 3 => 8, relu; pad=1),
    Chain(
        Conv((3, 3), 8 => 8; stride=2, pad=1, groups=8, use_bias=false),
        BatchNorm(8, relu6; epsilon=eps),
    ),
    SkipConnection(Chain(Conv((1, 1), 8 => 8; cross_correlation=true), GroupNorm(8, 2, swish)), +),
    ConvTranspose((3, 2), 8 => 4), MaxPool((2, 2)), GlobalMeanPool(), FlattenLayer(),
    Dropout(0.5f0),
    LayerNorm((4,); dims=1), Dense(4 => 10),
)
build(; options...) = (model = net(; options...); (model, Lux.setup(Xoshiro(0), model)...))
other_eps() = build(; eps=1f-3)
total(y, t) = -sum(t .* logsoftmax(y))
with_sum() = build(), total
"""

LABELS = np.array([3, 0, 9, 9])


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8)

    def forward(self, x):
        return x + F.silu(self.norm(self.conv(x)))


def torch_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), nn.BatchNorm2d(8)),
        *(nn.ReLU6(), Residual(), nn.ConvTranspose2d(8, 4, (2, 3)), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.LayerNorm(4)),
        nn.Linear(4, 10),
    )
    for norm in (net[3], net[5].norm, net[11]):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    net[3].running_mean.normal_()
    net[3].running_var.uniform_(0.5, 2)
    return net


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.jl"
    path.write_text(NET)
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((4, 3, 9, 11))


def ported(net_file, images, function):
    first, second = participant(torch_net(), "torch"), julia(f"{net_file}:{function}", "Lux")
    assert second.framework == "Lux"
    assert port_weights(first, second, images) == 8
    return first, second


def test_a_ported_net_agrees_in_evaluation_and_in_training(net_file, images):
    pair = ported(net_file, images, "build")
    report = compare(*pair, inputs=images, labels=LABELS)
    assert report.passed, str(report)
    comparison = report.comparisons[0]
    assert comparison.dtype == "float64"
    assert not [row.name for row in comparison.rows if row.is_unmatched]
    quantities = [row.quantity for row in comparison.training.rows]
    assert quantities.count("gradient") == 1 + 15
    assert quantities.count("running statistics") == 2
    assert {"julia", "Lux", "NNlib"} <= set(report.versions["Lux"])


def test_faults_are_diagnosed(net_file, images):
    report = compare(*ported(net_file, images, "other_eps"), inputs=images)
    (fault,) = report.comparisons[0].faults
    assert (fault.second.name, fault.name) == ("layer_2.layer_2", "eps of a norm")
    report = compare(*ported(net_file, images, "with_sum"), inputs=images, labels=LABELS)
    names = [fault.name for fault in report.comparisons[0].training.faults]
    assert names == ["reduction of the loss"]


def test_the_command_ports_into_a_file_that_lux_loads(net_file, images, tmp_path):
    module = tmp_path / "net.py"
    module.write_text("from peers.test_lux_diff import torch_net as build\n")
    out = tmp_path / "ported.jld2"
    models = [f"{module}:build", f"{net_file}:build"]
    done = run("diff", *models, "--shape", "3,9,11", "--port", out)
    assert done.exit_code == 0, done.output
    assert f'ps, st = JLD2.load("{out}", "ps", "st")' in done.output.replace("\n", "")
    code = (tmp_path / "load_ported.jl").read_text()
    assert "MobileNets" not in code
    report = compare(torch_net(), julia(f"{tmp_path}/load_ported.jl:ported"), inputs=images)
    assert report.passed, str(report)


def test_a_model_in_the_running_julia_is_a_tuple(net_file, images, julia_peers):
    built = julia_peers.seval(f'module LuxNet include("{net_file}") end; LuxNet.build()')
    assert len(built) == 3
    report = compare(built, julia(f"{net_file}:build"), inputs=images)
    assert report.passed, str(report)
    with pytest.raises(JuliaError, match="must be a layer of Lux"):
        participant((built[1], built[1], built[2]))
