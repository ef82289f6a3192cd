"""Time the border in a step of a MobileNet's part in Julia inside torch; prints milliseconds.

The time of the part itself is measured in Julia and taken off. What is left includes torch's own
time for the parameters of a function, which every module has; it is measured with a function that
returns ready gradients, and printed beside it.
"""

import statistics
import sys
import time

import torch

from pymobilenet import MobileNetConfig, backend
from pymobilenet.interop import JuliaModule

BATCH, STEPS, WARM_UP = 128, 100, 20
CUT = 6
INPUT_SHAPES = {"front": (3, 32, 32), "back": (8, 8, 128)}
"""Without the batch: images (C, H, W), and the maps behind the cut, (H, W, C)."""

TIMED = """
using MobileNets: Flux, Interop, Models

struct Timed
    part::Models.Part{Float32}
end
Flux.@layer Timed
const SECONDS = Dict("forward" => 0.0, "backward" => 0.0)

function Interop.layer_pullback((; part)::Timed, shared, inputs, _)
    SECONDS["forward"] = @elapsed begin
        y, pullback = Models.part_pullback(part, only(inputs); train=part.active)
    end
    function timed_pullback(gradient)
        SECONDS["backward"] = @elapsed gradients = pullback(gradient)
        return gradients
    end
    return Interop.of_arrays(shared, Models.part_parameters(part), y, timed_pullback)
end
seconds() = (SECONDS["forward"], SECONDS["backward"])
wrapped(part) = Timed(part)
"""


class ReadyGradients(torch.autograd.Function):
    """A function of parameters that computes nothing."""

    gradients: tuple[torch.Tensor, ...] = ()

    @staticmethod
    def forward(_ctx, *_parameters):
        return torch.zeros(3)

    @staticmethod
    def backward(_ctx, _gradient):
        return ReadyGradients.gradients


def border_of(module, x, seconds):
    """Return the seconds of forward and backward of one step, without Julia's own."""
    begin = time.perf_counter()
    y = module(x)
    middle = time.perf_counter()
    gradient = torch.ones_like(y)
    again = time.perf_counter()
    y.backward(gradient)
    end = time.perf_counter()
    own = [float(each) for each in seconds()]
    module.zero_grad()
    x.grad = None
    return middle - begin - own[0], end - again - own[1]


def torch_alone(parameters, evicted):
    """Return the seconds that torch takes for gradients that are ready, with cold caches."""
    ReadyGradients.gradients = tuple(map(torch.empty_like, parameters))
    evicted.add_(1)
    begin = time.perf_counter()
    y = ReadyGradients.apply(*parameters)
    middle = time.perf_counter()
    gradient = torch.ones_like(y)
    again = time.perf_counter()
    y.backward(gradient)
    end = time.perf_counter()
    for parameter in parameters:
        parameter.grad = None
    return middle - begin, end - again


def median_ms(steps):
    return [1000 * statistics.median(each) for each in zip(*steps[WARM_UP:], strict=True)]


def main():
    torch.set_num_threads(1)
    main = backend("julia").main
    main.include_string(main, TIMED)
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100, stem_stride=1)
    parts = backend("julia").build(config, seed=0).split(CUT)
    evicted = torch.zeros(16_000_000)
    for part, (side, shape) in zip(parts, INPUT_SHAPES.items(), strict=True):
        module = JuliaModule(main.wrapped(part.layer.object)).train()
        x = torch.randn(BATCH, *shape).requires_grad_(side == "back")
        count = range(WARM_UP + STEPS)
        found = median_ms([border_of(module, x, main.seconds) for _ in count])
        parameters = list(module.parameters())
        alone = median_ms([torch_alone(parameters, evicted) for _ in count])
        sys.stdout.write(
            f"{side}, {len(parameters)} parameters: {found[0]:.2f} ms forward, {found[1]:.2f} ms "
            f"backward; torch alone {alone[0]:.2f} and {alone[1]:.2f} ms\n"
        )


if __name__ == "__main__":
    main()
