"""RMSpropTF against Keras and timm; SGD and AdamW against Keras."""

import os

import numpy as np
import pytest
import torch

from pymobilenet import TrainConfig
from pymobilenet.backends.numpy_optimizers import UPDATE_RULES, apply_decay
from pymobilenet.backends.torch.optimizers import RMSpropTF

os.environ["KERAS_BACKEND"] = "torch"

keras = pytest.importorskip("keras")
timm_optim = pytest.importorskip("timm.optim")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras"),
]

RATE = 0.125
"""Exact in float32, in which Keras stores the rate."""

TF = {"optimizer": "rmsprop_tf", "alpha": 0.875, "eps": 1e-3}
START = np.random.default_rng(0).normal(size=(5, 4))
GRADS = np.random.default_rng(1).normal(size=(12, 5, 4)) * 10.0 ** np.arange(-3, 1)


def oracle(config):
    p, moments = START, [np.full(START.shape, config.start_of(slot)) for slot in config.moments]
    for step, loss_grad in enumerate(GRADS, start=1):
        decayed, grad = apply_decay(config, p, loss_grad, RATE)
        p, moments = UPDATE_RULES[config.optimizer](config, decayed, grad, moments, RATE, step)
    return p


def by_keras(optimizer):
    variable = keras.Variable(START, dtype="float64")
    for grad in GRADS:
        optimizer.apply([torch.from_numpy(grad)], [variable])
    return keras.ops.convert_to_numpy(variable)


def by_torch(new_optimizer):
    parameter = torch.tensor(START, requires_grad=True)
    optimizer = new_optimizer([parameter])
    for grad in GRADS:
        parameter.grad = torch.tensor(grad)
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_rmsprop_tf_equals_keras(momentum):
    optimizer = keras.optimizers.RMSprop(RATE, rho=0.875, momentum=momentum, epsilon=1e-3)
    expected = by_keras(optimizer)
    np.testing.assert_allclose(oracle(TrainConfig(momentum=momentum, **TF)), expected, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_rmsprop_tf_equals_timm_with_initial_square_avg_1(momentum):
    config = TrainConfig(momentum=momentum, initial_square_avg=1, weight_decay=0.01, **TF)
    settings = {"alpha": 0.875, "eps": 1e-3, "momentum": momentum, "weight_decay": 0.01}
    expected = by_torch(lambda parameters: timm_optim.RMSpropTF(parameters, RATE, **settings))
    np.testing.assert_allclose(oracle(config), expected, rtol=1e-12)

    def rmsprop_tf(parameters):
        optimizer = RMSpropTF([{"params": parameters, "weight_decay": 0.01}], config)
        optimizer.param_groups[0]["lr"] = RATE
        return optimizer

    np.testing.assert_allclose(by_torch(rmsprop_tf), expected, rtol=1e-12)


def test_nesterov_equals_keras_at_a_constant_rate():
    optimizer = keras.optimizers.SGD(RATE, momentum=0.75, nesterov=True)
    result = oracle(TrainConfig(momentum=0.75, nesterov=True))
    np.testing.assert_allclose(result, by_keras(optimizer), rtol=1e-12)


def test_adamw_equals_keras_with_eps_0():
    """Keras adds eps to the root before the bias correction."""
    optimizer = keras.optimizers.AdamW(
        RATE, weight_decay=0.0625, beta_1=0.75, beta_2=0.875, epsilon=0
    )
    config = TrainConfig("adamw", beta1=0.75, beta2=0.875, eps=0, weight_decay=0.0625)
    np.testing.assert_allclose(oracle(config), by_keras(optimizer), rtol=1e-6)
