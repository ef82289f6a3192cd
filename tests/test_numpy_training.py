"""The oracle's steps update parameters, moments and running statistics as defined."""

import numpy as np
import pytest
from small_models import OPTIMIZERS, SMALL, assert_same_bits, batch, random_model

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.architecture import layers, parameter_shapes, statistic_shapes


@pytest.fixture
def model():
    return random_model(SMALL)


def test_a_step_moves_the_running_statistics_towards_the_batch(model):
    images, labels = batch()
    before, convs = model.get_state(), model.activations(images, train=True)
    model.set_optimizer(OPTIMIZERS[0])
    model.step(images, labels, 0.1)
    after = model.get_state()
    for layer in layers(SMALL):
        conv, norm = convs[f"{layer.name}.conv"], f"{layer.name}.norm"
        mean, unbiased = conv.mean(axis=(0, 2, 3)), conv.var(axis=(0, 2, 3), ddof=1)
        for name, new in ((f"{norm}.running_mean", mean), (f"{norm}.running_var", unbiased)):
            np.testing.assert_allclose(after[name], 0.9 * before[name] + 0.1 * new, rtol=1e-12)


def test_norm_momentum_is_the_weight_of_the_new_batch():
    config = MobileNetConfig(width_mult=0.1, num_classes=7, stem_stride=1, norm_momentum=1)
    model, (images, labels) = random_model(config), batch()
    model.set_optimizer(OPTIMIZERS[0])
    expected = model.activations(images, train=True)["stem.conv"].mean(axis=(0, 2, 3))
    model.step(images, labels, 0.1)
    np.testing.assert_allclose(model.get_state()["stem.norm.running_mean"], expected, rtol=1e-12)


def expected_sgd(config, grads, start, rates):
    velocity, p = 0.0, start
    for grad, rate in zip(grads, rates, strict=True):
        velocity = config.momentum * velocity + grad
        p = p - rate * velocity
    return {"": p, "optimizer.momentum.": velocity}


def expected_adam(config, grads, start, rates):
    first = second = 0.0
    p = start
    for step, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        first = config.beta1 * first + (1 - config.beta1) * grad
        second = config.beta2 * second + (1 - config.beta2) * grad**2
        root = np.sqrt(second / (1 - config.beta2**step))
        p = p - rate * first / (1 - config.beta1**step) / (root + config.eps)
    return {"": p, "optimizer.exp_avg.": first, "optimizer.exp_avg_sq.": second}


@pytest.mark.parametrize(
    ("config", "expected"),
    list(zip(OPTIMIZERS, [expected_sgd, expected_adam], strict=True)),
    ids=["sgd", "adam"],
)
def test_steps_follow_the_optimizer_with_the_given_rates(model, config, expected):
    model.set_optimizer(config)
    start = model.get_state()
    rates, step_grads = (0.1, 0.02, 0.3), []
    for index, rate in enumerate(rates):
        images, labels = batch(seed=index)
        expected_loss, expected_grads = model.loss_and_grads(images, labels)
        loss, grads = model.step(images, labels, rate)
        assert loss == expected_loss
        assert_same_bits(grads, expected_grads)
        step_grads.append(grads)
    end = model.get_state()
    assert end["optimizer.step"].shape == ()
    assert (end["optimizer.step"].dtype, end["optimizer.step"]) == (np.dtype(np.int64), 3)
    for name in parameter_shapes(SMALL):
        values = expected(config, [grads[name] for grads in step_grads], start[name], rates)
        for prefix, value in values.items():
            np.testing.assert_allclose(end[prefix + name], value, rtol=1e-9, atol=1e-13)


def test_sgd_without_momentum_has_no_slots(model):
    model.set_optimizer(TrainConfig(optimizer="sgd", momentum=0))
    images, labels = batch()
    expected = model.get_state()
    for rate in (0.1, 0.02):
        _, grads = model.step(images, labels, rate)
        for name, grad in grads.items():
            expected[name] = expected[name] - rate * grad
    state = model.get_state()
    assert set(state) == {*parameter_shapes(SMALL), *statistic_shapes(SMALL)}
    assert_same_bits(
        {name: state[name] for name in grads}, {name: expected[name] for name in grads}
    )


@pytest.mark.parametrize("config", OPTIMIZERS, ids=["sgd", "adam"])
def test_moments_start_at_zero_and_are_part_of_the_state(model, config):
    assert set(model.get_state()) == {*parameter_shapes(SMALL), *statistic_shapes(SMALL)}
    model.set_optimizer(config)
    for slot in config.slots:
        for name, shape in parameter_shapes(SMALL).items():
            moment = model.get_state()[f"optimizer.{slot}.{name}"]
            assert moment.shape == shape
            assert not moment.any()
    images, labels = batch()
    model.step(images, labels, 0.1)
    other = backend("numpy").from_state(SMALL, model.get_state())
    other.set_optimizer(config)
    other.set_state(model.get_state())
    model.step(images, labels, 0.1)
    other.step(images, labels, 0.1)
    assert_same_bits(other.get_state(), model.get_state())


def test_a_state_without_moments_leaves_the_moments_unchanged(model):
    images, labels = batch()
    weights = model.get_state()
    model.set_optimizer(OPTIMIZERS[0])
    model.step(images, labels, 0.1)
    trained = model.get_state()
    model.set_state(weights)
    assert_same_bits(model.get_state(), trained | weights)


def test_set_optimizer_discards_the_previous_moments(model):
    images, labels = batch()
    model.set_optimizer(OPTIMIZERS[0])
    model.step(images, labels, 0.1)
    model.set_optimizer(OPTIMIZERS[1])
    state = model.get_state()
    assert state["optimizer.step"] == 0
    assert not any(name.startswith("optimizer.momentum") for name in state)
    assert not state["optimizer.exp_avg.stem.conv.weight"].any()
