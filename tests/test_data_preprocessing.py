"""Named preprocessings, the same in training and in evaluation."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pymobilenet import MobileNetConfig, TrainConfig
from pymobilenet.config import PREPROCESSINGS
from pymobilenet.data import CIFAR100_MEAN, CIFAR100_STD, normalise, scaling, synthetic
from pymobilenet.data.preprocessing import PREPROCESSING
from pymobilenet.errors import ConfigError
from pymobilenet.training import Batches, accuracy

DATA = synthetic(16, num_classes=5)
OWN = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
MODEL = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5)
STILL = {"batch_size": 16, "crop_padding": 0, "flip": False}


def batch_of(data=DATA, dtype="float64", **fields):
    train = TrainConfig(**{**STILL, **fields})
    batches = Batches(data, train, MODEL, dtype)
    return batches.at(0), data.images[batches.plan.batch(0).indices] / 255


def test_recipes_know_the_names_that_there_are():
    assert tuple(PREPROCESSING) == PREPROCESSINGS


def test_standard_is_by_the_training_images_of_the_data_set():
    assert scaling("standard", DATA) == (CIFAR100_MEAN, CIFAR100_STD)
    assert scaling("standard", replace(DATA, statistics=OWN)) == OWN
    assert scaling("keras", replace(DATA, statistics=OWN)) == PREPROCESSING["keras"]
    assert replace(DATA, statistics=OWN).subset([1, 2]).statistics == OWN
    with pytest.raises(ConfigError, match=r"one of unit, standard, keras. Received: 'tf'"):
        scaling("tf", DATA)


def test_a_batch_is_scaled_by_the_recipes_preprocessing():
    for name, (low, high) in {"unit": (0, 1), "keras": (-1, 1)}.items():
        batch, pixels = batch_of(preprocessing=name)
        np.testing.assert_allclose(batch.images, low + (high - low) * pixels, atol=1e-15)
    batch, pixels = batch_of(replace(DATA, statistics=OWN))
    mean, std = (np.reshape(values, (3, 1, 1)) for values in OWN)
    np.testing.assert_allclose(batch.images, (pixels - mean) / std, rtol=1e-14)


def test_accuracy_uses_the_named_preprocessing():
    images_seen = []

    class Looking:
        dtype, config = np.dtype("float32"), MODEL

        def freeze(self):
            return lambda images: images_seen.append(images) or np.zeros((len(images), 5))

    accuracy(Looking(), replace(DATA, statistics=OWN))
    accuracy(Looking(), DATA, preprocessing="unit")
    assert images_seen[0].tobytes() == normalise(DATA.images, *OWN).tobytes()
    assert images_seen[1].tobytes() == normalise(DATA.images, *PREPROCESSING["unit"]).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mixed_images_come_with_mixed_labels(dtype):
    batch, _ = batch_of(dtype=dtype, mixup=1)
    assert (batch.labels.shape, batch.labels.dtype) == ((16, 5), dtype)
    assert batch.labels.sum(axis=1).tolist() == [1] * 16
    assert (batch.labels > 0).sum(axis=1).max() == 2
    plain, _ = batch_of(dtype=dtype)
    assert plain.labels.dtype == np.int64


def test_a_recipe_rotates_and_cuts_out():
    black, _ = batch_of(preprocessing="unit", cutout=8)
    plain, _ = batch_of(preprocessing="unit")
    turned, _ = batch_of(preprocessing="unit", rotation=20)
    changed = (black.images != plain.images).any(axis=1)
    assert (black.images[np.broadcast_to(changed[:, None], black.images.shape)] == 0).all()
    assert changed.sum(axis=(1, 2)).max() == 64
    assert (turned.images != plain.images).mean() > 0.9


def test_workers_and_resumed_runs_see_the_same_pixels():
    train = TrainConfig(batch_size=5, rotation=15, cutout=8, mixup=1, seed=3)
    steps = list(range(12))  # 3 a epoch
    expected = [Batches(DATA, train, MODEL, "float32").at(step) for step in steps]
    batches = Batches(DATA, train, MODEL, "float32")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(batches.at, reversed(steps)))[::-1]
    for result, other in zip(results, expected, strict=True):
        assert result.images.tobytes() == other.images.tobytes()
        assert result.labels.tobytes() == other.labels.tobytes()
    assert len({batch.images.tobytes() for batch in expected}) == 12
