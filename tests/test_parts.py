"""Models cut in two: the parts compute what the model does, with its arrays."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends.part import block_count
from pymobilenet.errors import ConfigError, DataError, JuliaError
from pymobilenet.interop import hybrid
from pymobilenet.parity.observe import join_linear_norms
from pymobilenet.parity.scenario import start_state

NET = {"width_mult": 0.15, "resolution": 32, "num_classes": 7}
CONFIGS = {
    "v1": MobileNetConfig("v1", **NET, padding="keras"),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", resolution=32, num_classes=7),
    "v2": MobileNetConfig("v2", **NET, dropout=0.2, softmax=True),
}
BACKENDS = ("numpy", "torch", pytest.param("julia", marks=pytest.mark.julia))
LABELS = np.array([3, 0, 6, 6])

by_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
by_backend = pytest.mark.parametrize("name", BACKENDS)


def images(dtype="float64"):
    return np.random.default_rng(0).standard_normal((4, 3, 33, 41)).astype(dtype)


def model(name, config, dtype="float64", **options):
    return backend(name).from_state(config, start_state(config, 0, dtype), **options)


def error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def largest_error(found, expected, config):
    """Of gradients; those that are zero but for rounding are joined with others."""
    found = join_linear_norms({key: np.asarray(found[key]) for key in expected}, config)
    expected = join_linear_norms(expected, config)
    return max(error(found[key], expected[key]) for key in expected)


def cross_entropy_gradient(logits):
    """Of the mean cross entropy."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    softmax = exponentials / exponentials.sum(1, keepdims=True)
    return (softmax - np.eye(logits.shape[1])[LABELS]) / len(logits)


@by_backend
@by_config
def test_back_after_front_is_the_model(name, config):
    whole = model(name, config)
    logits = whole.activations(images())["logits"]
    for cut in range(block_count(config) + 1):
        front, back = whole.split(cut)
        np.testing.assert_allclose(back(front(images())), logits, rtol=1e-12, atol=1e-12)


@by_backend
@by_config
def test_gradients_are_the_models(name, config):
    whole = model(name, config)
    _, expected = whole.loss_and_grads(images(), LABELS)
    expected = {key: np.array(value) for key, value in expected.items()}
    for cut in (0, 3, block_count(config)):
        front, back = model(name, config).split(cut)
        maps, front_pullback = front.pullback(images(), train=True)
        logits, back_pullback = back.pullback(maps, train=True)
        gradient, grads = back_pullback(cross_entropy_gradient(logits))
        assert gradient.shape == maps.shape
        image_gradient, front_grads = front_pullback(gradient)
        assert image_gradient.shape == images().shape
        found = grads | front_grads
        assert found.keys() == expected.keys()
        assert largest_error(found, expected, config) < 1e-10
        again, _ = front_pullback(gradient)
        np.testing.assert_array_equal(again, image_gradient)


@by_backend
@by_config
def test_training_updates_the_models_statistics_and_evaluation_does_not(name, config):
    whole, stepped = model(name, config), model(name, config)
    stepped.set_optimizer(TrainConfig(momentum=0.0))
    stepped.step(images(), LABELS, 0.0)
    expected = stepped.get_state()
    before = whole.get_state()
    front, back = whole.split(2)
    back(front(images()))
    back.activations(front.activations(images(), True, {})[0], True, {})
    assert all(np.array_equal(before[key], value) for key, value in whole.get_state().items())
    back(front(images(), train=True), train=True)
    for key, value in whole.get_state().items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-12, err_msg=key)


@by_backend
def test_the_gradient_in_evaluation_mode_is_that_of_finite_differences(name):
    front, back = model(name, CONFIGS["v2"]).split(1)
    direction = np.random.default_rng(1).standard_normal(images().shape)
    weights = np.random.default_rng(2).standard_normal((4, 7))

    def value(step):
        return float(np.sum(weights * back(front(images() + step * direction))))

    maps, front_pullback = front.pullback(images())
    _, back_pullback = back.pullback(maps)
    gradient, _ = front_pullback(back_pullback(weights)[0])
    expected = (value(1e-6) - value(-1e-6)) / 2e-6  # so small that few values pass a kink
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-6)


