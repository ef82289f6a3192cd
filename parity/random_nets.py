"""Random small nets: a description, and the torch module and the Flux model that it describes.

Every kind of layer that weights can be ported for is drawn: convolutions with strides, dilation and
groups, transposed ones, four kinds of norms, pools, resizing, sums of branches, dropout. Images are
not square, and have odd and even sizes.
"""

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
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "gelu_tanh": lambda: nn.GELU("tanh"),
}
SHAPES = ((3, 13, 17), (1, 9, 14), (5, 11, 8), (3, 16, 12))
"""Channels, height and width of the images."""

CLASSES = 7
NORMS = ("batch_norm", "group_norm", "instance_norm", "layer_norm")
BRANCHES = ("residual", "parallel")


class Sum(nn.Module):
    """The sum of what two branches make of the input; the first may be the input itself."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        if len(self.branches) == 1:
            return x + self.branches[0](x)
        return self.branches[0](x) + self.branches[1](x)


class FlattenChannelsLast(nn.Module):
    """The maps flattened as Keras does."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


def shape_of(seed):
    return SHAPES[seed % len(SHAPES)]


def images(seed=0, count=3):
    return 2 * np.random.default_rng(seed).standard_normal((count, *shape_of(seed)))


def labels(seed=0, count=3):
    return np.random.default_rng(seed).integers(0, CLASSES, count)


def describe(seed):
    """A net of three to five blocks as a list of layers."""
    random = np.random.default_rng(seed)
    channels, *size = shape_of(seed)
    layers = []
    for _ in range(int(random.integers(3, 6))):
        block, channels, size = _block(random, channels, size)
        layers += block
    if random.random() < 0.5:
        layers += [{"kind": "global_pool"}, {"kind": "flatten"}]
        features = channels
    else:
        layers.append({"kind": "flatten"})
        features = channels * size[0] * size[1]
    if random.random() < 0.3:
        layers.append(_dense(random, features, 8))
        layers.append({"kind": "layer_norm", "shape": [8], "eps": _layer_eps(random)})
        layers.append(_activation(random))
        features = 8
    if random.random() < 0.4:
        layers.append({"kind": "dropout", "p": 0.5})
    layers.append(_dense(random, features, CLASSES))
    return layers


def _dense(random, features, out):
    return {"kind": "dense", "in": features, "out": out, "bias": bool(random.random() < 0.8)}


def _activation(random):
    return {"kind": "activation", "function": str(random.choice(list(ACTIVATIONS)))}


