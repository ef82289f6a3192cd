"""A step whose batch is taken in parts, in every backend alike, against what the parts give."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipes import RECIPES, torchs
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
    """With soft labels and dropout, so that everything there is has to be cut."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, 3, 9, 7))
    labels = rng.random((count, 7)) ** 3
    masks = {"dropout": (rng.random((count, 102)) < 0.7) / 0.7}
    return Batch(images, labels / labels.sum(axis=1, keepdims=True), masks)


def take_step(model, found, rate=0.1):
    return model.step(found.images, found.labels, rate, found.masks)


@by_backend
@pytest.mark.parametrize("count", [2, 3])
def test_loss_and_gradients_are_the_means_over_the_parts(name, count):
    model, whole = build(name), batch()
    found = [model.loss_and_grads(*whole.micro_batch(k, count)) for k in range(count)]
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=count))
    loss, grads = take_step(model, whole)
    assert loss == pytest.approx(sum(loss for loss, _ in found) / count, rel=1e-13)
    state = model.get_state()
    for key in parameter_shapes(CONFIG):
        mean = sum(np.asarray(grads[key]) for _, grads in found) / count
        assert np.linalg.norm(grads[key] - mean) <= 1e-10 * np.linalg.norm(mean), key
        np.testing.assert_allclose(state[key], STATE[key] - 0.1 * grads[key], rtol=1e-12)


@by_backend
def test_each_part_moves_the_running_statistics_in_turn(name):
    model, other, whole = build(name), build(name), batch()
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=3))
    other.set_optimizer(TrainConfig(**PLAIN))
    take_step(model, whole)
    for number in range(3):
        take_step(other, whole.micro_batch(number, 3), rate=0.0)
    found, expected = model.get_state(), other.get_state()
    names = list(statistic_shapes(CONFIG))
    assert_same_bits({k: found[k] for k in names}, {k: expected[k] for k in names})


@by_backend
def test_moments_averages_and_their_count_move_once(name):
    model, whole = build(name), batch()
    model.set_optimizer(TrainConfig(batch_size=6, accumulate=2, ema_decay=0.75))
    _, grads = take_step(model, whole)
    state = model.get_state()
    assert state["optimizer.step"] == 1
    for key, grad in grads.items():
        np.testing.assert_allclose(state[f"optimizer.momentum.{key}"], grad, rtol=1e-14)
        average = STATE[key] + 0.25 * (state[key] - STATE[key])
        np.testing.assert_allclose(state[f"optimizer.ema.{key}"], average, rtol=1e-13)


@by_backend
def test_loss_and_grads_takes_its_batch_whole(name):
    model, whole = build(name), batch()
    expected = model.loss_and_grads(*whole)
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=2))
    loss, grads = model.loss_and_grads(*whole)
    assert loss == expected[0]
    assert_same_bits(dict(grads), dict(expected[1]))
    assert take_step(model, whole)[0] != loss


@by_backend
def test_what_does_not_go_into_equal_parts_is_refused_and_moves_nothing(name):
    model = build(name)
    model.set_optimizer(TrainConfig(**PLAIN, accumulate=2))
    before = model.get_state()
    rule = "must be a multiple of the optimizer's accumulate, 2. Received: 5"
    with pytest.raises(DataError, match=rule):
        take_step(model, batch(5))
    with pytest.raises(DataError, match="Received: batch 1 with a last map of 1x1"):
        take_step(model, batch(2))
    wrong = batch()
    wrong.labels[5] = np.nan  # in the last part
    with pytest.raises(DataError, match=r"must not be negative\. Received: nan"):
        take_step(model, wrong)
    assert_same_bits(model.get_state(), before)


@pytest.mark.parametrize("name", ["sgd, all options", "adamw", "rmsprop, all options"])
def test_steps_are_those_of_a_loop_of_plain_torch(name):
    """The loop of torch's own pages: each part's loss over their number, then one step."""
    fields = RECIPES[name].to_dict() | {"batch_size": 6, "accumulate": 3}
    model = backend("torch").from_state(CONFIG, STATE)
    model.set_optimizer(TrainConfig(**fields))
    reference = Reference(CONFIG).take(STATE).train()
    optimizer, step = torchs(RECIPES[name], reference.parameters())
    for seed, rate in enumerate((0.1, 0.02)):
        images, labels, _ = batch(seed=seed)
        loss, _ = model.step(images, labels, rate)
        optimizer.zero_grad()
        expected = 0.0
        for number in range(3):
            part = slice(2 * number, 2 * number + 2)
            scores = reference(torch.from_numpy(images[part]))
            of_part = F.cross_entropy(scores, torch.from_numpy(labels[part])) / 3
            of_part.backward()
            expected += of_part.item()
        step(rate)
        assert loss == pytest.approx(expected, rel=1e-12)
    state = model.get_state()
    for key, tensor in reference.state().items():
        assert np.linalg.norm(state[key] - tensor) <= 1e-8 * np.linalg.norm(tensor), key


def test_a_run_takes_its_batches_in_parts():
    data, recipe = synthetic(40, num_classes=5), TrainConfig(batch_size=8, steps=2, accumulate=2)
    losses = [
        backend(name).build(CONFIG, dtype="float64").fit(data, recipe).losses
        for name in ("numpy", "torch")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-10)


# The field


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_a_number_of_parts_that_is_none_is_refused(count):
    with pytest.raises(ConfigError, match=r"accumulate must be .*at least 1\. Received"):
        TrainConfig(accumulate=count)


def test_parts_that_are_not_equal_are_refused():
    rule = "accumulate must divide batch_size. Received: 3 with batch_size 128"
    with pytest.raises(ConfigError, match=rule):
        TrainConfig(accumulate=3)
    assert TrainConfig(batch_size=6, accumulate=3).accumulate == 3


def test_a_recipe_without_the_field_takes_its_batches_whole():
    older = TrainConfig().to_dict()
    del older["accumulate"]
    assert TrainConfig.from_dict(older) == TrainConfig()
    assert TrainConfig().accumulate == 1


def test_parts_are_views_that_make_up_the_batch():
    whole = batch()
    parts = [whole.micro_batch(number, 3) for number in range(3)]
    assert all(np.shares_memory(part.images, whole.images) for part in parts)
    assert_same_bits(
        {"images": np.concatenate([part.images for part in parts])}, {"images": whole.images}
    )
    assert (np.concatenate([part.labels for part in parts]) == whole.labels).all()
    dropped = np.concatenate([part.masks["dropout"] for part in parts])
    assert (dropped == whole.masks["dropout"]).all()
