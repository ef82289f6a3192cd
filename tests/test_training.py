"""Batches, the training loop and accuracy."""

import contextlib

import numpy as np
import pytest
import torch
from known_model import Known, data_with

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import CIFAR100_MEAN, CIFAR100_STD, BatchPlan, apply, synthetic
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.training import Batches, accuracy, fit, rate_at

MODEL = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5)
DROPPING = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, dropout=0.25)
DATA = synthetic(40, num_classes=5)
RECIPE = TrainConfig(batch_size=8, steps=3, rate=0.05, seed=1)


def is_same(first, second):
    arrays = [*zip(first[:2], second[:2], strict=True)]
    arrays += [(first.masks[name], second.masks[name]) for name in first.masks | second.masks]
    return all(a.tobytes() == b.tobytes() for a, b in arrays)


# Batches


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_depends_on_its_step_only(dtype):
    forward = Batches(DATA, RECIPE, DROPPING, dtype)
    backward = Batches(DATA, RECIPE, DROPPING, dtype)
    steps = range(12)  # 5 per epoch
    expected = {step: forward.at(step) for step in steps}
    for step in reversed(steps):
        assert is_same(backward.at(step), expected[step])
    assert not any(is_same(expected[0], expected[step]) for step in steps[1:])


def test_images_are_the_normalised_crops_of_the_plan():
    batch = Batches(DATA, RECIPE, MODEL, "float32").at(7)
    plan = BatchPlan(seed=1, num_images=40, batch_size=8, crop_padding=4, flip=True).batch(7)
    pixels = apply(DATA.images, plan)
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (CIFAR100_MEAN, CIFAR100_STD))
    expected = ((pixels / 255 - mean) / std).astype(np.float32)
    assert batch.images.tobytes() == expected.tobytes()
    assert (batch.labels == DATA.labels[plan.indices]).all()
    assert batch.masks == {}


def test_seed_crop_and_flip_are_those_of_the_config():
    plain = TrainConfig(batch_size=8, seed=1, crop_padding=0, flip=False)
    batch = Batches(DATA, plain, MODEL, "float64").at(0)
    order = BatchPlan(1, 40, 8).order(0)[:8]
    pixels = batch.images * np.reshape(CIFAR100_STD, (3, 1, 1)) + np.reshape(
        CIFAR100_MEAN, (3, 1, 1)
    )
    assert (np.rint(pixels * 255) == DATA.images[order]).all()
    other = TrainConfig(batch_size=8, seed=2, crop_padding=0, flip=False)
    assert not is_same(Batches(DATA, other, MODEL, "float64").at(0), batch)


def test_dropout_factors_have_mean_1_and_differ_between_steps():
    wide = MobileNetConfig(num_classes=5, dropout=0.25)
    batches = Batches(DATA, RECIPE, wide, "float64")
    factors = np.stack([batches.at(step).masks["dropout"] for step in range(3)])
    assert factors.shape == (3, 8, 1024)
    assert set(np.unique(factors)) == {0, 1 / 0.75}
    assert factors.mean() == pytest.approx(1, abs=4 * (0.25 / 0.75 / factors.size) ** 0.5)
    assert not (factors[0] == factors[1]).all()
    assert not (factors[:, 0] == factors[:, 1]).all()


def test_dropout_factors_depend_on_the_seed():
    first, repeated, other = (
        Batches(DATA, TrainConfig(batch_size=8, seed=seed), DROPPING, "float32")
        .at(2)
        .masks["dropout"]
        for seed in (1, 1, 2)
    )
    assert first.dtype == np.float32
    assert first.tobytes() == repeated.tobytes()
    assert not (first == other).all()


