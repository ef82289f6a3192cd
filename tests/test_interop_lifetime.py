"""Memory that both frameworks see, under both garbage collectors; and what the border costs."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.julia

SCRIPT = Path(__file__).with_name("interop_lifetime.py")
GROWTH_MB = 40
"""What fragments and caches may grow by; a leaked net of a step would take gigabytes in 10,000."""

BATCH = 128


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


TIMED = """
using MobileNets: MobileNets, Flux
using MobileNets.Models: ChainRulesCore, Part

struct Timed
    part::Part{Float32}
end
Flux.@layer Timed
const SECONDS = Dict("forward" => 0.0, "backward" => 0.0)
(timed::Timed)(x) = timed.part(x)

function ChainRulesCore.rrule(timed::Timed, x)
    SECONDS["forward"] = @elapsed begin
        y, pullback = ChainRulesCore.rrule(timed.part, x)
    end
    function timed_pullback(dy)
        SECONDS["backward"] = @elapsed begin
            part, dx = pullback(dy)
        end
        return ChainRulesCore.Tangent{Timed}(; part), dx
    end
    return y, timed_pullback
end
seconds() = (SECONDS["forward"], SECONDS["backward"])
wrapped(part) = Timed(part)
"""


@pytest.fixture(scope="module")
def main():
    """Julia's module Main, in which `TIMED` is defined."""
    from pymobilenet import backend

    main = backend("julia").main
    main.include_string(main, TIMED)
    return main


@pytest.mark.soak
@pytest.mark.parametrize("side", [0, 1])
def test_the_border_costs_at_most_a_millisecond_each_way(side, main):
    """A step of a Julia part inside torch, less the time of the part itself, measured in Julia."""
    from pymobilenet import MobileNetConfig, backend
    from pymobilenet.interop import JuliaModule

    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100, stem_stride=1)
    model = backend("julia").build(config, seed=0)
    part = model.split(6)[side]
    module = JuliaModule(main.wrapped(part.layer.object)).train()
    shape = (3, 32, 32) if side == 0 else (8, 8, 128)  # (N, H, W, C) behind the cut
    x = torch.randn(BATCH, *shape).requires_grad_(side == 1)
    forward, backward = [], []
    for _ in range(110):
        begin = time.perf_counter()
        y = module(x)
        middle = time.perf_counter()
        gradient = torch.ones_like(y)
        again = time.perf_counter()
        y.backward(gradient)
        end = time.perf_counter()
        module.zero_grad()
        x.grad = None
        own = [float(each) for each in main.seconds()]
        forward.append(middle - begin - own[0])
        backward.append(end - again - own[1])
    medians = [1000 * statistics.median(each[10:]) for each in (forward, backward)]
    part_name = ("front", "back")[side]
    sys.stdout.write(f"{part_name}: {medians[0]:.3f} ms forward, {medians[1]:.3f} ms backward\n")
    assert max(medians) <= 1.0
    assert np.isfinite(medians).all()
