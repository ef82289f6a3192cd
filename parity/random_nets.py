"""Random small nets: a description, and the torch module and the Flux model that it describes."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
}
SHAPE = (3, 13, 17)
"""Of one image: odd and not square, so that no two axes can be exchanged unseen."""


class Residual(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


def describe(seed):
    """A net of three to six blocks as a list of layers."""
    random = np.random.default_rng(seed)
    layers, channels, size = [], SHAPE[0], list(SHAPE[1:])
    for _ in range(int(random.integers(3, 7))):
        block, channels, size = _block(random, channels, size)
        layers += block
    if random.random() < 0.5:
        layers += [{"kind": "global_pool"}, {"kind": "flatten"}]
        features = channels
    else:
        layers += [{"kind": "flatten"}]
        features = channels * size[0] * size[1]
    layers.append({"kind": "dense", "in": features, "out": 7, "bias": bool(random.random() < 0.8)})
    return layers


def _block(random, channels, size):
    """A convolution, a norm, an activation; sometimes a pool or a residual."""
    if random.random() < 0.25:
        inner = [
            _conv(random, channels, channels, size, keeps_size=True)[0],
            {"kind": "batch_norm", "channels": channels, "eps": 1e-3},
        ]
        return [{"kind": "residual", "layers": inner}], channels, size
    out = int(random.choice([4, 6, 8]))
    if random.random() < 0.1:
        kernel = [int(k) for k in random.integers(1, 4, 2)]
        conv = {
            "kind": "conv_transpose",
            "in": channels,
            "out": out,
            "kernel": kernel,
            "stride": [1, 1],
            "bias": True,
        }
        new_size = [n + k - 1 for n, k in zip(size, kernel, strict=True)]
    else:
        conv, new_size = _conv(random, channels, out, size, keeps_size=False)
    block = [conv]
    norm = random.random()
    if norm < 0.6:
        block.append(
            {"kind": "batch_norm", "channels": out, "eps": float(random.choice([1e-5, 1e-3]))}
        )
    elif norm < 0.7:
        block.append({"kind": "group_norm", "channels": out, "groups": 2, "eps": 1e-5})
    block.append({"kind": "activation", "function": str(random.choice(list(ACTIVATIONS)))})
    if min(new_size) >= 4 and random.random() < 0.2:
        block.append({"kind": str(random.choice(["max_pool", "mean_pool"]))})
        new_size = [n // 2 for n in new_size]
    return block, out, new_size


def _conv(random, channels, out, size, keeps_size):
    kernel = [int(k) for k in random.choice([1, 3, 5] if keeps_size else [1, 2, 3], 2)]
    if keeps_size:
        padding, stride, dilation = [[k // 2, k // 2] for k in kernel], [1, 1], [1, 1]
    else:
        padding = [[int(p)] * 2 for p in random.integers(0, 2, 2)]
        stride = [int(s) for s in random.integers(1, 3, 2)]
        dilation = [int(random.integers(1, 3)) if k > 1 else 1 for k in kernel]
        extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        if any(n + 2 * p[0] < e for n, p, e in zip(size, padding, extents, strict=True)):
            kernel, dilation, extents = [1, 1], [1, 1], [1, 1]
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    groups = int(np.gcd(channels, out)) if random.random() < 0.3 else 1
    new_size = [
        (n + sum(p) - e) // s + 1 for n, p, e, s in zip(size, padding, extents, stride, strict=True)
    ]
    conv = {
        "kind": "conv",
        "in": channels,
        "out": out,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": bool(random.random() < 0.5),
    }
    return conv, new_size


def torch_net(layers, seed=0):
    """The torch module, with random weights and statistics."""
    torch.manual_seed(seed)
    module = nn.Sequential(*map(_layer, layers))
    for each in module.modules():
        if isinstance(each, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(each.weight, 0.5, 2)
            nn.init.normal_(each.bias)
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_()
            each.running_var.uniform_(0.5, 2)
    return module


def _layer(spec):
    kind = spec["kind"]
    if kind == "conv":
        return nn.Conv2d(
            spec["in"],
            spec["out"],
            spec["kernel"],
            spec["stride"],
            [low for low, _ in spec["padding"]],
            spec["dilation"],
            spec["groups"],
            spec["bias"],
        )
    if kind == "conv_transpose":
        return nn.ConvTranspose2d(spec["in"], spec["out"], spec["kernel"], spec["stride"])
    if kind == "batch_norm":
        return nn.BatchNorm2d(spec["channels"], spec["eps"])
    if kind == "group_norm":
        return nn.GroupNorm(spec["groups"], spec["channels"], spec["eps"])
    if kind == "activation":
        return ACTIVATIONS[spec["function"]]()
    if kind == "residual":
        return Residual(map(_layer, spec["layers"]))
    if kind == "dense":
        return nn.Linear(spec["in"], spec["out"], spec["bias"])
    return {
        "max_pool": nn.MaxPool2d(2),
        "mean_pool": nn.AvgPool2d(2),
        "global_pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
    }[kind]


def flux_net(layers, main):
    """The Flux model; `main` is Julia's module Main."""
    if not hasattr(main, "build_net"):
        main.include(str(Path(__file__).with_suffix(".jl")))
    return main.build_net(json.dumps(layers))


def images(seed=0, count=3):
    return 2 * np.random.default_rng(seed).standard_normal((count, *SHAPE))
