"""Models and frozen functions in other programs: pickle, deepcopy, torch.jit.script."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

from pymobilenet import MobileNetConfig, TrainConfig, backend

CONFIG = MobileNetConfig("v2", width_mult=0.25, resolution=32, num_classes=7, dropout=0.2)
NAMES = ["numpy", "torch", pytest.param("julia", marks=pytest.mark.julia)]
COPIES = [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
LABELS = np.array([0, 1, 2, 3])
CONFIGS = [
    MobileNetConfig("v1", width_mult=0.1, resolution=32, num_classes=7),
    MobileNetConfig("v1_bottleneck", resolution=32, num_classes=7, activation="relu"),
    CONFIG,
]


def images(seed=0):
    return np.random.default_rng(seed).normal(size=(4, 3, 32, 32))


@pytest.fixture(params=NAMES)
def model(request):
    return backend(request.param).build(CONFIG, seed=3, dtype="float64")


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_a_copy_trains_as_the_model_and_apart_from_it(model, copied):
    model.set_optimizer(TrainConfig(optimizer="adam", rate=0.01, ema_decay=0.9))
    model.step(images(), LABELS, 0.01)
    before = model.get_state()
    other = copied(model)
    assert other.optimizer == model.optimizer
    other.step(images(1), LABELS, 0.01)
    after = model.get_state()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    model.step(images(1), LABELS, 0.01)
    expected, state = model.get_state(), other.get_state()
    assert all(np.array_equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_a_copied_frozen_function_has_the_weights_of_the_time_of_freezing(model, copied):
    frozen = model.freeze()
    expected = frozen(images())
    state = model.get_state()
    model.set_state(state | {"classifier.bias": state["classifier.bias"] + 1})
    np.testing.assert_array_equal(copied(frozen)(images()), expected)


@pytest.mark.parametrize("config", CONFIGS, ids=[config.family for config in CONFIGS])
def test_a_scripted_module_gives_the_same_numbers(config):
    module = backend("torch").build(config, seed=0).module
    x = torch.from_numpy(images().astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch recommends torch.export
        scripted = torch.jit.script(module)
    for mode in (False, True):
        outputs = []
        for net in (module.train(mode), scripted.train(mode)):
            torch.manual_seed(0)  # of dropout
            outputs.append(net(x))
        assert torch.equal(*outputs)
