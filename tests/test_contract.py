"""The contract of `Model`, tested for every backend."""

import numpy as np
import pytest
from recipes import RECIPES

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.architecture import activation_names, parameter_shapes, statistic_shapes
from pymobilenet.backends import activation_masks
from pymobilenet.errors import ConfigError, DataError, WeightsError
from pymobilenet.weights import averaged

CONFIG = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=7)
SGD = TrainConfig(optimizer="sgd", rate=0.05)

NAMES = ["numpy", "torch", pytest.param("julia", marks=pytest.mark.julia)]
LIVE = NAMES[1:]


@pytest.fixture(params=NAMES)
def model(request):
    return backend(request.param).build(CONFIG, seed=3, dtype="float64")


def batch(count=4, dtype="float64", size=(32, 32), seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, 3, *size)).astype(dtype)
    return images, rng.integers(0, CONFIG.num_classes, count)


def test_a_seed_gives_the_same_initial_weights_in_every_backend(model):
    expected = backend("numpy").build(CONFIG, seed=3, dtype="float64").get_state()
    state = model.get_state()
    assert list(state) == list(expected)
    assert all(np.array_equal(state[name], expected[name]) for name in expected)


def test_state_has_the_canonical_names_and_shapes(model):
    shapes = {**parameter_shapes(CONFIG), **statistic_shapes(CONFIG)}
    assert {name: tensor.shape for name, tensor in model.get_state().items()} == shapes


def test_state_is_a_copy(model):
    images, labels = batch()
    model.set_optimizer(SGD)
    before = model.get_state()
    copies = {name: tensor.copy() for name, tensor in before.items()}
    model.step(images, labels, 0.05)
    assert all(np.array_equal(before[name], copies[name]) for name in copies)


@pytest.mark.parametrize("train", [False, True])
def test_activations_have_canonical_names_in_forward_order(model, train):
    images, _ = batch()
    activations = model.activations(images, train=train)
    assert tuple(activations) == activation_names(CONFIG)
    assert activations["stem.conv"].shape == (4, 8, 16, 16)
    assert activations["pool"].shape == (4, 256)
    assert activations["logits"].shape == (4, 7)


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_outputs_and_gradients_equal_the_oracles(model, size):
    images, labels = batch(size=size)
    oracle = backend("numpy").build(CONFIG, seed=3, dtype="float64")
    np.testing.assert_allclose(model.predict(images), oracle.predict(images), rtol=1e-9, atol=1e-12)
    loss, grads = model.loss_and_grads(images, labels)
    expected_loss, expected = oracle.loss_and_grads(images, labels)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert list(grads) == list(expected)
    for name, grad in expected.items():
        assert np.linalg.norm(grads[name] - grad) <= 1e-8 * np.linalg.norm(grad), name


def soft_labels(count=4, dtype="float64", seed=5):
    """A distribution over the classes for each image."""
    values = np.random.default_rng(seed).random((count, CONFIG.num_classes)) ** 3
    return (values / values.sum(axis=1, keepdims=True)).astype(dtype)


def test_a_one_hot_distribution_equals_the_label(model):
    images, labels = batch()
    loss, grads = model.loss_and_grads(images, labels)
    one_hot_loss, one_hot_grads = model.loss_and_grads(images, np.eye(7)[labels])
    assert one_hot_loss == pytest.approx(loss, rel=1e-14)
    for name, grad in grads.items():
        assert np.linalg.norm(one_hot_grads[name] - grad) <= 1e-10 * np.linalg.norm(grad), name


def test_losses_and_gradients_of_distributions_equal_the_oracles(model):
    images, _ = batch()
    oracle = backend("numpy").build(CONFIG, seed=3, dtype="float64")
    loss, grads = model.loss_and_grads(images, soft_labels())
    expected_loss, expected = oracle.loss_and_grads(images, soft_labels())
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    for name, grad in expected.items():
        assert np.linalg.norm(grads[name] - grad) <= 1e-8 * np.linalg.norm(grad), name


def test_the_loss_of_a_mixture_of_labels_is_the_mixture_of_their_losses(model):
    images, labels = batch()
    other = (labels + 3) % 7
    mixed = 0.75 * np.eye(7)[labels] + 0.25 * np.eye(7)[other]
    losses = [model.loss_and_grads(images, each)[0] for each in (labels, other, mixed)]
    assert losses[2] == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-12)


