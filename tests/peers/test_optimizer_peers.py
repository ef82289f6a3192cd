"""RMSprop as TensorFlow has it, by Keras' and timm's own; SGD and AdamW by Keras'."""

import os

import numpy as np
import pytest
import torch

from pymobilenet import TrainConfig
from pymobilenet.backends.numpy_optimizers import RULES, decayed
from pymobilenet.backends.torch.optimizers import RMSpropTF

os.environ["KERAS_BACKEND"] = "torch"

keras = pytest.importorskip("keras")
timm_optim = pytest.importorskip("timm.optim")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras"),
]

RATE = 0.125
"""Keras keeps the rate in float32."""

TF = {"optimizer": "rmsprop_tf", "alpha": 0.875, "eps": 1e-3}
START = np.random.default_rng(0).normal(size=(5, 4))
GRADS = np.random.default_rng(1).normal(size=(12, 5, 4)) * 10.0 ** np.arange(-3, 1)


def oracle(config):
    p, moments = START, [np.full(START.shape, config.start_of(slot)) for slot in config.moments]
    for step, found in enumerate(GRADS, start=1):
        before, grad = decayed(config, p, found, RATE)
        p, moments = RULES[config.optimizer](config, before, grad, moments, RATE, step)
    return p


def by_keras(optimizer):
    variable = keras.Variable(START, dtype="float64")
    for grad in GRADS:
        optimizer.apply([torch.from_numpy(grad)], [variable])
    return keras.ops.convert_to_numpy(variable)


def by_torch(make):
    parameter = torch.tensor(START, requires_grad=True)
    optimizer = make([parameter])
    for grad in GRADS:
        parameter.grad = torch.tensor(grad)
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_rmsprop_is_keras(momentum):
    optimizer = keras.optimizers.RMSprop(RATE, rho=0.875, momentum=momentum, epsilon=1e-3)
    expected = by_keras(optimizer)
    np.testing.assert_allclose(oracle(TrainConfig(momentum=momentum, **TF)), expected, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_rmsprop_is_that_of_timm_whose_mean_square_starts_at_one(momentum):
    config = TrainConfig(momentum=momentum, initial_square_avg=1, weight_decay=0.01, **TF)
    settings = {"alpha": 0.875, "eps": 1e-3, "momentum": momentum, "weight_decay": 0.01}
    expected = by_torch(lambda given: timm_optim.RMSpropTF(given, RATE, **settings))
    np.testing.assert_allclose(oracle(config), expected, rtol=1e-12)

    def own(given):
        optimizer = RMSpropTF([{"params": given, "weight_decay": 0.01}], config)
        optimizer.param_groups[0]["lr"] = RATE
        return optimizer

    np.testing.assert_allclose(by_torch(own), expected, rtol=1e-12)


def test_nesterov_is_keras_while_the_rate_is_constant():
    optimizer = keras.optimizers.SGD(RATE, momentum=0.75, nesterov=True)
    found = oracle(TrainConfig(momentum=0.75, nesterov=True))
    np.testing.assert_allclose(found, by_keras(optimizer), rtol=1e-12)


def test_adamw_is_keras_but_for_where_it_adds_its_eps():
    """Keras adds eps to the root before its correction: the same where eps is nothing."""
    optimizer = keras.optimizers.AdamW(
        RATE, weight_decay=0.0625, beta_1=0.75, beta_2=0.875, epsilon=0
    )
    config = TrainConfig("adamw", beta1=0.75, beta2=0.875, eps=0, weight_decay=0.0625)
    np.testing.assert_allclose(oracle(config), by_keras(optimizer), rtol=1e-6)
