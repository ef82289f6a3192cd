"""For each known difference, the smallest pair of torch modules that shows it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

IMAGES = (4, 3, 8, 8)
VECTORS = (4, 6)


@dataclass(frozen=True)
class MinimalPair:
    """Two modules that differ in one thing.

    Attributes:
        first: As torch has it.
        second: With the difference.
        shape: Of the inputs.
        loss: The loss of the second, for a difference in training.
        is_training: Whether a training step shows it.
    """

    first: nn.Module
    second: nn.Module
    shape: tuple[int, ...] = IMAGES
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    is_training: bool = False

    def inputs(self) -> np.ndarray:
        """Return random inputs, of which many are outside of the range of ReLU6."""
        return 8 * np.random.default_rng(0).standard_normal(self.shape)

    def labels(self) -> np.ndarray | None:
        """Return labels for a training step, or None."""
        return np.arange(self.shape[0]) % 3 if self.is_training else None


class _Before(nn.Module):
    """A function of the input before a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], module: nn.Module) -> None:
        super().__init__()
        self.function, self.module = function, module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(self.function(x))


class _PaddedAtTheEnd(nn.Module):
    """A convolution with TensorFlow's padding."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.conv.weight, self.conv.bias, stride=2)


class _ZeroPaddedMax(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)


class _FlattenedLast(nn.Module):
    """Flatten with the channels last, as Keras does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class _Residual(nn.Module):
    """A convolution with its input added, times a factor."""

    def __init__(self, conv: nn.Module, factor: float) -> None:
        super().__init__()
        self.conv, self.factor = conv, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + x * self.factor


class _Resized(nn.Module):
    """Images that are made smaller, with or without antialiasing."""

    def __init__(self, antialias: bool) -> None:
        super().__init__()
        self.antialias = antialias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, (3, 5), mode="bilinear", antialias=self.antialias)


class _ResidualOf(nn.Module):
    """Two convolutions, to which the input of the first or of the second is added."""

    def __init__(self, is_first: bool) -> None:
        super().__init__()
        self.first, self.second, self.is_first = _conv(3, 1), _conv(3, 1), is_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.second(y) + (x if self.is_first else y)


class _EpsOutside(nn.LayerNorm):
    """A layer norm that adds eps to the deviation."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        centred = input - torch.mean(input, -1, keepdim=True)
        return centred / (input.std(-1, correction=0, keepdim=True) + self.eps)


class _FirstMaximum(torch.autograd.Function):
    """The larger of two neighbours; the gradient goes to the first that is about as large."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x)
        return F.max_pool2d(x, (1, 2))

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (x,) = context.saved_tensors
        left, right = x[..., ::2], x[..., 1::2]
        is_left = torch.isclose(left, torch.maximum(left, right), 1e-8, 0.0)
        masks = torch.stack([is_left, ~is_left], -1).flatten(-2)
        return gradients[0].repeat_interleave(2, -1) * masks


class _FirstMaxPool(nn.MaxPool2d):
    """A max pool with NNlib's gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return _FirstMaximum.apply(input)


class _BiasedNorm(nn.BatchNorm2d):
    """A batch norm whose running variance is biased."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        assert self.running_var is not None
        old = self.running_var.clone()
        output = super().forward(input)
        if self.training:
            new = input.detach().var((0, 2, 3), correction=0)
            self.running_var = old + 0.1 * (new - old)
        return output


def _conv(channels: int = 4, size: int = 3, **options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, channels, size, **options)  # type: ignore[arg-type]


def _linear(outputs: int = 6) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(VECTORS[1], outputs)


