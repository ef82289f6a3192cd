"""Steps of the torch backend against torch's own optimizers, and states handed on in the middle."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipes import RECIPES, SLOTS, torchs
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


def by_hand(recipe):
    """torch's own layers and optimizer, the rate set before each step as torch's schedulers do."""
    reference = Reference(SMALL).take(STATE).train()
    optimizer, step = torchs(recipe, reference.parameters())
    average = torch.optim.swa_utils.AveragedModel(
        reference, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.ema_decay)
    )
    average.update_parameters(reference)  # which makes it a copy, the first time
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
def test_steps_are_those_of_torchs_own_optimizer(name):
    """Weights, moments, running statistics and losses, with a rate that changes."""
    model = torch_model(RECIPES[name])
    losses = [loss for loss, _ in advance(model, range(3))]
    expected_losses, expected = by_hand(RECIPES[name])
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-10)
    state = model.get_state()
    if RECIPES[name].slots:
        assert state.pop("optimizer.step") == 3
    assert set(state) == set(expected)
    for key, tensor in expected.items():
        assert np.linalg.norm(state[key] - tensor) <= 1e-8 * np.linalg.norm(tensor), key


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_state_handed_on_in_the_middle_goes_on_to_the_bit(name, memory_format, after):
    first = torch_model(RECIPES[name], memory_format=memory_format)
    advance(first, range(after))
    second = torch_model(RECIPES[name], memory_format=memory_format)
    advance(second, [7])  # moments of its own, to be replaced
    second.set_state(first.get_state())
    for (loss, grads), (expected_loss, expected) in zip(
        advance(second, (4, 5)), advance(first, (4, 5)), strict=True
    ):
        assert loss == expected_loss
        assert_same_bits(grads, expected)
    if RECIPES[name].slots or after:
        assert_same_bits(second.get_state(), first.get_state())


@pytest.mark.parametrize("name", RECIPES)
def test_taking_over_its_own_state_changes_nothing(name):
    model = torch_model(RECIPES[name])
    advance(model, range(2))
    before = model.get_state()
    model.set_state(before)
    assert_same_bits(model.get_state(), before)


def test_what_step_gives_is_what_loss_and_grads_gives():
    model, (images, labels) = torch_model(RECIPES["sgd"]), batch()
    expected_loss, expected = model.loss_and_grads(images, labels)
    loss, grads = model.step(images, labels, 0.1)
    assert loss == expected_loss
    assert_same_bits(grads, expected)


def test_clipping_changes_no_gradient_that_was_handed_out():
    model, (images, labels) = torch_model(TrainConfig(clip_norm=1e-3)), batch()
    expected = model.loss_and_grads(images, labels)[1]
    found = model.step(images, labels, 0.1)[1]
    assert_same_bits(found, expected)
    moved = model.get_state()["optimizer.momentum.classifier.bias"]
    assert np.abs(moved).max() < 1e-3 < np.abs(found["classifier.bias"]).max()


def test_gradients_of_the_users_own_are_not_added_to_a_step():
    model, (images, labels) = torch_model(RECIPES["sgd"]), batch()
    expected = model.loss_and_grads(images, labels)[1]
    for parameter in model.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert_same_bits(model.step(images, labels, 0.1)[1], expected)


def test_a_rate_of_zero_moves_moments_and_statistics_alone():
    model = torch_model(RECIPES["sgd"])
    model.step(*batch(), 0)
    state = model.get_state()
    moved = {name for name, tensor in STATE.items() if state[name].tobytes() != tensor.tobytes()}
    assert moved == {name for name in STATE if "running" in name}
    assert state["optimizer.momentum.stem.conv.weight"].any()


def test_a_refused_step_moves_nothing():
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
    ("memory_format", "meanwhile"),
    [("auto", True), ("contiguous", False), ("channels_last", True)],
)
def test_fit_lays_maps_out_for_speed_and_puts_them_back(memory_format, meanwhile):
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=5)
    model = backend("torch").build(config, memory_format=memory_format)
    kernel = model.module.stem.conv.weight
    before, seen = kernel.stride(), []
    train = TrainConfig(steps=2, batch_size=4)
    model.fit(synthetic(8, num_classes=5), train, (lambda _: seen.append(kernel.stride()),))
    channels_last = torch.empty(kernel.shape).to(memory_format=torch.channels_last).stride()
    assert [stride == channels_last for stride in seen] == [meanwhile] * 2
    assert kernel.stride() == before
