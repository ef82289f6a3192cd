"""What torch does where frameworks differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pymobilenet.backends.facts import Fact

_MAP = torch.arange(16.0).reshape(1, 1, 4, 4)
_LOGITS, _LABELS = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]), torch.tensor([0, 2])


def _stepped() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the tensors of a new norm after one step, and what it was given."""
    norm, values = nn.BatchNorm2d(1), torch.arange(8.0).reshape(2, 1, 2, 2)
    norm(values)
    return norm.state_dict(), values


def _correlates() -> bool:
    kernel = torch.tensor([[[[0.0, 1.0]]]])  # picks the right one of two pixels
    return torch.equal(F.conv2d(_MAP, kernel), _MAP[..., 1:])


def _momentum() -> bool:
    norm, values = _stepped()
    return torch.allclose(norm["running_mean"], 0.1 * values.mean())


def _unbiased() -> bool:
    norm, values = _stepped()
    return torch.allclose(norm["running_var"], 0.9 + 0.1 * values.var(unbiased=True))


def _layer_norm() -> bool:
    values = torch.tensor([[1.0, 2.0, 4.0]])
    centred = values - values.mean()
    expected = centred / torch.sqrt(values.var(unbiased=False) + 0.5)
    return torch.allclose(F.layer_norm(values, (3,), eps=0.5), expected)


def _stepped_values(
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    gradients: list[list[float]],
    start: float = 0.0,
    factor: float = 1.0,
) -> list[float]:
    """Return two parameters of one value after steps, whose rate is multiplied by `factor`."""
    parameters = [nn.Parameter(torch.full((1,), start)) for _ in range(2)]
    optimizer = build(parameters)
    for both in gradients:
        for parameter, gradient in zip(parameters, both, strict=True):
            parameter.grad = torch.tensor([float(gradient)])
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= factor
    return [parameter.item() for parameter in parameters]


def _one_value(
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    *gradients: float,
    **options: float,
) -> float:
    return _stepped_values(build, [[gradient, gradient] for gradient in gradients], **options)[0]


def _is(value: float, expected: float) -> bool:
    return abs(value - expected) < 1e-6


def _clips_together() -> bool:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for parameter, gradient in zip(parameters, (3.0, 4.0), strict=True):
        parameter.grad = torch.tensor([gradient])
    nn.utils.clip_grad_norm_(parameters, 1.0)
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.allclose(torch.cat(grads), torch.tensor([0.6, 0.8]), atol=1e-5)


def _max_pool_gradient() -> bool:
    row = torch.tensor([[[1 - 1e-6, 1.0]]], requires_grad=True)
    F.max_pool1d(row, 2).sum().backward()
    return row.grad is not None and torch.equal(row.grad.flatten(), torch.tensor([0.0, 1.0]))


def _resized(values: list[float], **options: Any) -> torch.Tensor:
    row = torch.tensor(values).reshape(1, 1, 1, -1)
    return F.interpolate(row, mode="bilinear", **options).flatten()


def _cross_entropy() -> bool:
    expected = -F.log_softmax(_LOGITS, 1)[[0, 1], _LABELS].mean()
    return torch.allclose(F.cross_entropy(_LOGITS, _LABELS), expected)


