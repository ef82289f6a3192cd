"""The oracle: the composition of its layers, forward and backward."""

import subprocess
import sys

import numpy as np
import pytest
from finite_differences import slope_error
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import OPTIMIZERS, SMALL, assert_same_bits, batch, random_model

from pymobilenet import MobileNetConfig, backend
from pymobilenet.architecture import activation_names, layers, parameter_shapes
from pymobilenet.backends import activation_masks
from pymobilenet.backends import numpy_layers as formulas
from pymobilenet.backends.numpy import status
from pymobilenet.errors import DataError


@pytest.fixture
def model():
    return random_model(SMALL)


# Forward


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13), st.booleans(), st.integers(1, 2))
def test_activations_have_the_names_and_shapes_of_the_architecture(
    count, height, width, train, stride
):
    config = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, stem_stride=stride)
    images, _ = batch(count, (height, width), config)
    model = random_model(config)
    shapes = {}
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
        for kind in ("conv", "norm", "act"):
            shapes[f"{layer.name}.{kind}"] = (count, layer.out_channels, height, width)
    shapes |= {"pool": (count, layer.out_channels), "logits": (count, 5)}
    if train and count * height * width < 2:
        with pytest.raises(DataError, match="at least two values per channel"):
            model.activations(images, train=True)
        return
    activations = model.activations(images, train)
    assert {name: tensor.shape for name, tensor in activations.items()} == shapes
    assert tuple(activations) == activation_names(config)
    assert {tensor.dtype for tensor in activations.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("activation", ["relu6", "relu"])
def test_every_activation_follows_from_the_previous_one(train, activation):
    config = MobileNetConfig(width_mult=0.1, num_classes=7, stem_stride=1, activation=activation)
    model = random_model(config)
    x, _ = batch()
    activations, state = model.activations(x, train), model.get_state()
    for layer in layers(config):
        conv, norm, act = (activations[f"{layer.name}.{kind}"] for kind in ("conv", "norm", "act"))
        affine = {k: state[f"{layer.name}.norm.{k}"][:, None, None] for k in ("weight", "bias")}
        weight = state[f"{layer.name}.conv.weight"]
        expected = formulas.conv(x, weight, layer.stride, layer.padding, layer.groups)
        np.testing.assert_array_equal(conv, expected)
        mean, variance = conv.mean(axis=(0, 2, 3)), conv.var(axis=(0, 2, 3))
        if not train:
            mean = state[f"{layer.name}.norm.running_mean"]
            variance = state[f"{layer.name}.norm.running_var"]
        deviation = np.sqrt(variance + config.norm_eps)[:, None, None]
        expected = (conv - mean[:, None, None]) / deviation * affine["weight"] + affine["bias"]
        np.testing.assert_allclose(norm, expected, rtol=0, atol=1e-11)
        np.testing.assert_array_equal(act, np.clip(norm, 0, 6 if activation == "relu6" else None))
        x = act
    np.testing.assert_allclose(activations["pool"], x.mean(axis=(2, 3)), rtol=1e-13)
    expected = activations["pool"] @ state["classifier.weight"].T + state["classifier.bias"]
    np.testing.assert_allclose(activations["logits"], expected, rtol=1e-12, atol=1e-12)


def test_predict_returns_the_logits_of_evaluation_mode(model):
    images, _ = batch()
    logits = model.predict(images)
    np.testing.assert_array_equal(logits, model.activations(images)["logits"])
    assert abs(logits - model.activations(images, train=True)["logits"]).max() > 0.1


def test_predict_treats_images_independently(model):
    images, _ = batch()
    for index, expected in enumerate(model.predict(images)):
        logits = model.predict(images[index : index + 1])[0]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-13)


def test_masks_replace_the_comparison_of_the_activation(model):
    images, labels = batch()
    norms = model.activations(images, train=True)
    identity_masks = {
        name: np.full(norm.shape, 1, np.uint8)
        for name, norm in norms.items()
        if name.endswith(".act")
    }
    activations = model.activations(images, train=True, masks=identity_masks)
    for name in identity_masks:
        np.testing.assert_array_equal(activations[name], activations[name.replace(".act", ".norm")])
    own_masks = {
        name: activation_masks(norms[name.replace(".act", ".norm")], SMALL.activation)
        for name in identity_masks
    }
    expected_loss, expected = model.loss_and_grads(images, labels)
    loss, grads = model.loss_and_grads(images, labels, own_masks)
    assert loss == expected_loss
    assert loss != model.loss_and_grads(images, labels, identity_masks)[0]
    assert_same_bits(grads, expected)