def test_a_model_with_too_few_classes_is_refused():
    few = MobileNetConfig(width_mult=0.1, num_classes=4)
    with pytest.raises(DataError, match=r"SYNTHETIC.*has 5 classes.*Received: num_classes 4"):
        Batches(DATA, RECIPE, few, "float32")
    Batches(DATA, RECIPE, MobileNetConfig(num_classes=1000), "float32")


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match=r"batch_size must be .* \[1, 40\]. Received: 41"):
        Batches(DATA, TrainConfig(batch_size=41), MODEL, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_label_smoothing_spreads_a_part_of_each_label_evenly(dtype):
    """PyTorch's definition: (1 - smoothing) of the label, smoothing / K of every class."""
    wide = MobileNetConfig(num_classes=7)
    train = TrainConfig(batch_size=8, seed=1, label_smoothing=0.1)
    plain = Batches(DATA, RECIPE, wide, dtype).at(2)
    targets = Batches(DATA, train, wide, dtype).at(2).labels
    assert (targets.shape, targets.dtype) == ((8, 7), np.dtype(dtype))
    number = np.dtype(dtype).type
    assert set(np.unique(targets)) == {number(0.1 / 7), number(0.9 + 0.1 / 7)}
    assert (targets.argmax(axis=1) == plain.labels).all()
    assert (plain.labels.ndim, plain.labels.dtype) == (1, np.dtype(np.int64))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_labels_are_smoothed(dtype, smoothing):
    train = TrainConfig(batch_size=8, seed=1, mixup=1, label_smoothing=smoothing)
    labels = Batches(DATA, train, MODEL, dtype).at(2).labels
    plan = BatchPlan(1, 40, 8, mixup=1).batch(2)
    expected = np.full((8, 5), smoothing / 5)
    for row, first, other, weight in zip(
        expected, plan.indices, plan.indices[plan.partners], plan.weights, strict=True
    ):
        row[DATA.labels[first]] += (1 - smoothing) * weight / 256
        row[DATA.labels[other]] += (1 - smoothing) * (256 - weight) / 256
    assert labels.dtype == np.dtype(dtype)
    np.testing.assert_allclose(labels, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


def test_smoothed_labels_give_the_loss_of_torch():
    model = backend("torch").build(MODEL, dtype="float64")
    train = TrainConfig(batch_size=8, label_smoothing=0.2)
    images, targets, _ = Batches(DATA, train, MODEL, "float64").at(0)
    logits = torch.from_numpy(model.activations(images, train=True)["logits"])
    labels = torch.from_numpy(targets.argmax(axis=1))
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2).item()
    assert model.loss_and_grads(images, targets)[0] == pytest.approx(expected, rel=1e-13)


# The loop


class Spy:
    """A fake model that records its arguments."""

    def __init__(self, config=MODEL):
        self.config, self.dtype, self.calls, self.optimizers = config, np.dtype("float64"), [], []
        self.compute_options = {}

    def set_optimizer(self, config):
        self.optimizers.append(config)

    def fitting(self):
        return contextlib.nullcontext()

    def step(self, images, labels, rate, masks=None):
        self.calls.append((images, labels, rate, masks))
        return 10.0 - len(self.calls), {}


def test_each_step_has_its_batch_rate_and_masks():
    spy = Spy(DROPPING)
    history = fit(spy, DATA, RECIPE)
    assert spy.optimizers == [RECIPE]
    assert history.losses == [9.0, 8.0, 7.0]
    batches = Batches(DATA, RECIPE, DROPPING, "float64")
    for step, (images, labels, rate, masks) in enumerate(spy.calls):
        expected = batches.at(step)
        assert is_same(type(expected)(images, labels, masks), expected)
        assert rate == 0.05


def test_rates_follow_the_schedule():
    train = TrainConfig(batch_size=8, steps=6, schedule="cosine", rate=0.2, warmup_steps=2)
    spy, records = Spy(), []
    fit(spy, DATA, train, [records.append])
    expected = [rate_at(train, step) for step in range(6)]
    assert [rate for _, _, rate, _ in spy.calls] == expected
    assert [record.rate for record in records] == expected


def test_callbacks_are_called_after_every_step_in_order():
    calls = []
    fit(Spy(), DATA, RECIPE, [calls.append, lambda record: calls.append(record.step)])
    assert calls == [(0, 9.0, 0.05), 0, (1, 8.0, 0.05), 1, (2, 7.0, 0.05), 2]


def test_an_exception_in_a_callback_ends_the_training():
    def stop(record):
        if record.step == 1:
            raise StopIteration("enough")

    spy = Spy()
    with pytest.raises(StopIteration, match="enough"):
        fit(spy, DATA, RECIPE, [stop])
    assert len(spy.calls) == 2


def test_zero_steps_give_an_empty_history():
    assert fit(Spy(), DATA, TrainConfig(steps=0, batch_size=8)).losses == []


def test_two_backends_see_the_same_batches_and_start_with_new_moments(monkeypatch):
    calls = {}
    for name in ("numpy", "torch"):
        model = backend(name).build(DROPPING, dtype="float64")
        step, calls[name] = model._step, []

        def record(*arguments, step=step, recorded=calls[name]):
            recorded.append(arguments)
            return step(*arguments)

        monkeypatch.setattr(model, "_step", record)
        losses = [model.fit(DATA, TrainConfig(batch_size=8, steps=2)).losses for _ in range(2)]
        assert losses[0] != losses[1]
        assert model.get_state()["optimizer.step"] == 2
    for (images, labels, rate, masks), other in zip(*calls.values(), strict=True):
        assert images.tobytes() == other[0].tobytes()
        assert (labels == other[1]).all()
        assert (rate, masks["dropout"].tobytes()) == (other[2], other[3]["dropout"].tobytes())


def test_training_lowers_the_loss_on_synthetic_images():
    config = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, stem_stride=1)
    model = backend("torch").build(config)
    recipe = TrainConfig(optimizer="adam", rate=3e-3, batch_size=40, steps=30, crop_padding=0)
    losses = model.fit(DATA, recipe).losses
    assert len(losses) == 30
    assert losses[-1] < 0.6 * losses[0]


# Accuracy


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_accuracy_counts_the_largest_and_the_five_largest_logits(batch_size):
    """Logits decrease from class 0 to 7 for every image: class c has rank c + 1."""
    model = Known([np.arange(8, 0, -1)] * 7)
    result = accuracy(model, data_with([0, 0, 1, 4, 5, 6, 7], 8), batch_size)
    assert result == (2 / 7, 4 / 7)
    sizes = list(map(len, model.inputs))
    assert sum(sizes) == 7
    assert max(sizes) <= batch_size


def test_with_fewer_than_five_classes_top5_is_1():
    assert accuracy(Known([[1, 2, 3]] * 3), data_with([0, 1, 2], 3)) == (1 / 3, 1)


def test_the_lower_class_wins_a_tie():
    assert accuracy(Known([[1, 1, 0]] * 2), data_with([0, 1], 3)).top1 == 0.5


def test_an_image_without_finite_logits_counts_as_wrong():
    logits = [[np.nan] * 5, [np.inf, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert accuracy(Known(logits), data_with([0, 0, 0], 5)) == (1 / 3, 1 / 3)


def test_an_invalid_batch_size_is_refused():
    with pytest.raises(ConfigError, match=r"batch_size must be at least 1. Received: 0"):
        accuracy(Known([[1, 2]]), data_with([0], 2), batch_size=0)


def test_images_are_normalised_but_not_augmented():
    model = Known(np.zeros((40, 5)))
    accuracy(model, DATA, batch_size=40)
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (CIFAR100_MEAN, CIFAR100_STD))
    expected = ((DATA.images / 255 - mean) / std).astype(np.float32)
    assert model.inputs[0].tobytes() == expected.tobytes()
