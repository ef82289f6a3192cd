"""Steps of nets with layers of both frameworks, while both collect garbage: `STEPS` of them.

Values are compared with those of torch alone in every step. Prints the process's memory after the
first tenth and at the end, in MB. With MALLOC_PERTURB_ set, memory that was freed holds other
values.
"""

import gc
import resource
import sys
from pathlib import Path

import torch
from torch import nn

from pymobilenet import MobileNetConfig, backend
from pymobilenet.interop import JuliaModule, hybrid

STEPS = int(sys.argv[1])
CODE = """
using Flux
build() = Chain(Dense(6 => 8, tanh), x -> x .* 2, Dense(8 => 4))
"""


def memory():
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "VmRSS" in line) / 1024


def collect():
    gc.collect()
    backend("julia").calls("collect", flag=True)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    path = Path("lifetime.jl")
    path.write_text(CODE)
    module = JuliaModule(f"{path}:build")
    first, second = nn.Linear(6, 8), nn.Linear(8, 4)
    with torch.no_grad():
        for name, layer in (("layers.1", first), ("layers.3", second)):
            layer.weight.copy_(module.get_parameter(f"{name}.weight").T)
            layer.bias.copy_(module.get_parameter(f"{name}.bias"))
    config = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=4)
    models = [backend(name).build(config, seed=0) for name in ("torch", "julia")]
    joined = [hybrid(*models, 3), hybrid(*models[::-1], 7)]
    kept, start = [], 0.0
    for step in range(STEPS):
        x = torch.randn(5, 6, requires_grad=True)
        y = module(x)
        expected = second(2 * torch.tanh(first(x)))
        (gradient,) = torch.autograd.grad(y.square().sum(), x, retain_graph=step % 3 == 0)
        (other,) = torch.autograd.grad(expected.square().sum(), x)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)
        kept.append((y, y.detach().clone(), gradient, gradient.clone()))
        if step % 10 == 0:
            net = joined[step // 10 % 2]
            images = torch.randn(2, 3, 33, 41)
            net(images).sum().backward()
            net.zero_grad()
        if step % 50 == 49:
            collect()
            for a, b, c, d in kept:  # what older steps returned
                assert torch.equal(a, b)
                assert torch.equal(c, d)
            kept = kept[-25:]
        if step == STEPS // 10:
            collect()
            start = memory()
    collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{start:.0f} {memory():.0f} {peak:.0f}\n")


main()
