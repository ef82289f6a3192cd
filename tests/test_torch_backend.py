"""The torch backend's module: ordinary, canonically named, and left as it was by the model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, assert_same_bits, batch, random_model
from torch_reference import STATE, Reference, assert_close, torch_model

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.weights import state_shapes

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


@pytest.fixture
def model():
    return torch_model()


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
