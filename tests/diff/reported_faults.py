"""Faults that users of ports have reported, written anew as small pairs of torch modules."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pymobilenet.backends.torch.minimal_optimizers import OPTIMIZER_PAIRS

LABELS = np.array([1, 0, 3, 3])


@dataclass(frozen=True)
class Reported:
    """A reported fault.

    Attributes:
        source: Where it was reported.
        difference: The known difference that explains it, or empty.
        place: The layer in which it is, or ``loss``.
        pair: Builds the module as intended, and as reported.
        loss: The loss of the second, if it is in the loss.
        is_training: Whether a training step shows it.
    """

    source: str
    difference: str
    place: str
    pair: Callable
    loss: Callable | None = None
    is_training: bool = False

    def __str__(self):
        return self.source


def images():
    return 3 * np.random.default_rng(0).standard_normal((4, 3, 12, 14))


class Net(nn.Module):
    """A stem, a residual block, a classifier; each method is a place for a fault."""

    def __init__(self, features=8):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU6()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.classifier = nn.Linear(features, 4)
        nn.init.uniform_(self.norm.weight, 0.5, 2)
        nn.init.normal_(self.norm.bias, 2.0, 2.0)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def units(self, x):
        return self.act(self.norm(self.stem(x)))

    def block(self, x):
        return x + self.conv(x)

    def head(self, x):
        return self.classifier(x.mean((2, 3)))

    def forward(self, x):
        return self.head(self.block(self.units(x)))


def other(**changes):
    """A net with other methods or attributes."""

    def pair():
        first, second = Net(), Net()
        for name, value in changes.items():
            is_method = callable(value) and not isinstance(value, nn.Module)
            setattr(second, name, value.__get__(second) if is_method else value)
        return first, second

    return pair


def reweighted(layer, change):
    def pair():
        first, second = Net(), Net()
        module = getattr(second, layer)
        with torch.no_grad():
            change(module)
        return first, second

    return pair


def like(module, cls, **options):
    """A norm of another class with the same parameters."""
    changed = cls(8, **options)
    changed.load_state_dict(module.state_dict())
    return changed


class BiasedNorm(nn.BatchNorm2d):
    """tinygrad's batch norm before pull request 807."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        old = self.running_var.clone()
        output = super().forward(x)
        self.running_var = 0.9 * old + 0.1 * x.detach().var((0, 2, 3), unbiased=False)
        return output


class AnnotatedLayerNorm(nn.LayerNorm):
    """The layer norm of BERT-pytorch: eps is added to the unbiased deviation."""

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        return self.weight * centred / (x.std(-1, keepdim=True) + self.eps) + self.bias


class SquaredEps(nn.LayerNorm):
    """The layer norm of Flux since pull request 2421."""

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps**2)


class NewDropout(nn.Module):
    """A dropout that is made anew in `forward`, always in training mode, as in NTS-Net."""

    def forward(self, x):
        return nn.Dropout(p=0.5)(x)


class Flattened(Net):
    """The maps themselves are classified."""

    def __init__(self, is_channels_last):
        super().__init__(8 * 6 * 7)
        self.is_channels_last = is_channels_last

    def head(self, x):
        return self.classifier((x.permute(0, 2, 3, 1) if self.is_channels_last else x).flatten(1))


def pooled(**options):
    return nn.Sequential(nn.AvgPool2d(3, 2, 1, **options), nn.Flatten())


def bottleneck(strides):
    """The convolutions of ResNet-50's bottleneck, with the stride on one of them."""
    torch.manual_seed(0)
    first, second = strides
    return nn.Sequential(
        nn.Conv2d(3, 4, 1, first), nn.ReLU(), nn.Conv2d(4, 4, 3, second, 1), nn.ReLU()
    )


