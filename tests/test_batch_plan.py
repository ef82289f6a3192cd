"""Batch plans against recorded values: order, crops and flips, the same in every backend."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymobilenet.data import BatchPlan, BatchSpec, apply, normalise
from pymobilenet.errors import ConfigError, DataError

VECTORS = json.loads(
    (Path(__file__).parents[1] / "julia/test/vectors" / "batch_plan.json").read_text()
)
MEAN, STD = VECTORS["normalise"]["mean"], VECTORS["normalise"]["std"]


def make_batch(indices, offsets, flips, crop_padding):
    return BatchSpec(np.array(indices), np.array(offsets), np.array(flips, bool), crop_padding)


@pytest.mark.parametrize("case", VECTORS["plans"], ids=lambda case: f"step{case['step']}")
def test_recorded_plans(case):
    plan = BatchPlan(
        int(case["seed"]),
        case["num_images"],
        case["batch_size"],
        case["crop_padding"],
        case["flip"],
    )
    batch = plan.batch(case["step"])
    assert batch.indices.tolist() == case["indices"]
    assert batch.offsets.tolist() == [list(o) for o in zip(case["dy"], case["dx"], strict=True)]
    assert batch.flips.tolist() == case["flips"]
    assert (batch.indices.dtype, batch.offsets.dtype) == (np.int64, np.int64)
    assert (batch.flips.dtype, batch.crop_padding) == (bool, case["crop_padding"])


@settings(deadline=None, database=None, max_examples=50)
@given(seed=st.integers(0, 2**64 - 1), num_images=st.integers(1, 60), data=st.data())
def test_an_epoch_shows_each_image_at_most_once_and_drops_the_rest(seed, num_images, data):
    batch_size = data.draw(st.integers(1, num_images))
    plan = BatchPlan(seed, num_images, batch_size)
    steps = plan.steps_per_epoch
    epoch = data.draw(st.integers(0, 3))
    batches = [plan.batch(epoch * steps + i) for i in range(steps)]
    indices = np.concatenate([batch.indices for batch in batches])
    assert steps * batch_size <= num_images < (steps + 1) * batch_size
    assert all(len(batch) == batch_size for batch in batches)
    assert len(set(indices.tolist())) == len(indices)
    assert indices.tolist() == plan.order(epoch)[: len(indices)].tolist()
    offsets = np.concatenate([batch.offsets for batch in batches])
    assert offsets.min() >= 0
    assert offsets.max() <= 8


def test_offsets_and_flips_take_every_value():
    batch = BatchPlan(0, 2000, 2000).batch(0)
    assert set(batch.offsets[:, 0]) == set(batch.offsets[:, 1]) == set(range(9))
    assert not (batch.offsets[:, 0] == batch.offsets[:, 1]).all()
    assert 900 < batch.flips.sum() < 1100


def test_plans_of_different_epochs_and_seeds_differ():
    plan = BatchPlan(0, 100, 10)
    assert plan.order(0).tolist() != plan.order(1).tolist()
    assert plan.order(0).tolist() != BatchPlan(1, 100, 10).order(0).tolist()
    assert plan.batch(0).offsets.tolist() != plan.batch(10).offsets.tolist()


def test_the_cached_order_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        BatchPlan(0, 10, 2).order(0)[0] = 3


def test_recorded_crop_with_zero_padding_then_flip():
    case = VECTORS["apply"]
    n, c, y, x = np.indices(case["shape"])
    images = ((61 * n + 37 * c + 11 * y + 5 * x + 1) % 256).astype(np.uint8)
    offsets = list(zip(case["dy"], case["dx"], strict=True))
    batch = make_batch(case["indices"], offsets, case["flips"], case["crop_padding"])
    crops = apply(images, batch)
    assert crops.shape == (3, *case["shape"][1:])
    assert (crops.dtype, crops.flags.c_contiguous) == (np.uint8, True)
    assert crops.ravel().tolist() == case["result"]


def test_without_padding_and_flip_the_images_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 7), np.uint8)
    batch = BatchPlan(0, 6, 4, crop_padding=0, flip=False).batch(0)
    assert not batch.offsets.any()
    assert not batch.flips.any()
    assert (apply(images, batch) == images[batch.indices]).all()


@pytest.mark.parametrize(("dtype", "bits"), [("float32", np.uint32), ("float64", np.uint64)])
def test_recorded_bits_of_the_normalised_bytes(dtype, bits):
    case = VECTORS["normalise"]
    images = np.tile(np.array(case["bytes"], np.uint8), (2, 3, 1, 1))
    result = normalise(images, case["mean"], case["std"], dtype)
    assert result.dtype == dtype
    assert result.flags.c_contiguous
    assert result.flags.writeable
    digits = 2 * result.itemsize
    for image in result.view(bits):
        assert [[f"{b:0{digits}x}" for b in row] for row in image[:, 0]] == case[dtype]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"batch_size": 11}, r"batch_size must be an integer in \[1, 10\]. Received: 11"),
        ({"batch_size": 0}, "batch_size"),
        ({"num_images": 0}, "num_images"),
        ({"seed": -1}, "seed"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"crop_padding": 1.5}, "crop_padding"),
        ({"flip": 1}, "flip"),
    ],
)
def test_a_plan_that_breaks_a_rule_is_refused(arguments, rule):
    with pytest.raises(ConfigError, match=rule):
        BatchPlan(**{"seed": 0, "num_images": 10, "batch_size": 5, **arguments})


def test_a_negative_step_is_refused():
    with pytest.raises(ConfigError, match=r"step must be.*Received: -1"):
        BatchPlan(0, 10, 5).batch(-1)


def test_floating_images_are_refused():
    images = np.full((2, 3, 4, 4), np.nan, np.float32)
    with pytest.raises(DataError, match=r"must be uint8.*float32"):
        apply(images, BatchPlan(0, 2, 2).batch(0))
    with pytest.raises(DataError, match=r"must be uint8.*float32"):
        normalise(images, MEAN, STD)


def test_a_plan_for_more_images_than_the_data_set_is_refused():
    with pytest.raises(DataError, match=r"below the number of images, 2\. Received: 49"):
        apply(np.zeros((2, 3, 4, 4), np.uint8), BatchPlan(0, 50, 50).batch(0))


@pytest.mark.parametrize(
    ("mean", "std", "dtype", "rule"),
    [
        (MEAN[:2], STD, "float32", "one value for each of the 3 channels"),
        (MEAN, [0.1, 0.0, 0.1], "float32", "positive"),
        ([0.1, float("nan"), 0.1], STD, "float32", "finite"),
        (MEAN, STD, "float16", "dtype must be float32 or float64. Received: float16"),
    ],
)
def test_a_normalisation_that_breaks_a_rule_is_refused(mean, std, dtype, rule):
    with pytest.raises(ConfigError, match=rule):
        normalise(np.zeros((1, 3, 2, 2), np.uint8), mean, std, dtype)
