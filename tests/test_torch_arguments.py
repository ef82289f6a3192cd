"""Arguments of the torch backend besides images and labels: masks, options, views, states."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, assert_same_bits, batch
from torch_reference import STATE, Reference, assert_close, torch_model

from pymobilenet import MobileNetConfig, backend
from pymobilenet.backends import activation_masks
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.weights import initial_state


@pytest.fixture
def model():
    return torch_model()


# Masks


def masked_reference(state, images, labels, mask, factors):
    """Loss and gradients of torch layers, with the stem's activation replaced by masks."""

    class Masked(torch.nn.Module):
        def forward(self, x):
            return x * torch.from_numpy((mask == 1).astype(float)) + torch.from_numpy(
                6.0 * (mask == 2)
            )

    class Multiply(torch.nn.Module):
        def forward(self, x):
            return x * torch.from_numpy(factors)

    reference = Reference(SMALL).load(state).train()
    reference[2] = Masked()
    reference[-2] = torch.nn.Sequential(torch.nn.Flatten(), Multiply())
    loss = F.cross_entropy(reference(torch.from_numpy(images.copy())), torch.from_numpy(labels))
    loss.backward()
    return loss.item(), reference.grads()


def test_masks_determine_values_and_gradients_of_activation_and_dropout(model):
    images, labels = batch()
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (3, 3, 7, 11)).astype(np.uint8)
    factors = (rng.random((3, 102)) < 0.5) / 0.5
    loss, grads = model.loss_and_grads(images, labels, {"stem.act": mask, "dropout": factors})
    expected_loss, expected = masked_reference(STATE, images, labels, mask, factors)
    assert loss == pytest.approx(expected_loss, rel=1e-13)
    assert_close(grads, expected, 1e-10)


@pytest.mark.parametrize("train", [False, True])
def test_masks_of_the_model_itself_change_nothing(model, train):
    images, _ = batch()
    expected = model.activations(images, train)
    masks = {
        name: activation_masks(expected[name.replace(".act", ".norm")], "relu6")
        for name in expected
        if name.endswith(".act")
    }
    assert {0, 1, 2} == {int(value) for mask in masks.values() for value in np.unique(mask)}
    assert_same_bits(model.activations(images, train, masks), expected)


def test_activations_depend_on_the_mode(model):
    images, _ = batch()
    assert model.activations(images)["logits"].tobytes() == model.predict(images).tobytes()
    norm = model.activations(images, train=True)["blocks.3.pointwise.norm"]
    mean, bias = norm.mean(axis=(0, 2, 3)), STATE["blocks.3.pointwise.norm.bias"]
    np.testing.assert_allclose(mean, bias, atol=1e-12)


def test_without_dropout_factors_no_feature_is_dropped():
    config = MobileNetConfig(width_mult=0.1, num_classes=7, stem_stride=1, dropout=0.9)
    images, labels = batch()
    loss, grads = torch_model(config=config).loss_and_grads(images, labels)
    expected_loss, expected = torch_model().loss_and_grads(images, labels)
    assert loss == expected_loss
    assert_same_bits(grads, expected)


# Options and dtypes


def test_float32_and_channels_last_agree_within_rounding(model):
    images, labels = batch(8, size=(16, 16))
    narrow = images.astype(np.float32)
    expected = model.predict(narrow.astype(np.float64))
    for memory_format in ("contiguous", "channels_last"):
        other = torch_model(dtype="float32", memory_format=memory_format)
        assert other.module.stem.conv.weight.is_contiguous(memory_format=other.memory_format)
        logits = other.predict(narrow)
        assert logits.dtype == np.float32
        assert np.linalg.norm(logits - expected) < 1e-4 * np.linalg.norm(expected)
    channels_last = torch_model(memory_format="channels_last")
    assert_same_bits(channels_last.get_state(), STATE)
    assert_close(
        channels_last.loss_and_grads(images, labels)[1],
        model.loss_and_grads(images, labels)[1],
        1e-9,
    )


def test_an_unknown_memory_format_is_refused():
    rule = r"one of auto, contiguous, channels_last\. Received: 'last'"
    with pytest.raises(ConfigError, match=rule):
        backend("torch").build(SMALL, memory_format="last")


def test_read_only_reversed_and_strided_images_are_accepted(model):
    images, labels = batch(4)
    assert not images.flags.writeable
    expected = model.predict(images)
    views = [images[::-1][::-1], np.asfortranarray(images), np.repeat(images, 2, axis=2)[:, :, ::2]]
    for view in views:
        assert model.predict(view).tobytes() == expected.tobytes()
    labels.flags.writeable = False
    uint8_labels = labels.astype(np.uint8)
    assert model.loss_and_grads(images, labels)[0] == model.loss_and_grads(images, uint8_labels)[0]


def test_a_state_of_read_only_and_reversed_views_is_accepted(model):
    state = initial_state(SMALL, 1, "float64")
    views = {name: np.flip(np.flip(tensor).copy()) for name, tensor in state.items()}
    for view in views.values():
        view.flags.writeable = False
    model.set_state(views)
    assert_same_bits(model.get_state(), state)


def test_a_saved_model_is_loaded_bit_for_bit(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    loaded = backend("torch").load(tmp_path / "m.safetensors", memory_format="channels_last")
    assert (loaded.config, loaded.dtype) == (SMALL, np.float64)
    assert loaded.memory_format == torch.channels_last
    assert_same_bits(loaded.get_state(), STATE)


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
def test_a_mask_of_wrong_name_shape_or_dtype_is_refused(model, name, mask):
    with pytest.raises(DataError, match=rf"masks\['{name}'\] must be (uint8|float64).*Received: "):
        model.loss_and_grads(*batch(), {name: mask})
    assert_same_bits(model.get_state(), STATE)


def test_an_axis_of_length_1_with_a_negative_stride_is_accepted(model):
    images, _ = batch()
    image = images[:1].copy()
    assert image[::-1].strides[0] < 0
    assert_same_bits({"": model.predict(image[::-1])}, {"": model.predict(image)})
