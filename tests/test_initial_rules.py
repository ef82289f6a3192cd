"""Each initialization scheme against its framework, and normal numbers."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pymobilenet import MobileNetConfig, backend
from pymobilenet.architecture import layers
from pymobilenet.errors import ConfigError
from pymobilenet.normal import logarithm, normal64, quantile
from pymobilenet.weights import initial_state

CONFIG = MobileNetConfig("v2", 0.5, num_classes=200)


def framework_draw(scheme, layer):
    """A convolution's weight, initialized by torch as in the framework."""
    conv = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel, groups=layer.groups, bias=False
    )
    if scheme == "torchvision":  # models/mobilenetv2.py
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv.weight.detach().numpy()


def deciles(values):
    return np.quantile(np.asarray(values, np.float64), np.linspace(0.05, 0.95, 19))


def assert_same_distribution(values, expected):
    """Deciles agree within five standard errors of a quantile of that many values."""
    scale, count = np.std(expected), min(np.size(values), np.size(expected))
    np.testing.assert_allclose(
        deciles(values), deciles(expected), atol=5 * 1.8 * scale / count**0.5
    )
    assert np.std(values) == pytest.approx(scale, rel=5 / count**0.5)


@pytest.mark.parametrize("scheme", ["torch", "torchvision"])
@pytest.mark.parametrize("role", ["stem", "depthwise", "expand", "project", "head"])
def test_convolutions_have_the_distribution_of_the_framework(scheme, role):
    torch.manual_seed(0)
    state = initial_state(CONFIG, 0, init=scheme)
    layer = [layer for layer in layers(CONFIG) if layer.role == role][-1]
    weight = state[f"{layer.name}.conv.weight"].ravel()
    expected = np.concatenate([framework_draw(scheme, layer).ravel() for _ in range(20)])
    assert_same_distribution(weight, expected)


def test_the_classifier_has_the_distribution_of_torch():
    torch.manual_seed(0)
    state, linear = initial_state(CONFIG, 0, init="torch"), nn.Linear(1280, 200)
    assert_same_distribution(state["classifier.weight"], linear.weight.detach().numpy())
    bound = 1 / math.sqrt(1280)
    assert 0.9 * bound < np.abs(state["classifier.bias"]).max() <= bound
    assert state["classifier.bias"].std() == pytest.approx(bound / math.sqrt(3), rel=0.15)


def test_the_classifier_has_the_distribution_of_torchvision():
    state = initial_state(CONFIG, 0, init="torchvision")
    assert state["classifier.weight"].std() == pytest.approx(0.01, rel=0.01)
    assert not state["classifier.bias"].any()


@pytest.mark.parametrize("scheme", ["flux", "keras"])
def test_glorot_uniform_with_the_fans_of_flux_and_keras(scheme):
    state = initial_state(CONFIG, 0, init=scheme)
    for layer in layers(CONFIG):
        taps, values = layer.kernel**2, state[f"{layer.name}.conv.weight"]
        fans = (values.shape[0] + values.shape[1]) * taps
        if scheme == "keras" and layer.groups > 1:  # kernel (kh, kw, C, 1)
            fans = taps * layer.in_channels + taps
        bound = math.sqrt(6 / fans)
        assert np.abs(values).max() <= bound * (1 + 2**-24)
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=4 / values.size**0.5)
    bound = math.sqrt(6 / 1480)
    assert 0.999 * bound < np.abs(state["classifier.weight"]).max() <= bound
    assert not state["classifier.bias"].any()


def test_schemes_differ_and_every_backend_gives_the_same_bits():
    small = MobileNetConfig("v2", 0.35, num_classes=5)
    for scheme in ("he", "torch", "flux", "torchvision", "keras"):
        expected = initial_state(small, 3, "float64", scheme)
        for name in ("torch", "numpy"):
            state = backend(name).build(small, 3, "float64", init=scheme).get_state()
            assert all((state[key] == expected[key]).all() for key in expected)
    bits = {initial_state(small, 3, init=r)["stem.conv.weight"].tobytes() for r in ("he", "torch")}
    assert len(bits) == 2


def test_an_unknown_scheme_is_refused():
    with pytest.raises(
        ConfigError, match=r"init must be one of he, torch, .*Received: 'orthogonal'"
    ):
        initial_state(CONFIG, 0, init="orthogonal")


@given(st.floats(2.0**-53, 1 - 2.0**-53, exclude_min=False))
def test_the_quantile_is_the_inverse_of_the_normal_distribution_function(u):
    (x,) = quantile(np.array([u]))
    assert x == pytest.approx(NormalDist().inv_cdf(u), rel=4e-15, abs=1e-15)


def test_the_quantile_inverts_the_error_function():
    u = np.array([1e-16, 1e-9, 0.01, 0.0749, 0.0751, 0.3, 0.5, 0.7, 0.95, 1 - 1e-9])
    probabilities = [0.5 * math.erfc(-x / math.sqrt(2)) for x in quantile(u)]
    np.testing.assert_allclose(probabilities, u, rtol=2e-14)


@given(st.floats(1e-300, 1e300))
def test_the_logarithm_is_accurate(x):
    (result,) = logarithm(np.array([x]))
    assert result == pytest.approx(math.log(x), rel=2e-15, abs=1e-15)


def test_normal_draws_are_normal():
    words = np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64)
    values = np.sort(normal64(words))
    expected = [NormalDist().cdf(value) for value in values[::100]]
    steps = np.arange(0, values.size, 100) / values.size
    assert np.abs(expected - steps).max() < 1.95 / math.sqrt(values.size)  # Kolmogorov, 0.1 %


def test_the_extreme_words_are_finite_and_opposite():
    low, high = normal64(np.array([0, 2**64 - 1], np.uint64))
    assert low == -high
    assert 8.2 < high < 8.3