def _reweighted(
    module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor], *names: str
) -> MinimalPair:
    """Return a module, and its copy with changed parameters."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for name in names or ("weight",):
            tensor = getattr(other, name)
            tensor.copy_(change(tensor.clone()))
    shape = VECTORS if isinstance(module, nn.Linear) else IMAGES
    return MinimalPair(module, other, shape)


def _with(module: nn.Module, **attributes: object) -> MinimalPair:
    """Return a module, and its copy with other attributes."""
    other = copy.deepcopy(module)
    for name, value in attributes.items():
        setattr(other, name, value)
    return MinimalPair(module, other)


def _norm(**options: object) -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, **options)  # type: ignore[arg-type]
    if norm.running_mean is not None:
        norm.running_mean.normal_()
    nn.init.uniform_(norm.weight, 0.5, 2)
    return norm


def _flattened() -> MinimalPair:
    linear = nn.Linear(192, 6)
    return MinimalPair(nn.Sequential(nn.Flatten(), linear), nn.Sequential(_FlattenedLast(), linear))


def _classifier(norm: nn.Module) -> nn.Module:
    """A net with a norm and three classes."""
    torch.manual_seed(0)
    return nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))


def _loss(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], MinimalPair]:
    """Return a pair of one net with two losses."""
    net = _classifier(_norm())
    return lambda: MinimalPair(net, net, loss=loss, is_training=True)


def _trained(second: Callable[[], nn.Module]) -> Callable[[], MinimalPair]:
    """Return a pair of nets with two norms."""
    return lambda: MinimalPair(_classifier(_norm()), _classifier(second()), is_training=True)


def _biased() -> nn.Module:
    norm = _BiasedNorm(3)
    norm.load_state_dict(_norm().state_dict())
    return norm


def _pooled(pool: nn.Module) -> nn.Module:
    """Return a net with a pool of neighbours that are about equal."""
    factors = 1 + 1e-9 * torch.arange(16, dtype=torch.float64)
    torch.manual_seed(0)
    rest = nn.Sequential(nn.Conv2d(3, 3, 1), pool, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _Before(lambda x: x.repeat_interleave(2, 3) * factors.to(x.dtype), rest)


def _dropping() -> MinimalPair:
    conv = _conv()
    return MinimalPair(
        nn.Sequential(nn.Dropout(0.5), conv), _Before(lambda x: F.dropout(x, 0.5), conv)
    )


def _unbiased_conv(has_bias: bool) -> MinimalPair:
    """A convolution with a bias beside one without."""
    conv = _conv()
    other = copy.deepcopy(conv)
    other.bias = None
    return MinimalPair(conv, other) if has_bias else MinimalPair(other, conv)


def _unit(*layers: type[nn.Module]) -> nn.Module:
    """Return a norm, a convolution and the layers behind it, as a net has them."""
    torch.manual_seed(1)
    norms = [nn.BatchNorm2d(3) for layer in layers if layer is nn.BatchNorm2d]
    for norm in norms:
        nn.init.normal_(norm.bias)
    rest = iter(norms)
    behind = [next(rest) if layer is nn.BatchNorm2d else layer() for layer in layers]
    return nn.Sequential(_norm(), _conv(3), *behind)


def _untracked(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return the norm without running statistics, which uses those of the batch."""
    other = nn.BatchNorm2d(3, track_running_stats=False)
    other.weight, other.bias = norm.weight, norm.bias
    return other