@by_backend
@by_config
def test_activations_of_the_parts_are_the_models(name, config):
    whole = model(name, config)
    expected = whole.activations(images(), train=True)
    front, back = whole.split(4)
    maps, first = front.activations(images(), True, {})
    _, second = back.activations(maps, True, {})
    found = first | second
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("cut", [-1, 14, True, 1.0, "3"])
def test_a_cut_must_be_a_number_of_blocks(cut):
    with pytest.raises(ConfigError, match=r"0 to 13\. Received: "):
        model("numpy", CONFIGS["v1"]).split(cut)


@by_backend
def test_a_gradient_or_a_mask_of_another_shape_is_an_error(name):
    front, _ = model(name, CONFIGS["v1"]).split(2)
    maps, pullback = front.pullback(images(), train=True)
    with pytest.raises((DataError, JuliaError, RuntimeError)):
        pullback(np.ones((4, 1, 1, 1)))
    with pytest.raises((JuliaError, RuntimeError, ValueError, IndexError)):
        front(images(), masks={"blocks.0.depthwise.act": np.ones((4, 3, 2, 2), np.uint8)})
    assert np.array_equal(front.pullback(images(), train=True)[0], maps)


PAIRS = (
    ("torch", "torch"),
    pytest.param(("torch", "julia"), marks=pytest.mark.julia),
    pytest.param(("julia", "torch"), marks=pytest.mark.julia),
    pytest.param(("julia", "julia"), marks=pytest.mark.julia),
)
by_pair = pytest.mark.parametrize("pair", PAIRS)


@by_pair
@by_config
def test_a_hybrid_is_a_module_on_the_memory_of_both_models(pair, config):
    first, second = (model(name, config) for name in pair)
    _, expected = first.loss_and_grads(images(), LABELS)
    expected = {key: np.array(value) for key, value in expected.items()}
    module = hybrid(first, second, 3)
    logits = module(torch.from_numpy(images()))
    np.testing.assert_allclose(
        logits.detach().numpy(), second.activations(images())["logits"], rtol=1e-9, atol=1e-11
    )
    assert set(module.state_dict()) == {
        key for key in first.get_state() if not key.startswith("optimizer.")
    }
    module.train()
    with module.masked({}):
        F.cross_entropy(module(torch.from_numpy(images())), torch.from_numpy(LABELS)).backward()
    found = {key: parameter.grad.numpy() for key, parameter in module.named_parameters()}
    assert largest_error(found, expected, config) < 1e-10
    torch.optim.SGD(module.parameters(), 0.5).step()
    for key, value in module.state_dict().items():
        in_front = key.startswith(("stem.", "blocks.0.", "blocks.1.", "blocks.2."))
        owner = first if in_front else second
        np.testing.assert_array_equal(owner.get_state()[key], value.numpy(), err_msg=key)


@by_pair
def test_a_hybrid_in_channels_last_computes_the_same(pair):
    first, second = (model(name, CONFIGS["v1"], "float32") for name in pair)
    module = hybrid(first, second, 5)
    expected = module(torch.from_numpy(images("float32")))
    module.to(memory_format=torch.channels_last)
    found = module(torch.from_numpy(images("float32")).to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)


def test_what_a_hybrid_cannot_be_is_refused():
    first = model("torch", CONFIGS["v1"])
    with pytest.raises(ConfigError, match="one config and one dtype"):
        hybrid(first, model("torch", CONFIGS["v2"]), 3)
    with pytest.raises(ConfigError, match="one config and one dtype"):
        hybrid(first, model("torch", CONFIGS["v1"], "float32"), 3)
    with pytest.raises(ConfigError, match=r"the CPU\. Received: a model of numpy"):
        hybrid(model("numpy", CONFIGS["v1"]), first, 3)
    module = hybrid(first, model("torch", CONFIGS["v1"]), 3)
    with pytest.raises(RuntimeError, match=r"Received: torch.float32"):
        module.float()
