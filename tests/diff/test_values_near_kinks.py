"""In float32, a value that rounding puts on the other side of a kink accuses no correct pair."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pymobilenet.backends.trace import Layer, Trace
from pymobilenet.parity.diff import compare
from pymobilenet.parity.diff.kinks import layers_near_kinks

LABELS = np.array([0, 3, 1])
STEP = 2.0**-24


def inputs():
    return np.random.default_rng(0).standard_normal((3, 6))


class Net(nn.Module):
    """A hidden value of the first sample is `distance` from the kink; with `offset`, beyond it."""

    def __init__(self, distance, offset=0.0, is_scalable=True):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.act, self.out = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)
        x = torch.from_numpy(inputs()).float()
        with torch.no_grad():
            if is_scalable:  # the bias holds the value there: other inputs move it
                self.hidden.bias[2] -= self.hidden(x)[0, 2] - distance
            else:
                self.hidden.bias.zero_()
                self.hidden.weight[2] -= x[0] * (self.hidden(x)[0, 2] / (x[0] @ x[0]))
                self.hidden.weight[2, 0] += distance / x[0, 0]
            self.hidden.bias[2] += offset

    def forward(self, x):
        return self.out(self.act(self.hidden(x)))


def report(first, second, dtype="float32"):
    return compare(first, second, inputs=inputs(), labels=LABELS, dtype=dtype)


def test_other_inputs_are_taken_where_a_value_is_near_a_kink():
    pair = Net(2 * STEP), Net(2 * STEP, offset=-4 * STEP)
    result = report(*pair)
    assert result.passed, str(result)
    assert result.comparisons[0].training.near_kinks == ()


def test_gradients_before_a_kink_that_stays_near_are_not_judged(tmp_path):
    pair = [Net(2 * STEP, offset, is_scalable=False) for offset in (0.0, -4 * STEP)]
    result = report(*pair)
    training = result.comparisons[0].training
    assert training.near_kinks == ("act",)
    assert result.passed, str(result)
    assert "not judged: gradients before act, where values are within rounding" in str(result)
    infinite = {row.name for row in training.rows if row.floor == float("inf")}
    assert infinite == {"hidden: weight", "hidden: bias"}
    result.save(tmp_path)


def test_a_fault_behind_the_kink_is_found_all_the_same():
    first = Net(2 * STEP, is_scalable=False)
    second = copy.deepcopy(first)
    second.out.weight.requires_grad_(False)
    result = report(first, second)
    assert not result.passed
    assert "the second model has no gradient of weight" in str(result)


def test_a_value_far_from_rounding_is_judged():
    pair = Net(1e-3), Net(1e-3, offset=-2e-3)
    assert not report(*pair).passed
    assert report(Net(1e-3), Net(1e-3)).passed


def test_float64_is_not_near_a_kink_of_float32():
    result = report(Net(2 * STEP), Net(2 * STEP), "float64")
    assert result.passed
    assert result.comparisons[0].training.near_kinks == ()


def trace(*layers):
    return Trace(layers, np.ones((2, 2), np.float32))


@pytest.mark.parametrize(
    ("kind", "settings", "value", "is_near"),
    [
        ("activation", {"function": "relu"}, 1e-7, True),
        ("activation", {"function": "relu"}, 0.0, False),  # exactly there in both
        ("activation", {"function": "relu"}, 1e-2, False),
        ("activation", {"function": "relu6"}, 6 - 1e-6, True),
        ("activation", {"function": "hardtanh", "low": -1.0, "high": 1.0}, 1 + 1e-7, True),
        ("activation", {"function": "hardswish"}, -3 + 1e-6, True),
        ("activation", {"function": "tanh"}, 1e-7, False),
        ("mean_pool", {"output_size": (1, 1)}, 1e-7, False),
    ],
)
def test_layers_with_kinks(kind, settings, value, is_near):
    x = np.full((2, 1, 2, 2), 2.0, np.float32)
    x[0, 0, 0, 0] = value
    layer = Layer("it", kind, (x,), x, settings=settings)
    assert layers_near_kinks(trace(layer), {}) == ["it"] * is_near


@pytest.mark.parametrize(("second", "is_near"), [(1.0, False), (1 + 2e-7, True), (0.5, False)])
def test_a_max_pool_is_near_a_kink_where_two_values_are_nearly_the_largest(second, is_near):
    x = np.zeros((2, 1, 2, 2), np.float32)
    x[:, 0, 0] = 1, second
    settings = {"size": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
    layer = Layer("pool", "max_pool", (x,), x, settings=settings)
    assert layers_near_kinks(trace(layer), {}) == ["pool"] * is_near


def test_a_larger_error_before_a_layer_makes_more_values_near():
    x = np.full((2, 1, 2, 2), 1.0, np.float32)
    x[0, 0, 0, 0] = 1e-4
    layers = (
        Layer("conv", "conv", (x,), x),
        Layer("act", "activation", (x,), x, settings={"function": "relu"}),
    )
    assert layers_near_kinks(trace(*layers), {}) == []
    assert layers_near_kinks(trace(*layers), {"conv": 1e-4}) == ["act"]
