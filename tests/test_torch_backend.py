"""The torch backend: an ordinary module with canonical names, and a model that stays as it was."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, assert_same_bits, batch, random_model
from torch_reference import Reference

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends.base import regions
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.weights import initial_state, state_shapes

CONFIGS = [
    SMALL,
    MobileNetConfig(
        width_mult=0.1,
        resolution=32,
        num_classes=5,
        in_channels=2,
        activation="relu",
        norm_eps=1e-3,
        norm_momentum=0.3,
    ),
]
STATE = random_model(SMALL).get_state()


def torch_model(state=STATE, config=SMALL, dtype="float64", **options):
    typed = {name: tensor.astype(dtype) for name, tensor in state.items()}
    return backend("torch").from_state(config, typed, **options)


@pytest.fixture
def model():
    return torch_model()


def assert_close(found, expected, rtol):
    """Norm-wise, tensor by tensor."""
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        error = np.linalg.norm(np.asarray(found[name], np.float64) - tensor)
        assert error <= rtol * np.linalg.norm(tensor), name


# The module


def test_the_state_dict_has_the_canonical_names_and_no_others(model):
    shapes = {name: tuple(tensor.shape) for name, tensor in model.module.state_dict().items()}
    assert shapes == state_shapes(SMALL)
    assert isinstance(model.module, torch.nn.Module)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_net_is_the_one_of_torchs_own_layers(config):
    """Outputs, gradients and running statistics; no rounding apart, the same kernels are called."""
    model = random_model(config)
    images, labels = batch(config=config)
    ours, theirs = torch_model(model.get_state(), config), Reference(config).take(model.get_state())
    module = ours.module.train()
    inputs, targets = torch.from_numpy(images.copy()), torch.from_numpy(labels)
    for net in (module, theirs.train()):
        F.cross_entropy(net(inputs), targets).backward()
    grads = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
    assert_close(grads, theirs.grads(), 1e-10)
    assert_close(ours.get_state(), theirs.state(), 1e-14)
    assert not np.array_equal(
        ours.get_state()["stem.norm.running_var"], STATE["stem.norm.running_var"]
    )
    with torch.no_grad():
        expected = theirs.eval()(inputs).numpy()
    np.testing.assert_allclose(module.eval()(inputs).detach().numpy(), expected, rtol=1e-11)


def test_the_module_trains_alone_with_any_optimizer(model):
    images, labels = (torch.from_numpy(array.copy()) for array in batch(8))
    module = model.module.train()
    optimizer = torch.optim.AdamW(module.parameters(), 0.01)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_the_modules_own_dropout_drops_in_training_only():
    config = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, dropout=0.5)
    module = backend("torch").build(config).module
    features = torch.ones(4, 1000)
    assert set(module.dropout(features).unique().tolist()) == {1.0}
    module.train()
    assert set(module.dropout(features).unique().tolist()) == {0.0, 2.0}


# The model stays as it was


def test_loss_and_gradients_touch_nothing_of_the_module(model):
    model.loss_and_grads(*batch())
    model.activations(batch()[0], train=True)
    assert_same_bits(model.get_state(), STATE)
    assert not any(module.training for module in model.module.modules())
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_prediction_is_in_evaluation_mode_whatever_the_module_was_left_in(model):
    images, _ = batch()
    expected = model.predict(images)
    model.module.train()
    assert model.predict(images).tobytes() == expected.tobytes()
    assert_same_bits(model.get_state(), STATE)


def test_an_error_half_way_leaves_statistics_masks_and_mode_as_they_were(model, monkeypatch):
    images, labels = batch()
    monkeypatch.setattr(F, "cross_entropy", lambda *_: 1 / 0)
    masks = {
        "stem.act": np.zeros((3, 3, 7, 11), np.uint8),
        "dropout": np.zeros((3, 102)),
    }
    with pytest.raises(ZeroDivisionError):
        model.loss_and_grads(images, labels, masks)
    monkeypatch.undo()
    assert_same_bits(model.get_state(), STATE)
    assert not model.module.training
    fresh = torch_model()
    assert model.predict(images).tobytes() == fresh.predict(images).tobytes()
    assert_same_bits(
        model.loss_and_grads(images, labels)[1], fresh.loss_and_grads(images, labels)[1]
    )


def test_results_stay_valid_whatever_is_done_afterwards(model):
    images, labels = batch()
    model.set_optimizer(TrainConfig())
    results = [
        model.get_state(),
        model.loss_and_grads(images, labels)[1],
        model.step(images, labels, 0.1)[1],
        model.activations(images),
        {"predicted": model.predict(images)},
    ]
    kept = [{name: array.copy() for name, array in result.items()} for result in results]
    model.step(*batch(seed=2), 0.1)
    model.loss_and_grads(*batch(seed=3))
    model.module.train()
    F.cross_entropy(
        model.module(torch.from_numpy(images.copy())), torch.from_numpy(labels)
    ).backward()
    with torch.no_grad():
        for tensor in model.module.state_dict().values():
            tensor.fill_(7)
    for result, expected in zip(results, kept, strict=True):
        assert_same_bits(result, expected)


# Masks


def masked_reference(state, images, labels, region, factors):
    """Loss and gradients of torch's own layers with the stem's activation frozen by hand."""

    class Frozen(torch.nn.Module):
        def forward(self, x):
            return x * torch.from_numpy((region == 1).astype(float)) + torch.from_numpy(
                6.0 * (region == 2)
            )

    class Times(torch.nn.Module):
        def forward(self, x):
            return x * torch.from_numpy(factors)

    reference = Reference(SMALL).take(state).train()
    reference[2] = Frozen()
    reference[-2] = torch.nn.Sequential(torch.nn.Flatten(), Times())
    loss = F.cross_entropy(reference(torch.from_numpy(images.copy())), torch.from_numpy(labels))
    loss.backward()
    return loss.item(), reference.grads()


def test_masks_prescribe_values_and_gradients_of_an_activation_and_of_dropout(model):
    images, labels = batch()
    rng = np.random.default_rng(0)
    region = rng.integers(0, 3, (3, 3, 7, 11)).astype(np.uint8)
    factors = (rng.random((3, 102)) < 0.5) / 0.5
    loss, grads = model.loss_and_grads(images, labels, {"stem.act": region, "dropout": factors})
    expected_loss, expected = masked_reference(STATE, images, labels, region, factors)
    assert loss == pytest.approx(expected_loss, rel=1e-13)
    assert_close(grads, expected, 1e-10)


@pytest.mark.parametrize("train", [False, True])
def test_masks_that_say_what_is_so_change_nothing(model, train):
    images, _ = batch()
    free = model.activations(images, train)
    masks = {
        name: regions(free[name.replace(".act", ".norm")], "relu6")
        for name in free
        if name.endswith(".act")
    }
    assert {0, 1, 2} == {int(value) for mask in masks.values() for value in np.unique(mask)}
    assert_same_bits(model.activations(images, train, masks), free)


def test_activations_are_those_of_the_mode(model):
    images, _ = batch()
    assert model.activations(images)["logits"].tobytes() == model.predict(images).tobytes()
    norm = model.activations(images, train=True)["blocks.3.pointwise.norm"]
    mean, bias = norm.mean(axis=(0, 2, 3)), STATE["blocks.3.pointwise.norm.bias"]
    np.testing.assert_allclose(mean, bias, atol=1e-12)


def test_without_a_mask_nothing_is_dropped():
    config = MobileNetConfig(width_mult=0.1, num_classes=7, stem_stride=1, dropout=0.9)
    images, labels = batch()
    loss, grads = torch_model(config=config).loss_and_grads(images, labels)
    plain_loss, plain = torch_model().loss_and_grads(images, labels)
    assert loss == plain_loss
    assert_same_bits(grads, plain)


# Options and dtypes


def test_float32_and_channels_last_agree_within_rounding(model):
    images, labels = batch(8, size=(16, 16))
    narrow = images.astype(np.float32)
    expected = model.predict(narrow.astype(np.float64))
    for memory_format in ("contiguous", "channels_last"):
        other = torch_model(dtype="float32", memory_format=memory_format)
        assert other.module.stem.conv.weight.is_contiguous(memory_format=other.memory_format)
        found = other.predict(narrow)
        assert found.dtype == np.float32
        assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)
    last = torch_model(memory_format="channels_last")
    assert_same_bits(last.get_state(), STATE)
    assert_close(
        last.loss_and_grads(images, labels)[1], model.loss_and_grads(images, labels)[1], 1e-9
    )


def test_an_unknown_memory_format_is_refused():
    with pytest.raises(ConfigError, match=r"one of contiguous, channels_last\. Received: 'last'"):
        backend("torch").build(SMALL, memory_format="last")


def test_read_only_reversed_and_strided_images_are_taken_as_they_look(model):
    images, labels = batch(4)
    assert not images.flags.writeable
    expected = model.predict(images)
    views = [images[::-1][::-1], np.asfortranarray(images), np.repeat(images, 2, axis=2)[:, :, ::2]]
    for view in views:
        assert model.predict(view).tobytes() == expected.tobytes()
    labels.flags.writeable = False
    small = labels.astype(np.uint8)
    assert model.loss_and_grads(images, labels)[0] == model.loss_and_grads(images, small)[0]


def test_a_state_of_read_only_and_reversed_views_is_taken_over(model):
    state = initial_state(SMALL, 1, "float64")
    views = {name: np.flip(np.flip(tensor).copy()) for name, tensor in state.items()}
    for view in views.values():
        view.flags.writeable = False
    model.set_state(views)
    assert_same_bits(model.get_state(), state)


def test_a_file_gives_the_model_back_bit_for_bit(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = backend("torch").load(tmp_path / "m.safetensors", memory_format="channels_last")
    assert (again.config, again.dtype) == (SMALL, np.float64)
    assert again.memory_format == torch.channels_last
    assert_same_bits(again.get_state(), STATE)


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("stem.act", np.zeros((3, 3, 7, 10), np.uint8)),
        ("stem.act", np.zeros((3, 3, 7, 11), np.int64)),
        ("stem.act", np.zeros((3, 3, 7, 11), bool)),
        ("stem.act", [[0]]),
        ("dropout", np.zeros((3, 101))),
        ("dropout", np.zeros((3, 102), np.float32)),
        ("dropout", None),
        ("stem.norm", np.zeros((3, 3, 7, 11), np.uint8)),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(model, name, mask):
    with pytest.raises(DataError, match=rf"masks\['{name}'\] must be (uint8|float64).*Received: "):
        model.loss_and_grads(*batch(), {name: mask})
    assert_same_bits(model.get_state(), STATE)