def test_dropout_factors_multiply_the_pooled_features():
    config = MobileNetConfig(width_mult=0.1, num_classes=7, stem_stride=1, dropout=0.5)
    model, (images, _) = random_model(config), batch()
    plain = model.activations(images, train=True)
    np.testing.assert_array_equal(plain["logits"], model_logits(model, plain["pool"]))
    factors = 2.0 * np.random.default_rng(5).integers(0, 2, plain["pool"].shape)
    dropped = model.activations(images, train=True, masks={"dropout": factors})
    np.testing.assert_array_equal(dropped["pool"], plain["pool"])
    np.testing.assert_array_equal(dropped["logits"], model_logits(model, plain["pool"] * factors))


def model_logits(model, features):
    state = model.get_state()
    return formulas.linear(features, state["classifier.weight"], state["classifier.bias"])


# Gradients


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "count", "size"),
    [
        (SMALL, 8, (7, 11)),
        (MobileNetConfig(width_mult=0.1, num_classes=7, activation="relu"), 5, (33, 47)),
    ],
    ids=["relu6, stem stride 1, 7x11", "relu, stem stride 2, 33x47"],
)
def test_every_gradient_is_the_slope_of_the_loss(config, count, size):
    """Masks fix the linear piece of every activation, so that no difference crosses a kink."""
    model, (images, labels) = random_model(config), batch(count, size, config)
    rng = np.random.default_rng(3)
    base = model.activations(images, train=True)
    masks = {
        f"{layer.name}.act": activation_masks(base[f"{layer.name}.norm"], config.activation)
        for layer in layers(config)
    }
    masks["dropout"] = 2.0 * rng.integers(0, 2, base["pool"].shape)
    loss, grads = model.loss_and_grads(images, labels, masks)
    logits = model.activations(images, train=True, masks=masks)["logits"]
    assert loss == pytest.approx(formulas.cross_entropy(logits, labels)[0], rel=1e-15)
    assert {n: g.shape for n, g in grads.items()} == parameter_shapes(config)
    assert list(grads) == list(parameter_shapes(config))
    state = model.get_state()
    for name, grad in grads.items():

        def loss_at(parameter, name=name):
            model.set_state({**state, name: parameter})
            logits = model.activations(images, train=True, masks=masks)["logits"]
            return formulas.cross_entropy(logits, labels)[0]

        steps = (1e-3, 1e-4, 1e-5)
        error = slope_error(loss_at, state[name], grad, rng, steps, allowed=1e-8)
        assert error < 1e-8, f"{name}: {error:.1e} of its norm {np.linalg.norm(grad):.1e}"


def test_loss_and_grads_leaves_the_model_unchanged(model):
    images, labels = batch()
    model.set_optimizer(OPTIMIZERS[0])
    before = model.get_state()
    first = model.loss_and_grads(images, labels)
    model.activations(images, train=True)
    assert_same_bits(model.get_state(), before)
    second = model.loss_and_grads(images, labels)
    assert first[0] == second[0]
    assert_same_bits(second[1], first[1])


def test_results_and_state_share_no_memory_with_the_model(model):
    images, labels = batch()
    model.set_optimizer(OPTIMIZERS[1])

    def all_results():
        _, grads = model.loss_and_grads(images, labels)
        return {
            "predicted": model.predict(images),
            **model.activations(images, train=True),
            **{f"gradient of {name}": grad for name, grad in grads.items()},
            **model.get_state(),
        }

    state = model.get_state()
    model.set_state(state)
    first = all_results()
    copies = {name: tensor.copy() for name, tensor in first.items()}
    for tensor in (*first.values(), *state.values()):
        tensor[...] = 77
    assert_same_bits(all_results(), copies)
    second = all_results()
    model.step(*batch(seed=2), 0.5)
    assert_same_bits(second, copies)


# The backend


def test_versions_contain_numpy():
    assert backend("numpy").versions()["numpy"] == np.__version__
    assert np.__version__ in status()


def test_the_oracle_imports_no_framework():
    program = (
        "import sys, numpy as np; from pymobilenet import MobileNetConfig, backend\n"
        "config = MobileNetConfig(width_mult=0.1, num_classes=7)\n"
        "model = backend('numpy').build(config, dtype='float64')\n"
        "model.loss_and_grads(np.ones((2, 3, 7, 7)), np.array([0, 1]))\n"
        "print(sorted({'torch', 'juliacall', 'scipy', 'jax'} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"