def test_a_step_accepts_distributions(model):
    images, _ = batch()
    model.set_optimizer(SGD)
    before = model.get_state()["classifier.bias"]
    _, grads = model.step(images, soft_labels(), 0.5)
    after = model.get_state()["classifier.bias"]
    np.testing.assert_allclose(after, before - 0.5 * grads["classifier.bias"], rtol=1e-14)


def test_loss_and_grads_leaves_the_model_unchanged(model):
    images, labels = batch()
    before = model.get_state()
    model.loss_and_grads(images, labels)
    model.activations(images, train=True)
    after = model.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_results_stay_valid_after_later_calls(model):
    images, labels = batch()
    model.set_optimizer(SGD)
    _, grads = model.step(images, labels, 0.05)
    activations = model.activations(images)
    logits = model.predict(images)
    grad_copies = {name: np.array(grad) for name, grad in grads.items()}
    logits_copy = logits.copy()
    activation_copies = {name: value.copy() for name, value in activations.items()}
    for seed in range(3):
        model.step(*batch(seed=seed), 0.05)
        model.predict(batch(seed=seed)[0])
    assert np.array_equal(logits, logits_copy)
    assert all(np.array_equal(grads[name], grad_copies[name]) for name in grad_copies)
    for name, copy in activation_copies.items():
        assert np.array_equal(activations[name], copy)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "plain sgd"])
def test_training_continues_bit_for_bit_from_a_state(model, name):
    images, labels = batch()
    optimizer = RECIPES[name]
    model.set_optimizer(optimizer)
    for _ in range(2):
        model.step(images, labels, 0.01)
    other = model.backend.build(CONFIG, seed=9, dtype="float64")
    other.set_optimizer(optimizer)
    other.set_state(model.get_state())
    for each in (model, other):
        each.step(images, labels, 0.01)
    state, other_state = model.get_state(), other.get_state()
    assert state["optimizer.step"] == 3
    assert all(np.array_equal(state[name], other_state[name]) for name in state)


def test_the_square_average_starts_at_initial_square_avg(model):
    model.set_optimizer(TrainConfig(optimizer="rmsprop_tf", initial_square_avg=0.5))
    state = model.get_state()
    assert (state["optimizer.square_avg.stem.conv.weight"] == 0.5).all()
    assert not state["optimizer.momentum.stem.conv.weight"].any()
    assert state["optimizer.step"] == 0


def test_averages_start_at_the_parameters_and_follow_them(model):
    start = model.get_state()
    model.set_optimizer(TrainConfig(momentum=0, ema_decay=0.75))
    expected = averaged(model.get_state())
    assert list(expected) == list(start)
    assert all(np.array_equal(expected[name], start[name]) for name in start)
    for seed in range(3):
        model.step(*batch(seed=seed), 0.05)
        state = model.get_state()
        expected = {k: ema + 0.25 * (state[k] - ema) for k, ema in expected.items()}
    averages = averaged(state)
    for name in parameter_shapes(CONFIG):
        error = np.linalg.norm(averages[name] - expected[name])
        assert error <= 1e-14 * np.linalg.norm(expected[name])
    assert all(averages[name] is state[name] for name in statistic_shapes(CONFIG))


def test_plain_sgd_has_no_moments(model):
    images, labels = batch()
    model.set_optimizer(TrainConfig(momentum=0))
    before = model.get_state()
    _, grads = model.step(images, labels, 0.5)
    after = model.get_state()
    assert set(after) == set(before)
    assert not any(name.startswith("optimizer.") for name in after)
    name = "stem.norm.bias"
    np.testing.assert_allclose(after[name], before[name] - 0.5 * grads[name], rtol=1e-15)


def test_activation_masks_select_the_linear_piece(model):
    images, labels = batch()
    activations = model.activations(images, train=True)
    mask = activation_masks(activations["stem.norm"], CONFIG.activation)
    mask[:] = 0
    masked = model.activations(images, train=True, masks={"stem.act": mask})
    assert not masked["stem.act"].any()
    _, grads = model.loss_and_grads(images, labels, {"stem.act": mask})
    assert not grads["stem.conv.weight"].any()
    unmasked = model.activations(images, train=True)
    assert np.array_equal(unmasked["stem.act"], activations["stem.act"])


