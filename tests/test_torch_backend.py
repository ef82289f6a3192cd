"""The torch backend's module: an ordinary `nn.Module` that the model's methods leave unchanged."""

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
def test_the_module_equals_a_reference_of_torch_layers(config):
    """Outputs, gradients and running statistics; the same kernels run, so the rounding is equal."""
    model = random_model(config)
    images, labels = batch(config=config)
    state = model.get_state()
    torch_backend_model, reference = torch_model(state, config), Reference(config).load(state)
    module = torch_backend_model.module.train()
    inputs, targets = torch.from_numpy(images.copy()), torch.from_numpy(labels)
    for net in (module, reference.train()):
        F.cross_entropy(net(inputs), targets).backward()
    grads = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
    assert_close(grads, reference.grads(), 1e-10)
    assert_close(torch_backend_model.get_state(), reference.state(), 1e-14)
    assert not np.array_equal(
        torch_backend_model.get_state()["stem.norm.running_var"], STATE["stem.norm.running_var"]
    )
    with torch.no_grad():
        expected = reference.eval()(inputs).numpy()
    np.testing.assert_allclose(module.eval()(inputs).detach().numpy(), expected, rtol=1e-11)


def test_the_module_can_be_trained_with_plain_torch(model):
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


def test_dropout_of_the_module_is_active_in_training_mode_only():
    config = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, dropout=0.5)
    module = backend("torch").build(config).module
    features = torch.ones(4, 1000)
    assert set(module.dropout(features).unique().tolist()) == {1.0}
    module.train()
    assert set(module.dropout(features).unique().tolist()) == {0.0, 2.0}


# The model is left unchanged


def test_loss_and_grads_leaves_the_module_unchanged(model):
    model.loss_and_grads(*batch())
    model.activations(batch()[0], train=True)
    assert_same_bits(model.get_state(), STATE)
    assert not any(module.training for module in model.module.modules())
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_predict_uses_evaluation_mode_if_the_module_is_in_training_mode(model):
    images, _ = batch()
    expected = model.predict(images)
    model.module.train()
    assert model.predict(images).tobytes() == expected.tobytes()
    assert_same_bits(model.get_state(), STATE)


def test_an_error_during_a_pass_restores_statistics_masks_and_mode(model, monkeypatch):
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


def test_results_are_not_changed_by_later_calls(model):
    images, labels = batch()
    model.set_optimizer(TrainConfig())
    results = [
        model.get_state(),
        model.loss_and_grads(images, labels)[1],
        model.step(images, labels, 0.1)[1],
        model.activations(images),
        {"predicted": model.predict(images)},
    ]
    copies = [{name: array.copy() for name, array in result.items()} for result in results]
    model.step(*batch(seed=2), 0.1)
    model.loss_and_grads(*batch(seed=3))
    model.module.train()
    F.cross_entropy(
        model.module(torch.from_numpy(images.copy())), torch.from_numpy(labels)
    ).backward()
    with torch.no_grad():
        for tensor in model.module.state_dict().values():
            tensor.fill_(7)
    for result, expected in zip(results, copies, strict=True):
        assert_same_bits(result, expected)
