"""Nets for the comparison of a training step, and faults that are planted in them."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

LABELS = np.array([1, 0, 9, 4, 4])


def images(seed=0):
    """Inputs of a `TrainedNet` for `LABELS`."""
    return np.random.default_rng(seed).standard_normal((5, 3, 9, 11))


class TrainedNet(nn.Module):
    """Convolutions with norms, a residual, dropout as a layer and as a function."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(8, 10)
        for norm in (self.norm, self.block[1]):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def unit(self, x):
        return F.relu(self.norm(self.conv(x)))

    def drop(self, x):
        return F.dropout(x, 0.2, training=self.training)

    def join(self, x, y):
        return x + y

    def forward(self, x):
        x = self.drop(self.unit(x))
        x = self.join(x, self.block(x))
        return self.classifier(self.dropout(x.mean((2, 3))))


class BiasedNorm(nn.BatchNorm2d):
    """A batch norm whose running variance is of the biased variance, as in Keras."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        old = self.running_var.clone()
        output = super().forward(x)
        new = x.detach().var((0, 2, 3), unbiased=False)
        self.running_var = old + self.momentum * (new - old)
        return output


class FrozenNorm(nn.BatchNorm2d):
    """A batch norm that always uses its running statistics."""

    def train(self, mode=True):
        del mode
        return super().train(False)


class DetachedNet(TrainedNet):
    def join(self, x, y):
        return x + y.detach()


class UndetachedDropout(TrainedNet):
    def drop(self, x):
        return F.dropout(x, 0.2)


def like(norm, cls, **settings):
    """A norm of another class with the same tensors."""
    other = cls(8, **settings)
    other.load_state_dict(norm.state_dict())
    return other


def with_norm(cls, **settings):
    net = TrainedNet()
    net.norm = like(net.norm, cls, **settings)
    return net


def with_rate(rate):
    net = TrainedNet()
    net.dropout.p = rate
    return net


def frozen():
    net = TrainedNet()
    net.block[0].weight.requires_grad_(False)
    return net


def without_dropout():
    net = TrainedNet()
    net.dropout = nn.Identity()
    return net


def loss(**options):
    return lambda outputs, labels: F.cross_entropy(outputs, labels, **options)


def smoothed_in_float32(outputs, labels):
    """Labels that are smoothed in Float32, as `Flux.label_smoothing` does with a Float32 number."""
    targets = F.one_hot(labels, 10).float() * np.float32(0.83) + np.float32(0.017)
    return -(targets.to(outputs.dtype) * outputs.log_softmax(1)).sum(1).mean()


def sum_of_smoothed(outputs, labels):
    return F.cross_entropy(outputs, labels, reduction="sum", label_smoothing=0.1)


@dataclass(frozen=True)
class TrainingFault:
    """A fault: what the second model and its loss are, where it is, and what explains it."""

    name: str
    place: str
    differences: tuple
    net: object = TrainedNet
    loss: object = None

    def __str__(self):
        return self.name


MOMENTUM, BIASED = "momentum of a norm", "biased running variance"
REDUCTION, SMOOTHING, SHIFTED = "reduction of the loss", "label smoothing", "labels counted from 1"
SOFTMAX = "softmax and loss"

TRAINING_FAULTS = (
    TrainingFault(
        "momentum's complement",
        "norm",
        (MOMENTUM,),
        lambda: with_norm(nn.BatchNorm2d, momentum=0.9),
    ),
    TrainingFault(
        "Keras' momentum", "norm", (MOMENTUM,), lambda: with_norm(nn.BatchNorm2d, momentum=0.01)
    ),
    TrainingFault(
        "cumulative average", "norm", (MOMENTUM,), lambda: with_norm(nn.BatchNorm2d, momentum=None)
    ),
    TrainingFault("biased variance", "norm", (BIASED,), lambda: with_norm(BiasedNorm)),
    TrainingFault(
        "momentum and variance of Keras",
        "norm",
        (MOMENTUM, BIASED),
        lambda: with_norm(BiasedNorm, momentum=0.01),
    ),
    TrainingFault("frozen norm", "norm", ("norm in training mode",), lambda: with_norm(FrozenNorm)),
    TrainingFault("active dropout", "drop", ("dropout active",), UndetachedDropout),
    TrainingFault("other rate", "dropout", ("structure",), lambda: with_rate(0.2)),
    TrainingFault("no dropout", "dropout layers", ("structure",), without_dropout),
    TrainingFault("sum", "loss", (REDUCTION,), loss=loss(reduction="sum")),
    TrainingFault(
        "mean over classes, too", "loss", (REDUCTION,), loss=lambda o, y: F.cross_entropy(o, y) / 10
    ),
    TrainingFault("smoothing", "loss", (SMOOTHING,), loss=loss(label_smoothing=0.1)),
    TrainingFault(
        "a Float32 smoothing",
        "loss",
        (SMOOTHING,),
        loss=smoothed_in_float32,
    ),
    TrainingFault("sum and smoothing", "loss", (REDUCTION, SMOOTHING), loss=sum_of_smoothed),
    TrainingFault(
        "softmax twice", "loss", (SOFTMAX,), loss=lambda o, y: F.cross_entropy(o.softmax(1), y)
    ),
    TrainingFault("no softmax", "loss", (SOFTMAX,), loss=F.nll_loss),
    TrainingFault(
        "labels from 1", "loss", (SHIFTED,), loss=lambda o, y: F.cross_entropy(o, (y - 1) % 10)
    ),
    TrainingFault("detached block", "block.1", ("structure",), DetachedNet),
    TrainingFault("frozen weight", "block.0", ("structure",), frozen),
)