def _block(random, channels, size):
    """A sum of branches, or a convolution, a norm, an activation, and what changes the size."""
    choice = random.random()
    if choice < 0.2:
        return (
            [{"kind": "residual", "layers": _branch(random, channels, channels, size)}],
            (channels),
            size,
        )
    if choice < 0.3:
        out = int(random.choice([4, 6, 8]))
        shortcut = [_conv(random, channels, out, size, kernel=[1, 1])[0]]
        branches = [shortcut, _branch(random, channels, out, size)]
        return [{"kind": "parallel", "branches": branches}], out, size
    out = int(random.choice([4, 6, 8]))
    make = _conv_transpose if random.random() < 0.15 else _conv
    conv, size = make(random, channels, out, size)
    block = [conv]
    if random.random() < 0.8:
        block.append(_norm(random, out, size))
    block.append(_activation(random))
    more = random.random()
    if more < 0.15 and min(size) >= 4:
        block.append(_pool(random))
        size = [(n + 2 * p - k) // s + 1 for n, p, k, s in _windows(block[-1], size)]
    elif more < 0.25 and max(size) <= 12:
        block.append({"kind": "upsample", "mode": str(random.choice(["nearest", "bilinear"]))})
        size = [2 * n for n in size]
    elif more < 0.3:
        block.append({"kind": "adaptive_pool", "size": [n // 2 if n % 2 == 0 else n for n in size]})
        size = block[-1]["size"]
    elif more < 0.35:
        block.append({"kind": "dropout", "p": 0.2})
    return block, out, size


def _branch(random, channels, out, size):
    """A convolution that keeps the size, and a norm."""
    kernel = [int(k) for k in random.choice([1, 3, 5], 2)]
    conv, size = _conv(random, channels, out, size, kernel)
    return [conv, _norm(random, out, size)]


def _norm(random, channels, size):
    kind = str(random.choice(NORMS, p=[0.55, 0.2, 0.1, 0.15]))
    if kind == "instance_norm" and min(size) < 3:  # the variance of few values is badly conditioned
        kind = "batch_norm"
    if kind == "layer_norm":
        return {"kind": kind, "eps": _layer_eps(random), "shape": [channels, *size]}
    norm = {"kind": kind, "eps": float(random.choice([1e-5, 1e-3]))}
    return {**norm, "channels": channels, "groups": 1 + (channels % 2 == 0)}


def _layer_eps(random):
    """A square of a number of few digits: Flux adds the square of its eps."""
    return float(random.choice([1e-6, 1e-4]))


def _pool(random):
    size, padding = int(random.integers(2, 4)), int(random.integers(0, 2))
    kind = str(random.choice(["max_pool", "mean_pool"]))
    return {"kind": kind, "size": size, "stride": 2, "padding": padding}


def _windows(pool, size):
    return [(n, pool["padding"], pool["size"], pool["stride"]) for n in size]


def _conv(random, channels, out, size, kernel=None):
    """A convolution; with a given kernel it keeps the size."""
    if kernel is not None:
        padding, stride, dilation = [[k // 2, k // 2] for k in kernel], [1, 1], [1, 1]
    else:
        kernel = [int(k) for k in random.choice([1, 2, 3], 2)]
        padding = [[int(p)] * 2 for p in random.integers(0, 2, 2)]
        stride = [int(s) if min(size) > 4 else 1 for s in random.integers(1, 3, 2)]
        dilation = [int(random.integers(1, 3)) if k > 1 else 1 for k in kernel]
        extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        if any(n + 2 * p[0] < e for n, p, e in zip(size, padding, extents, strict=True)):
            kernel, dilation = [1, 1], [1, 1]
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    conv = {
        "kind": "conv",
        "in": channels,
        "out": out,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": _groups(random, channels, out),
        "bias": bool(random.random() < 0.5),
    }
    new_size = [
        (n + sum(p) - e) // s + 1 for n, p, e, s in zip(size, padding, extents, stride, strict=True)
    ]
    return conv, new_size


def _groups(random, channels, out):
    return int(np.gcd(channels, out)) if random.random() < 0.3 else 1


def _conv_transpose(random, channels, out, size):
    kernel = [int(k) for k in random.integers(1, 4, 2)]
    stride = [int(s) if max(size) < 10 else 1 for s in random.integers(1, 3, 2)]
    conv = {
        "kind": "conv_transpose",
        "in": channels,
        "out": out,
        "kernel": kernel,
        "stride": stride,
        "groups": _groups(random, channels, out),
        "bias": bool(random.random() < 0.7),
    }
    return conv, [(n - 1) * s + k for n, s, k in zip(size, stride, kernel, strict=True)]


def children(layer):
    """The lists of layers inside of a layer."""
    if layer["kind"] == "residual":
        return [layer["layers"]]
    return layer["branches"] if layer["kind"] == "parallel" else []


def flat(layers, torch_path="", flux_path=""):
    """(layer, the list that holds it, its paths in torch and in Flux), those in branches too."""
    for index, layer in enumerate(layers):
        torch_name, flux_name = f"{torch_path}{index}", f"{flux_path}layers[{index + 1}]"
        inner = children(layer)
        for branch, each in enumerate(inner):
            inside = (
                f"{flux_name}.layers."
                if len(inner) == 1
                else (f"{flux_name}.layers[{branch + 1}].")
            )
            yield from flat(each, f"{torch_name}.branches.{branch}.", inside)
        if not inner:
            yield layer, layers, torch_name, flux_name


def torch_net(layers, seed=0):
    """The torch module, with random weights and statistics."""
    torch.manual_seed(seed)
    module = nn.Sequential(*map(_layer, layers))
    for each in module.modules():
        if isinstance(each, (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)):
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
            *(spec["in"], spec["out"], spec["kernel"], spec["stride"]),
            *([low for low, _ in spec["padding"]], spec["dilation"], spec["groups"], spec["bias"]),
        )
    if kind == "conv_transpose":
        return nn.ConvTranspose2d(
            *(spec["in"], spec["out"], spec["kernel"], spec["stride"]),
            groups=spec["groups"],
            bias=spec["bias"],
        )
    if kind in BRANCHES:
        return Sum(*(nn.Sequential(*map(_layer, branch)) for branch in children(spec)))
    builders = {
        "batch_norm": lambda: nn.BatchNorm2d(spec["channels"], spec["eps"]),
        "group_norm": lambda: nn.GroupNorm(spec["groups"], spec["channels"], spec["eps"]),
        "instance_norm": lambda: nn.InstanceNorm2d(spec["channels"], spec["eps"], affine=True),
        "layer_norm": lambda: nn.LayerNorm(spec["shape"], spec["eps"]),
        "activation": lambda: ACTIVATIONS[spec["function"]](),
        "dense": lambda: nn.Linear(spec["in"], spec["out"], spec["bias"]),
        "max_pool": lambda: nn.MaxPool2d(spec["size"], spec["stride"], spec["padding"]),
        "mean_pool": lambda: nn.AvgPool2d(spec["size"], spec["stride"], spec["padding"]),
        "adaptive_pool": lambda: nn.AdaptiveAvgPool2d(spec["size"]),
        "upsample": lambda: nn.Upsample(
            scale_factor=2,
            mode=spec["mode"],
            align_corners=None if spec["mode"] == "nearest" else True,
        ),
        "dropout": lambda: nn.Dropout(spec["p"]),
        "global_pool": lambda: nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten,
        "flatten_channels_last": FlattenChannelsLast,
    }
    return builders[kind]()


def flux_net(layers, main):
    """The Flux model; `main` is Julia's module Main."""
    if not hasattr(main, "build_net"):
        main.include(str(Path(__file__).with_suffix(".jl")))
    return main.build_net(json.dumps(layers))
