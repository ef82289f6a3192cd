"""The layers in NumPy, against torch, for random shapes and settings."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pymobilenet.parity.diff import participant
from pymobilenet.parity.diff.ops import ACTIVATIONS, OPERATIONS, compute
from pymobilenet.weights.perturb import distance

RNG = np.random.default_rng(1)
TOLERANCE = 64 * np.finfo(np.float64).eps


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def check(module, inputs):
    """The module's only layer, computed in NumPy, gives what torch gives."""
    (layer,) = participant(module).trace(inputs, "float64").layers
    assert layer.kind in OPERATIONS
    assert distance(compute(layer), layer.output) < TOLERANCE


@st.composite
def geometries(draw):
    """Kernel, stride, padding, dilation and groups that fit images of 7x9."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    return kernel, stride, padding, dilation, draw(st.sampled_from([1, 2, 4]))


@settings(deadline=None, max_examples=60)
@given(geometries(), st.booleans(), st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
def test_convolutions(geometry, bias, mode):
    kernel, stride, padding, dilation, groups = geometry
    conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias, mode)
    check(conv, np.random.default_rng(0).standard_normal((2, 4, 7, 9)))


@settings(deadline=None, max_examples=60)
@given(geometries(), st.booleans(), st.booleans())
def test_transposed_convolutions(geometry, bias, has_extra):
    kernel, stride, padding, dilation, groups = geometry
    extra = tuple(int(has_extra and s > 1) for s in stride)
    conv = nn.ConvTranspose2d(4, 8, kernel, stride, padding, extra, groups, bias, dilation)
    check(conv, np.random.default_rng(0).standard_normal((2, 4, 7, 9)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans())
def test_pools(size, stride, has_padding, ceil, counts):
    inputs = np.random.default_rng(0).standard_normal((2, 3, 7, 9))
    padding = size // 2 if has_padding else 0
    check(nn.MaxPool2d(size, stride, padding, ceil_mode=ceil), inputs)
    check(nn.AvgPool2d(size, stride, padding, False, counts), inputs)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([(14, 18), (3, 4), (7, 9), (10, 5), (1, 1)]),
    st.sampled_from(["nearest", "bilinear", "corners", "antialias"]),
)
def test_resizing_to_a_size(size, kind):
    def resize(x):
        mode = "nearest" if kind == "nearest" else "bilinear"
        corners = None if kind == "nearest" else kind == "corners"
        return F.interpolate(
            x, size, mode=mode, align_corners=corners, antialias=kind == "antialias"
        )

    check(Function(resize), np.random.default_rng(0).standard_normal((2, 3, 7, 9)))


@pytest.mark.parametrize("scale", [2, (2, 3), 1.5, 0.5])
@pytest.mark.parametrize("options", [{}, {"mode": "bilinear"}, {"mode": "corners"}])
def test_resizing_by_a_factor(scale, options):
    if options.get("mode") == "corners":
        options = {"mode": "bilinear", "align_corners": True}
    check(nn.Upsample(scale_factor=scale, **options), RNG.standard_normal((2, 3, 7, 9)))


def test_modes_of_resizing_that_are_not_computed_are_other_layers():
    layers = participant(nn.Upsample(scale_factor=2, mode="bicubic")).trace(
        RNG.standard_normal((2, 3, 7, 9)), "float64"
    )
    assert [layer.kind for layer in layers.layers] == []


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(4, 6, 3, padding="same", dilation=2),
        nn.BatchNorm2d(4, eps=1e-3).eval(),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm2d(4, affine=False),
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm([4, 6, 8]),
        nn.LayerNorm(8, elementwise_affine=False),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.AdaptiveAvgPool2d((4, 5)),
        nn.AdaptiveMaxPool2d((5, None)),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.Linear(8, 5, bias=False),
        nn.Softmax(1),
        nn.LogSoftmax(1),
        nn.Identity(),
        nn.Dropout(),
        nn.ReLU(),
        nn.ReLU6(),
        nn.Hardtanh(-2, 1),
        nn.LeakyReLU(0.2),
        nn.ELU(0.5),
        nn.Sigmoid(),
        nn.Hardsigmoid(),
        nn.Tanh(),
        nn.SiLU(),
        nn.Hardswish(),
        nn.Softplus(),
        nn.Mish(),
        nn.GELU(),
        nn.GELU("tanh"),
    ],
    ids=str,
)
def test_layers(module):
    shape = (2, 4, 8) if isinstance(module, nn.Conv1d) else (2, 4, 6, 8)
    check(module, 3 * np.random.default_rng(0).standard_normal(shape))


def test_every_activation_is_one_that_a_framework_has():
    inputs = torch.linspace(-8, 8, 101, dtype=torch.float64)
    functions = {
        "identity": lambda x: x,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    }
    for name, function in ACTIVATIONS.items():
        expected = functions.get(name) or getattr(F, name)
        np.testing.assert_allclose(function(inputs.numpy(), {}), expected(inputs), atol=1e-12)
