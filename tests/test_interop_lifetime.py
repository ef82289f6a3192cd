"""Memory that both frameworks see, under both garbage collectors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pymobilenet import MobileNetConfig, backend
from pymobilenet.backends.julia.layer import JuliaLayer, LayerPullback
from pymobilenet.interop import hybrid

pytestmark = pytest.mark.julia

SCRIPT = Path(__file__).with_name("interop_lifetime.py")
GROWTH_MB = 40
"""What fragments and caches may grow by; a leaked net of a step would take gigabytes in 10,000."""


def run_script(steps, folder):
    environment = os.environ | {"MALLOC_PERTURB_": "165", "PYTHONPATH": str(SCRIPT.parent)}
    done = subprocess.run(
        [sys.executable, SCRIPT, str(steps)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [float(each) for each in done.stdout.split()[-3:]]


def test_nothing_is_used_after_it_was_freed(tmp_path):
    run_script(200, tmp_path)


@pytest.mark.soak
def test_ten_thousand_steps_do_not_grow(tmp_path):
    start, end, peak = run_script(10_000, tmp_path)
    sys.stdout.write(
        f"after 1,000 steps {start:.0f} MB, after 10,000 {end:.0f} MB, peak {peak:.0f} MB\n"
    )
    assert end - start < GROWTH_MB


PEAK = """
import resource
import torch
from pathlib import Path
from pymobilenet.interop import JuliaModule

Path("doubled.jl").write_text("build() = x -> 2 .* x")
module = JuliaModule("doubled.jl:build")
module(torch.ones(10))
x = torch.ones(50_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
y = module(x)
assert y[-1] == 2
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_call_takes_no_copy_of_its_input_or_output(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1.2 * 50_000_000 * 4 / 2**20  # the output alone


@pytest.mark.parametrize("order", [("torch", "julia"), ("julia", "torch")])
def test_maps_and_their_gradients_cross_without_a_copy_in_channels_last(order, monkeypatch):
    """The addresses that Julia is given, and gives, are those of torch's tensors."""
    in_julia, in_torch = [], []
    call, pull_back = JuliaLayer.call, LayerPullback.__call__

    def noted_call(layer, inputs, *rest):
        outputs, pullback = call(layer, inputs, *rest)
        in_julia.append((inputs if order[0] == "torch" else outputs)[0].ctypes.data)
        return outputs, pullback

    def noted_pullback(pullback, gradients):
        of_inputs, of_parameters = pull_back(pullback, gradients)
        in_julia.append((of_inputs if order[0] == "torch" else gradients)[0].ctypes.data)
        return of_inputs, of_parameters

    def note(maps):
        in_torch.append(maps.data_ptr())
        maps.register_hook(lambda gradient: in_torch.append(gradient.data_ptr()))

    monkeypatch.setattr(JuliaLayer, "call", noted_call)
    monkeypatch.setattr(LayerPullback, "__call__", noted_pullback)
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10)
    models = [backend(name).build(config, seed=0) for name in order]
    net = hybrid(*models, cut=2).to(memory_format=torch.channels_last).train()
    module = net._modules_of_parts[order.index("torch")]
    if order[0] == "torch":
        module.register_forward_hook(lambda _module, _inputs, maps: note(maps))
    else:
        module.register_forward_pre_hook(lambda _module, inputs: note(inputs[0]))
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert len(in_torch) == 2
    assert in_torch == in_julia
