"""The oracle's formulas against loops, worked examples and finite differences."""

import math

import numpy as np
import pytest
from finite_differences import slope_error
from hypothesis import given, settings
from hypothesis import strategies as st

from pymobilenet.backends import activation_masks
from pymobilenet.backends import numpy_layers as formulas

TOLERANCE = 1e-10
"""Measured: below 5e-12 in every case here."""


def draw(rng, *shape):
    """Random values; read-only, so that writing into them fails."""
    values = rng.standard_normal(shape)
    values.flags.writeable = False
    return values


@pytest.fixture
def rng():
    return np.random.default_rng(20170417)


# Convolution


def convolution_by_loops(x, weight, stride, padding, groups):
    count, _, height, width = x.shape
    outputs, inputs, rows, columns = weight.shape
    before = padding[0]
    out_height = (height + sum(padding) - rows) // stride + 1
    out_width = (width + sum(padding) - columns) // stride + 1
    y = np.zeros((count, outputs, out_height, out_width))
    for n, o, h, w in np.ndindex(*y.shape):
        for c, i, j in np.ndindex(inputs, rows, columns):
            row, column = h * stride + i - before, w * stride + j - before
            if 0 <= row < height and 0 <= column < width:
                channel = o // (outputs // groups) * inputs + c
                y[n, o, h, w] += weight[o, c, i, j] * x[n, channel, row, column]
    return y


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.sampled_from([(7, 11), (11, 7), (3, 3), (3, 8)]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([(1, 1), (3, 3), (2, 3), (1, 2)]),
    st.integers(1, 3),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.integers(0, 2**32),
)
def test_convolution_equals_seven_nested_loops(
    count, size, groups, inputs, outputs, kernel, stride, padding, seed
):
    rng = np.random.default_rng(seed)
    x, weight = (
        draw(rng, count, groups * inputs, *size),
        draw(rng, groups * outputs, inputs, *kernel),
    )
    expected = convolution_by_loops(x, weight, stride, padding, groups)
    result = formulas.conv(x, weight, stride, padding, groups)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)


def test_convolution_does_not_flip_its_kernel():
    x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    right_of_centre = np.zeros((1, 1, 3, 3))
    right_of_centre[0, 0, 1, 2] = 1
    expected = [[2, 3, 0], [5, 6, 0], [8, 9, 0]]
    np.testing.assert_array_equal(formulas.conv(x, right_of_centre, 1, (1, 1), 1)[0, 0], expected)


CONVOLUTIONS = {
    "full, stride 1": ((5, 3, 3, 3), 1, (1, 1), 1),
    "full, stride 2": ((5, 3, 3, 3), 2, (1, 1), 1),
    "depthwise, stride 1": ((4, 1, 3, 3), 1, (1, 1), 4),
    "depthwise, stride 2": ((4, 1, 3, 3), 2, (1, 1), 4),
    "pointwise": ((5, 4, 1, 1), 1, (0, 0), 1),
    "depthwise, padding after only": ((4, 1, 3, 3), 2, (0, 1), 4),
    "padding before only": ((5, 3, 3, 3), 2, (1, 0), 1),
    "two groups": ((6, 2, 3, 3), 2, (1, 1), 2),
    "depthwise, two outputs per channel": ((6, 1, 3, 3), 1, (1, 1), 3),
    "rectangular kernel without padding": ((2, 3, 2, 3), 2, (0, 0), 1),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(7, 11), (6, 6)])
def test_convolution_gradients(kind, size, rng):
    shape, *settings = CONVOLUTIONS[kind]
    x, weight = draw(rng, 2, shape[1] * settings[2], *size), draw(rng, *shape)
    grad = draw(rng, *formulas.conv(x, weight, *settings).shape)
    grad_x, grad_weight = formulas.conv_backward(grad, x, weight, *settings)
    assert (grad_x.shape, grad_weight.shape) == (x.shape, weight.shape)

    def loss_of_x(x):
        return np.vdot(formulas.conv(x, weight, *settings), grad)

    def loss_of_weight(weight):
        return np.vdot(formulas.conv(x, weight, *settings), grad)

    assert slope_error(loss_of_x, x, grad_x, rng) < TOLERANCE
    assert slope_error(loss_of_weight, weight, grad_weight, rng) < TOLERANCE


# Norm