FACTS = tuple(
    Fact(difference, "torch", statement, check)
    for difference, statement, check in (
        ("kernel flip", "conv2d does not flip the kernel", _correlates),
        (
            "kernel height and width exchanged",
            "the weight of Conv2d is (out, in, height, width)",
            lambda: nn.Conv2d(3, 4, (5, 7)).weight.shape == (4, 3, 5, 7),
        ),
        (
            "input and output channels exchanged",
            "the weight of ConvTranspose2d is (in, out, height, width)",
            lambda: nn.ConvTranspose2d(3, 4, 2).weight.shape == (3, 4, 2, 2),
        ),
        (
            "dense weight transposed",
            "the weight of Linear is (out, in)",
            lambda: nn.Linear(3, 4).weight.shape == (4, 3),
        ),
        (
            "flatten order",
            "Flatten keeps the order (C, H, W)",
            lambda: torch.equal(
                nn.Flatten()(torch.arange(8.0).view(1, 2, 2, 2))[0].diff(), torch.ones(7)
            ),
        ),
        (
            "padding of a max pool",
            "the border of MaxPool2d never is the maximum",
            lambda: bool((F.max_pool2d(-_MAP - 1, 2, 2, 1) < 0).all()),
        ),
        (
            "padding counted in an average pool",
            "AvgPool2d counts the zeros of the border",
            lambda: bool(F.avg_pool2d(torch.ones(1, 1, 2, 2), 2, 2, 1).flatten()[0] == 0.25),
        ),
        (
            "windows of an adaptive pool",
            "the windows of AdaptiveAvgPool2d cover all pixels and differ in size",
            lambda: torch.allclose(
                F.adaptive_avg_pool1d(torch.arange(8.0).reshape(1, 1, 8), 3).flatten(),
                torch.tensor([1.0, 3.5, 6.0]),
            ),
        ),
        (
            "corners in resizing (align_corners)",
            "Upsample does not align corners",
            lambda: torch.allclose(
                _resized([0.0, 1.0], size=(1, 4)), torch.tensor([0.0, 0.25, 0.75, 1.0])
            ),
        ),
        (
            "antialiasing in resizing",
            "interpolate does not smooth",
            lambda: not _resized([1.0, 0, 0, 0, 0, 0, 0, 0], size=(1, 2)).any(),
        ),
        (
            "groups",
            "the weight of Conv2d has in / groups channels",
            lambda: nn.Conv2d(4, 8, 3, groups=2).weight.shape == (8, 2, 3, 3),
        ),
        ("form of layer norm", "layer_norm adds eps to the biased variance", _layer_norm),
        ("eps of a norm", "eps of BatchNorm2d is 1e-5", lambda: nn.BatchNorm2d(1).eps == 1e-5),
        (
            "activation function",
            "the slope of LeakyReLU is 0.01",
            lambda: nn.LeakyReLU().negative_slope == 0.01,
        ),
        (
            "activation function",
            "GELU is exact",
            lambda: torch.allclose(F.gelu(torch.ones(1)), torch.tensor(0.8413447), atol=1e-6),
        ),
        ("momentum of a norm", "the momentum is the weight of the batch, 0.1", _momentum),
        ("biased running variance", "the running variance is unbiased", _unbiased),
        ("gradient of a max pool", "the gradient goes to the largest value", _max_pool_gradient),
        (
            "dropout active",
            "F.dropout drops values unless it gets training=False",
            lambda: bool((F.dropout(torch.ones(1000), 0.5) == 0).any()),
        ),
        ("reduction of the loss", "cross_entropy is the mean over the batch", _cross_entropy),
        ("softmax and loss", "cross_entropy takes logits", _cross_entropy),
        (
            "labels counted from 1",
            "labels count from 0",
            lambda: torch.equal(F.one_hot(torch.tensor([0])), torch.tensor([[1]])),
        ),
        (
            "label smoothing",
            "label_smoothing spreads over all classes, the true one too",
            lambda: torch.allclose(
                F.cross_entropy(_LOGITS, _LABELS, label_smoothing=0.3),
                0.7 * F.cross_entropy(_LOGITS, _LABELS) - 0.3 * F.log_softmax(_LOGITS, 1).mean(),
            ),
        ),
        (
            "rate inside the momentum",
            "SGD multiplies the momentum by the present rate",
            lambda: _is(
                _one_value(lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), 1, 0, factor=0.1),
                -0.1 - 0.01 * 0.9,
            ),
        ),
        (
            "eps inside the root",
            "RMSprop adds eps to the root",
            lambda: _is(
                _one_value(lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.0, eps=1.0), 1), -0.05
            ),
        ),
        (
            "bias correction",
            "Adam corrects its averages",
            lambda: _is(_one_value(lambda p: torch.optim.Adam(p, 0.1), 1), -0.1),
        ),
        (
            "coupled weight decay",
            "the decay of Adam is coupled",
            lambda: _is(
                _one_value(lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.5), 0, start=1.0), 0.9
            ),
        ),
        (
            "coupled weight decay",
            "AdamW takes the decay times the rate from the parameter",
            lambda: _is(
                _one_value(lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.5), 0, start=1.0),
                0.95,
            ),
        ),
        (
            "weight decay on norms and biases",
            "weight_decay applies to parameters with one axis, too",
            lambda: _is(
                _one_value(lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.5), 0, start=1.0), 0.95
            ),
        ),
        (
            "form of Nesterov's momentum",
            "SGD adds the momentum to the gradient once more",
            lambda: _is(
                _one_value(lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), 1), -0.19
            ),
        ),
        (
            "clipping of each gradient",
            "clip_grad_norm_ limits the norm of all gradients together",
            _clips_together,
        ),
        (
            "constants of an optimizer",
            "alpha of RMSprop is 0.99",
            lambda: torch.optim.RMSprop([nn.Parameter(torch.ones(1))]).defaults["alpha"] == 0.99,
        ),
        (
            "constants of an optimizer",
            "the decay of AdamW is 0.01",
            lambda: (
                torch.optim.AdamW([nn.Parameter(torch.ones(1))]).defaults["weight_decay"] == 0.01
            ),
        ),
    )
)
"""In the order of the known differences."""
