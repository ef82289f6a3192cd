"""Steps of the torch backend against torch.optim, and training continued from a saved state."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipes import RECIPES, SLOTS, torch_optimizer
from small_models import SMALL, assert_same_bits, batch
from torch_reference import STATE, Reference

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import synthetic

RATES = (0.1, 0.02, 0.3)


def torch_model(recipe, **options):
    model = backend("torch").from_state(SMALL, STATE, **options)
    model.set_optimizer(recipe)
    return model


def advance(model, seeds, rates=RATES):
    return [model.step(*batch(seed=seed), rate) for seed, rate in zip(seeds, rates, strict=False)]


def reference_steps(recipe):
    """Steps of plain torch; the rate is set before each step, as torch's schedulers do."""
    reference = Reference(SMALL).load(STATE).train()
    optimizer, step = torch_optimizer(recipe, reference.parameters())
    average = torch.optim.swa_utils.AveragedModel(
        reference, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.ema_decay)
    )
    average.update_parameters(reference)  # the first call copies the parameters
    losses = []
    for seed, rate in enumerate(RATES):
        images, labels = (torch.from_numpy(array.copy()) for array in batch(seed=seed))
        optimizer.zero_grad()
        loss = F.cross_entropy(reference(images), labels)
        loss.backward()
        step(rate)
        average.update_parameters(reference)
        losses.append(loss.item())
    state, names = reference.state(), reference.canonical_names()
    for name, parameter in reference.named_parameters():
        for slot in recipe.moments:
            moment = optimizer.state[parameter][SLOTS[slot]]
            state[f"optimizer.{slot}.{names[name]}"] = moment.numpy()
    if recipe.ema_decay > 0:
        for name, parameter in average.module.named_parameters():
            state[f"optimizer.ema.{names[name]}"] = parameter.detach().numpy()
    return losses, state


@pytest.mark.parametrize("name", RECIPES)
def test_steps_equal_those_of_torch_optim(name):
    """Weights, moments, running statistics and losses, with a changing learning rate."""
    model = torch_model(RECIPES[name])
    losses = [loss for loss, _ in advance(model, range(3))]
    expected_losses, expected = reference_steps(RECIPES[name])
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-10)
    state = model.get_state()
    if RECIPES[name].slots:
        assert state.pop("optimizer.step") == 3
    assert set(state) == set(expected)
    for key, tensor in expected.items():
        assert np.linalg.norm(state[key] - tensor) <= 1e-8 * np.linalg.norm(tensor), key


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_training_continues_bit_for_bit_from_a_state(name, memory_format, after):
    first = torch_model(RECIPES[name], memory_format=memory_format)
    advance(first, range(after))
    second = torch_model(RECIPES[name], memory_format=memory_format)
    advance(second, [7])  # creates moments, to be replaced
    second.set_state(first.get_state())
    for (loss, grads), (expected_loss, expected) in zip(
        advance(second, (4, 5)), advance(first, (4, 5)), strict=True
    ):
        assert loss == expected_loss
        assert_same_bits(grads, expected)
    if RECIPES[name].slots or after:
        assert_same_bits(second.get_state(), first.get_state())


@pytest.mark.parametrize("name", RECIPES)
def test_setting_the_models_own_state_changes_nothing(name):
    model = torch_model(RECIPES[name])
    advance(model, range(2))
    before = model.get_state()
    model.set_state(before)
    assert_same_bits(model.get_state(), before)


def test_step_returns_the_results_of_loss_and_grads():
    model, (images, labels) = torch_model(RECIPES["sgd"]), batch()
    expected_loss, expected = model.loss_and_grads(images, labels)
    loss, grads = model.step(images, labels, 0.1)
    assert loss == expected_loss
    assert_same_bits(grads, expected)


def test_clipping_does_not_change_the_returned_gradients():
    model, (images, labels) = torch_model(TrainConfig(clip_norm=1e-3)), batch()
    expected = model.loss_and_grads(images, labels)[1]
    grads = model.step(images, labels, 0.1)[1]
    assert_same_bits(grads, expected)
    momentum = model.get_state()["optimizer.momentum.classifier.bias"]
    assert np.abs(momentum).max() < 1e-3 < np.abs(grads["classifier.bias"]).max()


def test_existing_gradients_of_the_module_are_not_added_to_a_step():
    model, (images, labels) = torch_model(RECIPES["sgd"]), batch()
    expected = model.loss_and_grads(images, labels)[1]
    for parameter in model.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert_same_bits(model.step(images, labels, 0.1)[1], expected)


def test_a_rate_of_zero_updates_moments_and_statistics_only():
    model = torch_model(RECIPES["sgd"])
    model.step(*batch(), 0)
    state = model.get_state()
    changed = {name for name, tensor in STATE.items() if state[name].tobytes() != tensor.tobytes()}
    assert changed == {name for name in STATE if "running" in name}
    assert state["optimizer.momentum.stem.conv.weight"].any()


def test_a_refused_step_changes_nothing():
    model = torch_model(RECIPES["adam"])
    before = model.get_state()
    images, labels = batch()
    for arguments in ((images, labels + 7, 0.1), (images * np.nan, labels, 0.1)):
        with pytest.raises(ValueError, match="must be"):
            model.step(*arguments)
    for rate in (np.inf, -1e-9, "0.1", None, 1j):
        with pytest.raises(ValueError, match="rate must be a finite number, at least 0"):
            model.step(images, labels, rate)
    assert_same_bits(model.get_state(), before)


@pytest.mark.parametrize(
    ("memory_format", "is_channels_last"),
    [("auto", True), ("contiguous", False), ("channels_last", True)],
)
def test_fit_uses_channels_last_and_restores_the_memory_format(memory_format, is_channels_last):
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=5)
    model = backend("torch").build(config, memory_format=memory_format)
    kernel = model.module.stem.conv.weight
    before, strides = kernel.stride(), []
    train = TrainConfig(steps=2, batch_size=4)
    model.fit(synthetic(8, num_classes=5), train, (lambda _: strides.append(kernel.stride()),))
    channels_last = torch.empty(kernel.shape).to(memory_format=torch.channels_last).stride()
    assert [stride == channels_last for stride in strides] == [is_channels_last] * 2
    assert kernel.stride() == before