def normed(cls, **options):
    """A linear layer with a layer norm whose eps matters."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(504, 8), cls(8, **options))
    nn.init.uniform_(module[2].weight, 0.5, 2)
    return module


class Resized(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):
        return F.interpolate(x, mode="bilinear", **self.options)


def gelu(approximate):
    return nn.Sequential(nn.Flatten(), nn.GELU(approximate))


def extra_dense():
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(504, 6), nn.Linear(6, 6)]
    return nn.Sequential(*layers[:2]), nn.Sequential(*layers)


GITHUB = "https://github.com/"
REPORTED = (
    Reported(
        GITHUB + "FluxML/Metalhead.jl/pull/14",
        "kernel flip",
        "conv",
        reweighted("conv", lambda m: m.weight.copy_(m.weight.flip(2, 3).clone())),
    ),
    Reported(
        GITHUB + "gzuidhof/nn-transfer/pull/3",
        "eps of a norm",
        "norm",
        reweighted("norm", lambda m: setattr(m, "eps", 1e-3)),
    ),
    Reported(
        GITHUB + "microsoft/MMdnn/issues/153",
        "padding on one side",
        "stem",
        other(
            units=lambda net, x: net.act(
                net.norm(F.conv2d(F.pad(x, (0, 1, 0, 1)), net.stem.weight, stride=2))
            )
        ),
    ),
    Reported(
        GITHUB + "gzuidhof/nn-transfer/issues/16",
        "flatten order",
        "flatten",
        lambda: (Flattened(False), Flattened(True)),
    ),
    Reported(
        GITHUB + "voxelmorph/voxelmorph/issues/425",
        "kernel height and width exchanged",
        "conv",
        reweighted("conv", lambda m: m.weight.copy_(m.weight.transpose(2, 3).clone())),
    ),
    Reported(
        GITHUB + "apache/mxnet/issues/15717",
        "parameters of a norm",
        "norm",
        reweighted("norm", lambda m: m.weight.fill_(1)),
    ),
    Reported(
        GITHUB + "gmalivenko/pytorch2keras/issues/70",
        "momentum of a norm",
        "norm",
        lambda: (Net(), other(norm=like(Net().norm, nn.BatchNorm2d, momentum=0.9))()[1]),
        is_training=True,
    ),
    Reported(
        GITHUB + "tinygrad/tinygrad/pull/807",
        "biased running variance",
        "norm",
        lambda: (Net(), other(norm=like(Net().norm, BiasedNorm))()[1]),
        is_training=True,
    ),
    Reported(
        GITHUB + "jaehong31/CGES/issues/1",
        "softmax and loss",
        "loss",
        lambda: (Net(), Net()),
        loss=lambda outputs, labels: F.cross_entropy(outputs.softmax(1), labels),
        is_training=True,
    ),
    Reported(
        GITHUB + "rixwew/pytorch-fm/issues/21",
        "dropout active",
        "dropout",
        other(head=lambda net, x: net.classifier(F.dropout(x.mean((2, 3)), 0.1))),
    ),
    Reported(
        GITHUB + "yangze0930/NTS-Net/issues/14",
        "dropout active",
        "dropout",
        other(head=lambda net, x: net.classifier(NewDropout()(x.mean((2, 3))))),
    ),
    Reported(
        GITHUB + "onnx/onnx-tensorrt/issues/663",
        "padding counted in an average pool",
        "0",
        lambda: (pooled(), pooled(count_include_pad=False)),
    ),
    Reported(
        GITHUB + "FluxML/Metalhead.jl/pull/114",
        "stride",
        "0",
        lambda: (bottleneck((1, 2)), bottleneck((2, 1))),
    ),
    Reported(
        GITHUB + "pytorch/pytorch/issues/10604",
        "corners in resizing (align_corners)",
        "interpolate",
        lambda: (Resized(size=(24, 28), align_corners=True), Resized(size=(24, 28))),
    ),
    Reported(
        GITHUB + "pytorch/vision/issues/2950",
        "antialiasing in resizing",
        "interpolate",
        lambda: (Resized(size=(5, 6), antialias=True), Resized(size=(5, 6))),
    ),
    Reported(
        GITHUB + "codertimo/BERT-pytorch/issues/30",
        "form of layer norm",
        "2",
        lambda: (normed(nn.LayerNorm, eps=1e-6), normed(AnnotatedLayerNorm, eps=1e-6)),
    ),
    Reported(
        GITHUB + "FluxML/Flux.jl/pull/2421",
        "eps of a norm",
        "2",
        lambda: (normed(nn.LayerNorm, eps=1e-3), normed(SquaredEps, eps=1e-3)),
    ),
    Reported(
        GITHUB + "tinygrad/tinygrad/pull/16162",
        "activation function",
        "1",
        lambda: (gelu("none"), gelu("tanh")),
    ),
    Reported(
        GITHUB + "transmuteAI/trailmet/issues/149",
        "missing residual",
        "add",
        other(block=lambda net, x: net.conv(x)),
    ),
    Reported(GITHUB + "FluxML/Metalhead.jl/issues/186", "", "2", extra_dense),
)
REPORTED_OPTIMIZERS = {
    GITHUB + "pytorch/pytorch/issues/1099": "rate inside the momentum",
    GITHUB + "pytorch/pytorch/issues/23796": "eps inside the root",
    GITHUB + "google-research/bert/issues/153": "bias correction",
    GITHUB + "FluxML/Optimisers.jl/issues/182": "coupled weight decay",
    GITHUB + "pytorch/pytorch/issues/2639": "weight decay on norms and biases",
    GITHUB + "pytorch/pytorch/pull/5920": "form of Nesterov's momentum",
    GITHUB + "tensorflow/tensorflow/issues/36001": "clipping of each gradient",
    GITHUB + "verl-project/verl/issues/3674": "schedule off by one",
}
"""Report -> the known difference, which is also the name of the pair in `OPTIMIZER_PAIRS`."""

assert set(REPORTED_OPTIMIZERS.values()) <= set(OPTIMIZER_PAIRS)