def test_dropout_factors_multiply_the_pooled_features(model):
    images, labels = batch()
    factors = np.zeros((4, 256))
    loss, grads = model.loss_and_grads(images, labels, {"dropout": factors})
    assert loss == pytest.approx(np.log(7), rel=1e-12)
    assert not grads["classifier.weight"].any()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [("stem.act", 3, "in 0..2. Received: 3"), ("dropout", np.nan, "finite. Received: nan")],
)
def test_masks_with_invalid_values_are_refused(model, name, value, rule):
    images, labels = batch()
    stem = activation_masks(model.activations(images)["stem.norm"], CONFIG.activation)
    masks = {"stem.act": stem, "dropout": np.ones((4, 256))}
    masks[name][-1] = value
    with pytest.raises(DataError, match=rf"masks\['{name}'\] must be {rule}"):
        model.loss_and_grads(images, labels, masks)


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("other", NAMES)
def test_a_file_of_one_backend_is_loaded_by_another_bit_for_bit(name, other, tmp_path):
    first = backend(name).build(CONFIG, seed=5, dtype="float64")
    first.save(tmp_path / "m.safetensors")
    second = backend(other).load(tmp_path / "m.safetensors")
    saved, loaded = first.get_state(), second.get_state()
    assert second.config == CONFIG
    assert all(saved[key].tobytes() == loaded[key].tobytes() for key in saved)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 32, 32), np.uint8), "float64"),
        (np.zeros((2, 3, 32, 32), np.float32), "float64"),
        (np.zeros((2, 4, 32, 32)), r"\(N, 3, H, W\)"),
        (np.zeros((3, 32, 32)), r"\(N, 3, H, W\)"),
        (np.zeros((0, 3, 32, 32)), "not be empty"),
        (np.full((1, 3, 32, 32), np.nan), r"finite.*nan at \[0, 0, 0, 0\]"),
        ([[1.0]], "list"),
    ],
)
def test_bad_images_are_refused(model, images, message):
    with pytest.raises(DataError, match=message):
        model.predict(images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 7, 1, 2]), r"in \[0, 7\).*Received: 7 at \[1\]"),
        (np.array([0, -1, 1, 2]), r"Received: -1 at \[1\]"),
        (np.array([0.0, 1, 2, 3]), "integers"),
        (np.array([0, 1]), "4 integers"),
        (np.eye(7, dtype=int)[[0, 1, 2, 3]], r"4 integers.* or float64 distributions \(4, 7\)"),
        (soft_labels(dtype="float32"), r"must be float64 \(4, 7\)\. Received: float32"),
        (soft_labels(3), r"must be float64 \(4, 7\)\. Received: float64 array of shape \(3, 7\)"),
        (soft_labels() * 1.001, r"each row of labels must sum to 1.*Received: 1\.00\d* at \[0\]"),
        (soft_labels() - np.eye(7)[:4] + np.eye(7)[1:5], r"must not be negative.*Received: -"),
        (soft_labels() * np.nan, r"must not be negative. Received: nan at \[0, 0\]"),
    ],
)
def test_bad_labels_are_refused(model, labels, message):
    with pytest.raises(DataError, match=message):
        model.loss_and_grads(batch()[0], labels)


def test_one_value_per_channel_is_refused_in_training(model):
    images, labels = batch(count=1)
    with pytest.raises(DataError, match="last map of 1x1"):
        model.loss_and_grads(images, labels)


def test_step_requires_an_optimizer_and_a_valid_rate(model):
    with pytest.raises(ConfigError, match="set_optimizer"):
        model.step(*batch(), 0.1)
    model.set_optimizer(SGD)
    for rate in (-1.0, float("nan"), float("inf"), 10**400, True, "fast"):
        with pytest.raises(ConfigError, match="rate"):
            model.step(*batch(), rate)


def test_a_refused_state_changes_nothing(model):
    before = model.get_state()
    bad = {name: tensor + 1 for name, tensor in before.items()}
    bad["classifier.bias"] = np.full_like(bad["classifier.bias"], np.inf)
    with pytest.raises(WeightsError, match=r"classifier\.bias must be finite"):
        model.set_state(bad)
    after = model.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