@pytest.mark.parametrize("shape", [(3, 4, 7, 11), (2, 1, 1, 1), (1, 3, 2, 1), (130, 2, 5, 5)])
def test_batch_statistics_are_the_mean_and_the_biased_variance(shape, rng):
    x = 3 + draw(rng, *shape)
    statistics = formulas.batch_statistics(x)
    assert statistics.count == shape[0] * shape[2] * shape[3]
    for channel in range(shape[1]):
        values = x[:, channel].ravel().tolist()
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        assert statistics.mean[channel] == pytest.approx(mean, rel=1e-14)
        assert statistics.variance[channel] == pytest.approx(squares / len(values), rel=1e-13)
        assert statistics.unbiased_variance[channel] == pytest.approx(
            squares / (len(values) - 1), rel=1e-13
        )


def test_the_variance_is_accurate_with_a_large_mean(rng):
    x = draw(rng, 4, 3, 7, 11)
    shifted = formulas.batch_statistics(x + 2.0**26)
    np.testing.assert_allclose(shifted.variance, x.var(axis=(0, 2, 3)), rtol=1e-6)


def test_eps_is_added_to_the_variance_inside_the_root():
    statistics = formulas.Statistics(np.array([1.0]), np.array([0.21]), 1)
    x = np.full((1, 1, 1, 1), 3.0)
    assert formulas.normalise(x, statistics, eps=0.04).item() == pytest.approx(2 / 0.5)
    assert formulas.normalise_backward(x, statistics, eps=0.04).item() == pytest.approx(3 / 0.5)


def test_affine_scales_then_shifts_each_channel():
    x = np.array([1.0, 2.0]).reshape(1, 2, 1, 1)
    y = formulas.affine(x, np.array([10.0, 100.0]), np.array([3.0, 4.0]))
    assert y.ravel().tolist() == [13, 204]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("shape", [(3, 4, 7, 11), (1, 2, 3, 2), (3, 2, 1, 1)])
def test_norm_gradients(mode, shape, rng):
    eps = 1e-3
    x, weight, bias, grad = draw(rng, *shape), *draw(rng, 2, shape[1]), draw(rng, *shape)
    running = formulas.Statistics(draw(rng, shape[1]), 0.5 + draw(rng, shape[1]) ** 2, 0)

    def loss(x, weight, bias):
        statistics = formulas.batch_statistics(x) if mode == "train" else running
        return np.vdot(formulas.affine(formulas.normalise(x, statistics, eps), weight, bias), grad)

    statistics = formulas.batch_statistics(x) if mode == "train" else running
    normalised = formulas.normalise(x, statistics, eps)
    inner, grad_weight, grad_bias = formulas.affine_backward(grad, normalised, weight)
    if mode == "train":
        grad_x = formulas.normalise_batch_backward(inner, normalised, statistics, eps)
    else:
        grad_x = formulas.normalise_backward(inner, statistics, eps)
    assert slope_error(lambda value: loss(value, weight, bias), x, grad_x, rng) < TOLERANCE
    assert slope_error(lambda value: loss(x, value, bias), weight, grad_weight, rng) < TOLERANCE
    assert slope_error(lambda value: loss(x, weight, value), bias, grad_bias, rng) < TOLERANCE


# Activation, pooling, classifier, loss


@pytest.mark.parametrize(
    ("activation", "outputs", "gradients"),
    [("relu6", [0, 0, 3, 6, 6], [0, 0, 1, 0, 0]), ("relu", [0, 0, 3, 6, 7], [0, 0, 1, 1, 1])],
)
def test_activation_and_its_gradient_at_and_beside_the_kinks(activation, outputs, gradients):
    x = np.array([-1.0, 0.0, 3.0, 6.0, 7.0])
    mask = activation_masks(x, activation)
    assert formulas.activate(x, mask).tolist() == outputs
    assert formulas.activate_backward(np.ones(5), mask).tolist() == gradients


def test_a_mask_overrides_the_value():
    x = np.array([-1.0, 3.0, 7.0])
    for piece, outputs, gradient in [(0, [0, 0, 0], 0), (1, [-1, 3, 7], 1), (2, [6, 6, 6], 0)]:
        mask = np.full(3, piece, np.uint8)
        assert formulas.activate(x, mask).tolist() == outputs
        assert formulas.activate_backward(np.ones(3), mask).tolist() == [gradient] * 3


