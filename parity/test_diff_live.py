"""torch modules and Flux models: ported, compared, and with planted faults."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from parity import random_nets
from parity.random_faults import flux_builder, is_located, plant, ported_pair
from pymobilenet import MobileNetConfig, backend
from pymobilenet.cli import app
from pymobilenet.errors import ConfigError, JuliaError, WeightsError
from pymobilenet.parity import compare, julia
from pymobilenet.parity.diff import participant, port_weights

pytestmark = pytest.mark.julia

SEEDS = range(12)

NET = """
using Flux

struct Block{C,N}
    conv::C
    norm::N
end
Flux.@layer Block
(block::Block)(x) = relu6.(block.norm(block.conv(x)))

build() = Chain(
    Conv((3, 3), 3 => 8, relu; pad=1),
    Block(Conv((3, 3), 8 => 8; stride=2, pad=1, groups=8, bias=false), BatchNorm(8)),
    SkipConnection(Chain(Conv((1, 1), 8 => 8), BatchNorm(8, relu)), +),
    GlobalMeanPool(), Flux.flatten, Dense(8 => 10),
)
"""


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()


def torch_net(eps=1e-5):
    """The net of `NET`, as a stranger writes it in torch."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8, eps=eps),
        nn.ReLU6(),
        Residual(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "my_net.jl"
    path.write_text(NET)
    return f"{path}:build"


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((4, 3, 14, 18))


@pytest.fixture(scope="module")
def main():
    return backend("julia").main


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_net_is_ported_and_agrees(seed, main):
    report = compare(*ported_pair(seed, flux_builder(main)), inputs=random_nets.images(seed))
    assert report.passed, str(report)
    assert not report.comparisons[0].faults


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fault_in_a_random_net_is_diagnosed(seed, main):
    planted = plant(seed, flux_builder(main), is_flux=True)
    report = compare(planted.first, planted.second, inputs=random_nets.images(seed))
    assert not report.passed
    faults = report.comparisons[0].faults
    assert [fault.name for fault in faults] == [planted.fault.difference or "structure"], report
    assert is_located(faults, planted.paths), report


def test_a_net_of_custom_layers_is_ported_and_agrees(net_file, images):
    first, second = participant(torch_net(), "torch"), julia(net_file)
    assert not compare(first, second, inputs=images).passed
    assert port_weights(first, second, images) == 6
    report = compare(first, second, inputs=images)
    assert report.passed, str(report)


def test_layers_of_another_shape_are_not_ported(net_file, images):
    net = torch_net()
    net[-1] = nn.Linear(8, 11)
    with pytest.raises(WeightsError, match=r"weight \(11, 8\), and .*: \(10, 8\)"):
        port_weights(participant(net), julia(net_file), images)


def test_the_command_ports_into_a_file_that_flux_loads(net_file, images, tmp_path):
    module = tmp_path / "net.py"
    module.write_text("from parity.test_diff_live import torch_net as build\n")
    out = tmp_path / "ported.jld2"
    done = CliRunner().invoke(
        app, ["diff", f"{module}:build", net_file, "--shape", "3,14,18", "--port", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "Flux.loadmodel!" in done.output
    loader = tmp_path / "load.jl"
    shutil.copy(net_file.removesuffix(":build"), tmp_path / "copy.jl")
    loader.write_text(
        'include("copy.jl")\nimport MobileNets, JLD2\n'
        f'load() = Flux.loadmodel!(build(), JLD2.load("{out}", "model_state"))\n'
    )
    report = compare(torch_net(), julia(f"{loader}:load"), inputs=images)
    assert report.passed, str(report)


def test_three_frameworks_and_the_odd_one_out(net_file, images):
    first, second = participant(torch_net(), "torch"), julia(net_file, "Flux")
    port_weights(first, second, images)
    report = compare(first, second, participant(torch_net(eps=1e-3), "other"), inputs=images)
    assert report.odd_one_out == "other"


@pytest.mark.parametrize("family", ["v1", "v1_bottleneck", "v2"])
def test_this_packages_own_models_agree(family):
    config = MobileNetConfig(family, width_mult=0.25, resolution=32, num_classes=10)
    torch_model = backend("torch").build(config, seed=0)
    julia_model = backend("julia").build(config, seed=0)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    report = compare(torch_model, julia_model, inputs=images)
    assert report.passed, str(report)


def test_what_is_no_julia_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be file\\.jl:function"):
        julia("net.jl")
    with pytest.raises(ConfigError, match="must exist"):
        julia(f"{tmp_path}/none.jl:build")
    (tmp_path / "bad.jl").write_text('build() = error("broken")\n')
    with pytest.raises(JuliaError, match="broken"):
        julia(f"{tmp_path}/bad.jl:build")
