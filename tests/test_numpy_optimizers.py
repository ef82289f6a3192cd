"""The oracle's optimizers against worked examples and torch.optim in float64."""

import math

import numpy as np
import pytest
import torch
from recipes import RECIPES, SLOTS, torch_optimizer

from pymobilenet import TrainConfig
from pymobilenet.backends.numpy_optimizers import (
    UPDATE_RULES,
    adam,
    apply_decay,
    clip_gradients,
    rmsprop,
    rmsprop_tf,
    sgd,
)
from pymobilenet.config import OPTIMIZERS

SHAPES = {"conv": (4, 3, 3, 3), "norm": (4,), "weight": (5, 4), "bias": (5,)}


def test_there_is_a_rule_for_every_optimizer():
    assert tuple(UPDATE_RULES) == OPTIMIZERS
    assert {recipe.optimizer for recipe in RECIPES.values()} == set(OPTIMIZERS)


def test_the_velocity_of_sgd_does_not_contain_the_rate():
    config = TrainConfig(optimizer="sgd", momentum=0.5)
    p, moments = sgd(config, np.array(1.0), np.array(4.0), (np.array(0.0),), rate=0.25, step=1)
    assert (p, *moments) == (0.0, 4.0)
    p, moments = sgd(config, p, np.array(-1.0), moments, rate=0.5, step=2)
    assert (p, *moments) == (-0.5, 1.0)


def test_nesterov_looks_ahead_by_one_momentum():
    config = TrainConfig(optimizer="sgd", momentum=0.5, nesterov=True)
    p, moments = sgd(config, np.array(1.0), np.array(4.0), (np.array(2.0),), rate=0.25, step=1)
    assert moments == (5.0,)
    assert p == 1 - 0.25 * (4 + 0.5 * 5)


def test_adam_corrects_both_moments_and_adds_eps_to_the_root():
    config = TrainConfig(optimizer="adam", beta1=0.5, beta2=0.75, eps=1.0)
    zeros = (np.array(0.0), np.array(0.0))
    p, moments = adam(config, np.array(1.0), np.array(2.0), zeros, rate=0.1, step=1)
    assert moments == (1.0, 1.0)  # corrected: 1 / (1 - 0.5) = 2 and 1 / (1 - 0.75) = 4
    assert p == pytest.approx(1 - 0.1 * 2 / (2 + 1), rel=1e-15)
    q, moments = adam(config, p, np.array(3.0), moments, rate=0.2, step=2)
    assert moments == (2.0, 3.0)  # corrected: 2 / (1 - 0.25) and 3 / (1 - 0.5625)
    assert q == pytest.approx(p - 0.2 * (8 / 3) / (math.sqrt(48 / 7) + 1), rel=1e-15)


def test_rmsprop_adds_eps_to_the_root_and_its_momentum_does_not_contain_the_rate():
    config = TrainConfig(optimizer="rmsprop", alpha=0.75, eps=1.0, momentum=0.5)
    moments = (np.array(2.0), np.array(4.0))
    p, moments = rmsprop(config, np.array(1.0), np.array(-2.0), moments, rate=0.1, step=1)
    assert moments == (0.5 * 2 - 2 / (2 + 1), 4.0)
    assert p == pytest.approx(1 - 0.1 * (1 - 2 / 3), rel=1e-15)


def test_tensorflows_rmsprop_adds_eps_under_the_root_and_its_momentum_contains_the_rate():
    config = TrainConfig(optimizer="rmsprop_tf", alpha=0.75, eps=1.0, momentum=0.5)
    moments = (np.array(2.0), np.array(8.0))
    p, moments = rmsprop_tf(config, np.array(1.0), np.array(-6.0), moments, rate=0.25, step=1)
    assert moments == (0.5 * 2 - 0.25 * 6 / 4, 15.0)
    assert p == 1 - 0.625


def test_decay_is_added_to_the_gradient_except_in_adamw():
    p, grad = np.full((2, 1), 4.0), np.full((2, 1), 1.0)
    for optimizer, expected in (("sgd", (4.0, 3.0)), ("rmsprop", (4.0, 3.0)), ("adamw", (3.8, 1))):
        config = TrainConfig(optimizer=optimizer, weight_decay=0.5)
        result = apply_decay(config, p, grad, rate=0.1)
        assert [array[0, 0] for array in result] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_parameters_with_one_axis_are_decayed_only_with_decay_all(optimizer):
    p, grad = np.ones(2), np.ones(2)
    weights_only = TrainConfig(optimizer=optimizer, weight_decay=0.5, decay_all=False)
    assert all((array == 1).all() for array in apply_decay(weights_only, p, grad, rate=0.1))
    all_parameters = TrainConfig(optimizer=optimizer, weight_decay=0.5)
    assert not all((array == 1).all() for array in apply_decay(all_parameters, p, grad, rate=0.1))


def test_gradients_are_clipped_by_their_common_norm():
    grads = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    result = clip_gradients(grads, 2.5)
    assert result["a"][0] == pytest.approx(1.5, rel=1e-6)
    assert result["b"][0, 0] == pytest.approx(2.0, rel=1e-6)
    for clip_norm in (0, 6):
        assert all((clip_gradients(grads, clip_norm)[name] == grads[name]).all() for name in grads)


def by_torch(recipe, start, grads, rates):
    """Parameters and moments after steps of torch.optim with these gradients."""
    parameters = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    optimizer, step = torch_optimizer(recipe, parameters.values())
    for step_grads, rate in zip(grads, rates, strict=True):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(step_grads[name])
        step(rate)
    moments = {
        (slot, name): optimizer.state[parameter][SLOTS[slot]].numpy()
        for name, parameter in parameters.items()
        for slot in recipe.moments
    }
    return {name: p.detach().numpy() for name, p in parameters.items()}, moments


@pytest.mark.parametrize("name", [name for name in RECIPES if "tf" not in name])
def test_steps_equal_those_of_torch_in_float64(name):
    recipe, rng = RECIPES[name], np.random.default_rng(2)
    rates = 0.1 * rng.random(20)
    start = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    grads = [{n: rng.normal(size=s) * 10 ** rng.uniform(-3, 1) for n, s in SHAPES.items()}] * 10
    grads += [{n: rng.normal(size=s) * 1e-3 for n, s in SHAPES.items()} for _ in range(10)]
    expected, expected_moments = by_torch(recipe, start, grads, rates)
    state = dict(start)
    moments = {
        n: [np.full(s, recipe.start_of(x)) for x in recipe.moments] for n, s in SHAPES.items()
    }
    for index, (step_grads, rate) in enumerate(zip(grads, rates, strict=True)):
        for n, grad in clip_gradients(step_grads, recipe.clip_norm).items():
            p, grad = apply_decay(recipe, state[n], grad, rate)
            state[n], moments[n] = UPDATE_RULES[recipe.optimizer](
                recipe, p, grad, moments[n], rate, index + 1
            )
    for n in SHAPES:
        np.testing.assert_allclose(state[n], expected[n], rtol=1e-12, atol=1e-15)
        for slot, moment in zip(recipe.moments, moments[n], strict=True):
            np.testing.assert_allclose(moment, expected_moments[slot, n], rtol=1e-11, atol=1e-15)