def test_activation_of_nan_is_nan():
    x = np.array([np.nan])
    assert np.isnan(formulas.activate(x, activation_masks(x, "relu6"))).all()


@pytest.mark.parametrize("activation", ["relu6", "relu"])
@pytest.mark.parametrize("is_random", [False, True])
def test_activation_gradient(activation, is_random, rng):
    x, grad = 4 * draw(rng, 2, 3, 7, 11), draw(rng, 2, 3, 7, 11)
    mask = activation_masks(x, activation)
    if is_random:
        mask = rng.integers(0, 3, x.shape).astype(np.uint8)
    else:  # further from a kink than the steps of the differences
        x = np.where(np.minimum(abs(x), abs(x - 6)) < 0.05, 3.0, x)
        mask = activation_masks(x, activation)

    def loss(x):
        masks = mask if is_random else activation_masks(x, activation)
        return np.vdot(formulas.activate(x, masks), grad)

    grad_x = formulas.activate_backward(grad, mask)
    assert slope_error(loss, x, grad_x, rng, steps=(1e-3, 1e-2)) < TOLERANCE


@pytest.mark.parametrize("size", [(7, 11), (1, 1)])
def test_mean_pool_and_its_gradient(size, rng):
    x, grad = draw(rng, 3, 4, *size), draw(rng, 3, 4)
    np.testing.assert_allclose(formulas.mean_pool(x), x.mean(axis=(2, 3)), rtol=1e-13)
    grad_x = formulas.mean_pool_backward(grad, *size)
    assert slope_error(lambda x: np.vdot(formulas.mean_pool(x), grad), x, grad_x, rng) < (TOLERANCE)


def test_linear_and_its_gradients(rng):
    x, weight, bias, grad = draw(rng, 3, 5), draw(rng, 4, 5), draw(rng, 4), draw(rng, 3, 4)
    for n, o in np.ndindex(3, 4):
        expected = math.fsum([*(x[n] * weight[o]), bias[o]])
        assert formulas.linear(x, weight, bias)[n, o] == pytest.approx(expected, abs=1e-14)
    grad_x, grad_weight, grad_bias = formulas.linear_backward(grad, x, weight)

    def loss(x, weight, bias):
        return np.vdot(formulas.linear(x, weight, bias), grad)

    assert slope_error(lambda value: loss(value, weight, bias), x, grad_x, rng) < TOLERANCE
    assert slope_error(lambda value: loss(x, value, bias), weight, grad_weight, rng) < TOLERANCE
    assert slope_error(lambda value: loss(x, weight, value), bias, grad_bias, rng) < TOLERANCE


def test_cross_entropy_is_the_mean_negative_log_probability():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    loss, grad = formulas.cross_entropy(np.log(probabilities) + 3, np.array([1, 2]))
    assert loss == pytest.approx(-(math.log(0.25) + math.log(0.7)) / 2, rel=1e-14)
    expected = (probabilities - [[0, 1, 0], [0, 0, 1]]) / 2
    np.testing.assert_allclose(grad, expected, rtol=0, atol=1e-15)


def test_cross_entropy_gradient(rng):
    logits, labels = draw(rng, 4, 7), np.array([0, 6, 3, 3])
    _, grad = formulas.cross_entropy(logits, labels)
    assert (
        slope_error(lambda m: formulas.cross_entropy(m, labels)[0], logits, grad, rng) < TOLERANCE
    )


def test_cross_entropy_gradient_of_distributions(rng):
    logits, values = draw(rng, 4, 7), rng.random((4, 7))
    targets = values / values.sum(axis=1, keepdims=True)
    _, grad = formulas.cross_entropy(logits, targets)
    assert (
        slope_error(lambda m: formulas.cross_entropy(m, targets)[0], logits, grad, rng) < TOLERANCE
    )


def test_the_smallest_cross_entropy_is_the_entropy_of_the_targets():
    targets = np.array([[0.5, 0.25, 0.25]])
    loss, grad = formulas.cross_entropy(np.log(targets) + 3, targets)
    assert loss == pytest.approx(1.5 * np.log(2), rel=1e-15)
    assert np.abs(grad).max() < 1e-16


def test_cross_entropy_of_huge_logits_does_not_overflow():
    loss, grad = formulas.cross_entropy(np.array([[1e4, -1e4, 0.0]]), np.array([1]))
    assert loss == 2e4
    assert grad.tolist() == [[1, -1, 0]]