MINIMAL_PAIRS: dict[str, Callable[[], MinimalPair]] = {
    "kernel flip": lambda: _reweighted(_conv(), lambda w: w.flip(2, 3)),
    "kernel height and width exchanged": lambda: _reweighted(_conv(), lambda w: w.transpose(2, 3)),
    "input and output channels exchanged": lambda: _reweighted(
        _conv(3), lambda w: w.transpose(0, 1)
    ),
    "dense weight transposed": lambda: _reweighted(_linear(), lambda w: w.T),
    "flatten order": _flattened,
    "order of classes": lambda: _reweighted(_linear(), lambda w: w.flip(0), "weight", "bias"),
    "channels reversed (RGB, BGR)": lambda: _reweighted(_conv(), lambda w: w.flip(1)),
    "input scaling": lambda: MinimalPair(_conv(), _Before(lambda x: x / 255, _conv())),
    "padding on one side": lambda: MinimalPair(
        _conv(stride=2, padding=1), _PaddedAtTheEnd(_conv(stride=2))
    ),
    "padding value": lambda: MinimalPair(
        _conv(padding=1), _conv(padding=1, padding_mode="reflect")
    ),
    "padding of a max pool": lambda: MinimalPair(
        nn.MaxPool2d(3, stride=2, padding=1), _ZeroPaddedMax()
    ),
    "padding counted in an average pool": lambda: _with(
        nn.AvgPool2d(3, stride=1, padding=1), count_include_pad=False
    ),
    "kind of pool": lambda: MinimalPair(nn.MaxPool2d(2), nn.AvgPool2d(2)),
    "windows of an adaptive pool": lambda: MinimalPair(
        nn.AdaptiveAvgPool2d(3), nn.AvgPool2d(4, stride=2)
    ),
    "corners in resizing (align_corners)": lambda: MinimalPair(
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    ),
    "antialiasing in resizing": lambda: MinimalPair(_Resized(False), _Resized(True)),
    "stride": lambda: MinimalPair(_conv(), _conv(stride=2)),
    "dilation": lambda: MinimalPair(_conv(padding=2), _conv(padding=2, dilation=2)),
    "groups": lambda: MinimalPair(_conv(3), _conv(3, groups=3)),
    "missing bias": lambda: _unbiased_conv(True),
    "additional bias": lambda: _unbiased_conv(False),
    "form of layer norm": lambda: MinimalPair(
        nn.LayerNorm(VECTORS[1], eps=0.1, elementwise_affine=False),
        _EpsOutside(VECTORS[1], eps=0.1, elementwise_affine=False),
        VECTORS,
    ),
    "eps of a norm": lambda: _with(_norm(), eps=1e-3),
    "norm in training mode": lambda: MinimalPair(_norm(affine=True), _untracked(_norm())),
    "parameters of a norm": lambda: _reweighted(_norm(), lambda w: w + 1),
    "activation function": lambda: MinimalPair(nn.ReLU6(), nn.ReLU()),
    "softmax": lambda: MinimalPair(nn.Softmax(1), nn.LogSoftmax(1), VECTORS),
    "weights in half precision": lambda: _reweighted(_conv(), lambda w: w.half().float()),
    "settings of the layer": lambda: MinimalPair(
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "other weights": lambda: _reweighted(_conv(), torch.randn_like),
    "missing residual": lambda: MinimalPair(
        _Residual(_conv(3, 1), 1.0), _Residual(_conv(3, 1), 0.0)
    ),
    "residual from another layer": lambda: MinimalPair(_ResidualOf(True), _ResidualOf(False)),
    "missing norm": lambda: MinimalPair(_unit(nn.BatchNorm2d, nn.ReLU), _unit(nn.ReLU)),
    "activation before norm": lambda: MinimalPair(
        _unit(nn.BatchNorm2d, nn.ReLU), _unit(nn.ReLU, nn.BatchNorm2d)
    ),
    "momentum of a norm": _trained(lambda: _norm(momentum=0.9)),
    "biased running variance": _trained(_biased),
    "gradient of a max pool": lambda: MinimalPair(
        _pooled(nn.MaxPool2d((1, 2))), _pooled(_FirstMaxPool((1, 2))), is_training=True
    ),
    "dropout active": _dropping,
    "reduction of the loss": _loss(lambda o, y: F.cross_entropy(o, y, reduction="sum")),
    "label smoothing": _loss(lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1)),
    "softmax and loss": _loss(lambda o, y: F.cross_entropy(o.softmax(1), y)),
    "labels counted from 1": _loss(lambda o, y: F.cross_entropy(o, (y + 1) % 3)),
}
"""Name of a known difference -> function that builds the pair."""
