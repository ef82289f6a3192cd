"""Invalid input to the oracle raises an error with value and rule, and changes nothing."""

import numpy as np
import pytest
from small_models import OPTIMIZERS, SMALL, assert_same_bits, batch, random_model

from pymobilenet import backend
from pymobilenet.backends import checks
from pymobilenet.errors import ConfigError, DataError, WeightsError


@pytest.fixture
def model():
    return random_model(SMALL)


IMAGES, LABELS = batch()
NOT_FINITE = IMAGES.copy()
NOT_FINITE[1, 2, 3, 4] = np.nan
INFINITE = IMAGES.copy()
INFINITE[1, 2, 3, 4], INFINITE[2, 0, 0, 0] = np.inf, -np.inf


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:, :2], LABELS, r"\(N, 3, H, W\).*float64 array of shape \(3, 2, 7, 11\)"),
        (IMAGES[0], LABELS, r"\(N, 3, H, W\).*shape \(3, 7, 11\)"),
        (IMAGES.tolist(), LABELS, r"NumPy array.*Received: list"),
        (IMAGES.astype(np.float32), LABELS, r"must be float64.*Received: float32"),
        (IMAGES[:0], LABELS[:0], r"must not be empty.*\(0, 3, 7, 11\)"),
        (NOT_FINITE, LABELS, r"must be finite. Received: nan at \[1, 2, 3, 4\]"),
        (INFINITE, LABELS, r"must be finite. Received: inf at \[1, 2, 3, 4\]"),
        (IMAGES, LABELS * 0 + [0, 7, 0], r"in \[0, 7\). Received: 7 at \[1\]"),
        (IMAGES, LABELS * 0 - 1, r"in \[0, 7\). Received: -1 at \[0\]"),
        (IMAGES, LABELS[:2], r"3 integers.*shape \(2,\)"),
        (IMAGES, LABELS * 1.0, r"3 integers.*float64 array"),
        (
            IMAGES[:1, :, :1, :1],
            LABELS[:1],
            "two values per channel.*batch 1 with a last map of 1x1",
        ),
    ],
)
def test_bad_batches_are_refused_and_change_nothing(model, images, labels, message):
    model.set_optimizer(OPTIMIZERS[0])
    before = model.get_state()
    with pytest.raises(DataError, match=message):
        model.loss_and_grads(images, labels)
    with pytest.raises(DataError, match=message):
        model.step(images, labels, 0.1)
    assert_same_bits(model.get_state(), before)


def test_finite_images_whose_sum_overflows_are_accepted():
    large = np.full_like(IMAGES, np.finfo(IMAGES.dtype).max)
    assert checks.images(SMALL, large.dtype, large) is large


def test_one_value_per_channel_can_be_predicted(model):
    assert np.isfinite(model.predict(IMAGES[:1, :, :1, :1])).all()


@pytest.mark.parametrize("rate", [float("nan"), -0.1, None])
def test_an_invalid_rate_is_refused(model, rate):
    model.set_optimizer(OPTIMIZERS[0])
    with pytest.raises(ConfigError, match="rate must be a finite number"):
        model.step(IMAGES, LABELS, rate)


def test_a_step_without_an_optimizer_is_refused(model):
    with pytest.raises(ConfigError, match="set_optimizer"):
        model.step(IMAGES, LABELS, 0.1)


def test_a_mask_for_an_unknown_activation_is_refused(model):
    with pytest.raises(DataError, match=r"masks\['stem.conv'\].*no such activation"):
        model.loss_and_grads(IMAGES, LABELS, {"stem.conv": np.zeros((3, 3, 7, 11), np.uint8)})


def test_a_refused_state_changes_nothing(model):
    before = model.get_state()
    with pytest.raises(WeightsError, match=r"classifier.bias must be finite"):
        model.set_state({**before, "classifier.bias": np.full(7, np.inf)})
    assert_same_bits(model.get_state(), before)


def test_the_oracle_supports_float64_only():
    with pytest.raises(ConfigError, match=r"oracle computes in float64.*Received: float32"):
        backend("numpy").build(SMALL, dtype="float32")


def test_unknown_options_are_refused():
    with pytest.raises(ConfigError, match=r"no option 'memory_format': its options are none"):
        backend("numpy").build(SMALL, dtype="float64", memory_format="contiguous")
