"""Gradient accumulation in every backend, compared with separate micro-batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipes import RECIPES, torch_optimizer
from small_models import assert_same_bits
from torch_reference import STATE, Reference

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.architecture import parameter_shapes, statistic_shapes
from pymobilenet.backends.batch import Batch
from pymobilenet.data import synthetic
from pymobilenet.errors import ConfigError, DataError

CONFIG = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=7, stem_stride=1)
PLAIN = {"momentum": 0, "batch_size": 6}

NAMES = ["numpy", "torch", pytest.param("julia", marks=pytest.mark.julia)]
by_backend = pytest.mark.parametrize("name", NAMES)


def build(name):
    return backend(name).from_state(CONFIG, STATE)


def batch(count=6, seed=0):
    """A batch with soft labels and dropout factors, so that every kind of array is sliced."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, 3, 9, 7))
    labels = rng.random((count, 7)) ** 3
    masks = {"dropout": (rng.random((count, 102)) < 0.7) / 0.7}
    return Batch(images, labels / labels.sum(axis=1, keepdims=True), masks)


def take_step(model, batch, rate=0.1):
    return model.step(batch.images, batch.labels, rate, batch.masks)


@by_backend
@pytest.mark.parametrize("count", [2, 3])
def test_loss_and_gradients_are_means_over_the_micro_batches(name, count):
    model, whole_batch = build(name), batch()
    results = [model.loss_and_grads(*whole_batch.micro_batch(k, count)) for k in range(count)]
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=count))
    loss, grads = take_step(model, whole_batch)
    assert loss == pytest.approx(sum(loss for loss, _ in results) / count, rel=1e-13)
    state = model.get_state()
    for key in parameter_shapes(CONFIG):
        mean = sum(np.asarray(grads[key]) for _, grads in results) / count
        assert np.linalg.norm(grads[key] - mean) <= 1e-10 * np.linalg.norm(mean), key
        np.testing.assert_allclose(state[key], STATE[key] - 0.1 * grads[key], rtol=1e-12)


@by_backend
def test_each_micro_batch_updates_the_running_statistics(name):
    model, other, whole_batch = build(name), build(name), batch()
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=3))
    other.set_optimizer(TrainConfig(**PLAIN))
    take_step(model, whole_batch)
    for number in range(3):
        take_step(other, whole_batch.micro_batch(number, 3), rate=0.0)
    state, expected = model.get_state(), other.get_state()
    names = list(statistic_shapes(CONFIG))
    assert_same_bits({k: state[k] for k in names}, {k: expected[k] for k in names})


@by_backend
def test_moments_averages_and_step_count_are_updated_once(name):
    model, whole_batch = build(name), batch()
    model.set_optimizer(TrainConfig(batch_size=6, accumulate=2, ema_decay=0.75))
    _, grads = take_step(model, whole_batch)
    state = model.get_state()
    assert state["optimizer.step"] == 1
    for key, grad in grads.items():
        np.testing.assert_allclose(state[f"optimizer.momentum.{key}"], grad, rtol=1e-14)
        average = STATE[key] + 0.25 * (state[key] - STATE[key])
        np.testing.assert_allclose(state[f"optimizer.ema.{key}"], average, rtol=1e-13)


@by_backend
def test_loss_and_grads_does_not_split_its_batch(name):
    model, whole_batch = build(name), batch()
    expected = model.loss_and_grads(*whole_batch)
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=2))
    loss, grads = model.loss_and_grads(*whole_batch)
    assert loss == expected[0]
    assert_same_bits(dict(grads), dict(expected[1]))
    assert take_step(model, whole_batch)[0] != loss


@by_backend
def test_a_batch_that_does_not_divide_is_refused_and_changes_nothing(name):
    model = build(name)
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=2))
    before = model.get_state()
    rule = "must be a multiple of the optimizer's accumulate, 2. Received: 5"
    with pytest.raises(DataError, match=rule):
        take_step(model, batch(5))
    with pytest.raises(DataError, match="Received: batch 1 with a last map of 1x1"):
        take_step(model, batch(2))
    wrong = batch()
    wrong.labels[5] = np.nan  # in the last micro-batch
    with pytest.raises(DataError, match=r"must not be negative\. Received: nan"):
        take_step(model, wrong)
    assert_same_bits(model.get_state(), before)


@pytest.mark.parametrize("name", ["sgd, all options", "adamw", "rmsprop, all options"])
def test_steps_equal_gradient_accumulation_in_plain_torch(name):
    """PyTorch's usual loop: each loss divided by the number of micro-batches, then one step."""
    fields = RECIPES[name].to_dict() | {"batch_size": 6, "accumulate": 3}
    model = backend("torch").from_state(CONFIG, STATE)
    model.set_optimizer(TrainConfig(**fields))
    reference = Reference(CONFIG).load(STATE).train()
    optimizer, step = torch_optimizer(RECIPES[name], reference.parameters())
    for seed, rate in enumerate((0.1, 0.02)):
        images, labels, _ = batch(seed=seed)
        loss, _ = model.step(images, labels, rate)
        optimizer.zero_grad()
        expected = 0.0
        for number in range(3):
            rows = slice(2 * number, 2 * number + 2)
            logits = reference(torch.from_numpy(images[rows]))
            term = F.cross_entropy(logits, torch.from_numpy(labels[rows])) / 3
            term.backward()
            expected += term.item()
        step(rate)
        assert loss == pytest.approx(expected, rel=1e-12)
    state = model.get_state()
    for key, tensor in reference.state().items():
        assert np.linalg.norm(state[key] - tensor) <= 1e-8 * np.linalg.norm(tensor), key


def test_fit_accumulates_gradients():
    data, recipe = synthetic(40, num_classes=5), TrainConfig(batch_size=8, steps=2, accumulate=2)
    losses = [
        backend(name).build(CONFIG, dtype="float64").fit(data, recipe).losses
        for name in ("numpy", "torch")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-10)


# The field


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_an_invalid_number_of_micro_batches_is_refused(count):
    with pytest.raises(ConfigError, match=r"accumulate must be .*at least 1\. Received"):
        TrainConfig(accumulate=count)


def test_unequal_micro_batches_are_refused():
    rule = "accumulate must divide batch_size. Received: 3 with batch_size 128"
    with pytest.raises(ConfigError, match=rule):
        TrainConfig(accumulate=3)
    assert TrainConfig(batch_size=6, accumulate=3).accumulate == 3


def test_the_default_is_one_micro_batch():
    older = TrainConfig().to_dict()
    del older["accumulate"]
    assert TrainConfig.from_dict(older) == TrainConfig()
    assert TrainConfig().accumulate == 1


def test_micro_batches_are_views_that_make_up_the_batch():
    whole_batch = batch()
    micro_batches = [whole_batch.micro_batch(number, 3) for number in range(3)]
    assert all(np.shares_memory(each.images, whole_batch.images) for each in micro_batches)
    assert_same_bits(
        {"images": np.concatenate([each.images for each in micro_batches])},
        {"images": whole_batch.images},
    )
    assert (np.concatenate([each.labels for each in micro_batches]) == whole_batch.labels).all()
    dropped = np.concatenate([each.masks["dropout"] for each in micro_batches])
    assert (dropped == whole_batch.masks["dropout"]).all()
