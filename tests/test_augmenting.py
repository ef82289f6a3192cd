"""Rotation, cutout and mixup: the bits of the reference, of recorded values and of Julia."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from augmenting_reference import augmented
from hypothesis import given, settings
from hypothesis import strategies as st
from philox_reference import philox4x64_10

from pymobilenet.data import BatchPlan, BatchSpec, apply, targets
from pymobilenet.data.augmenting import mix, rotate
from pymobilenet.errors import ConfigError

VECTORS = json.loads(
    (Path(__file__).parents[1] / "julia/test/vectors" / "augment.json").read_text()
)


def plan_of(case):
    return BatchPlan(
        int(case["seed"]),
        case["num_images"],
        case["batch_size"],
        rotation=case["rotation"],
        cutout=case["cutout"],
        mixup=case["mixup"],
    )


def as_lists(batch):
    """What `augmented` takes."""
    fields = {name: value for name, value in vars(batch).items() if value is not None}
    case = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    dy, dx = zip(*case.pop("offsets"), strict=True)
    return {**case, "dy": dy, "dx": dx}


def images_of(shape):
    n, c, y, x = np.indices(shape)
    return ((61 * n + 37 * c + 11 * y + 5 * x + 1) % 256).astype(np.uint8)


@pytest.mark.parametrize("case", VECTORS["plans"], ids=lambda case: f"step{case['step']}")
def test_recorded_plans(case):
    batch = plan_of(case).batch(case["step"])
    for name in ("angles", "partners", "weights"):
        value = getattr(batch, name)
        assert (None if value is None else value.tolist()) == case[name]
    holes = None if batch.holes is None else [[str(w) for w in pair] for pair in batch.holes]
    assert holes == case["holes"]


@pytest.mark.parametrize("case", VECTORS["apply"], ids=lambda case: f"step{case['step']}")
def test_recorded_pixels_and_targets(case):
    batch = plan_of(case).batch(case["step"])
    pixels = apply(images_of(case["shape"]), batch)
    assert (pixels.dtype, pixels.flags.c_contiguous) == (np.uint8, True)
    assert pixels.ravel().tolist() == case["result"]
    labels = np.arange(case["num_images"]) % 3
    distributions = targets(labels, batch, 3)
    assert distributions.dtype == np.float32
    assert (distributions * 256).ravel().tolist() == case["targets_in_256ths"]


@settings(deadline=None, database=None, max_examples=60)
@given(
    seed=st.integers(0, 2**64 - 1),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 12),
    flip=st.booleans(),
    rotation=st.integers(0, 180),
    cutout=st.integers(0, 20),
    mixup=st.integers(0, 1),
)
def test_every_pixel_equals_the_reference(
    seed, height, width, padding, flip, rotation, cutout, mixup
):
    images = np.random.default_rng(seed).integers(0, 256, (5, 3, height, width), np.uint8)
    batch = BatchPlan(seed, 5, 3, padding, flip, rotation, cutout, mixup).batch(2)
    assert apply(images, batch).tolist() == augmented(images.tolist(), as_lists(batch))


def test_augmentations_change_no_other_draw():
    plain, full = (BatchPlan(5, 60, 8, **more).batch(9) for more in ({}, FULL))
    for name in ("indices", "offsets", "flips"):
        assert (getattr(plain, name) == getattr(full, name)).all()
    assert (plain.angles, plain.holes, plain.partners, plain.weights) == (None,) * 4
    for name in FULL:
        alone = BatchPlan(5, 60, 8, **{name: FULL[name]}).batch(9)
        for field in ("angles", "holes", "partners", "weights"):
            if (values := getattr(alone, field)) is not None:
                assert (values == getattr(full, field)).all()


FULL = {"rotation": 20, "cutout": 3, "mixup": 1}


def test_words_are_those_of_the_documented_places():
    """Position 13 of epoch 1 (batch 8 of 24 images: step 4, image 5), and step 4's mixture."""
    plan = BatchPlan(7, 24, 8, **FULL)
    batch = plan.batch(4)
    words = philox4x64_10((14, 0, 1, 6), (7, 0))
    assert batch.angles[5] == ((words[0] >> 32) * 641 >> 32) - 320
    assert batch.holes[5].tolist() == list(words[1:3])
    blocks = [philox4x64_10((block, 4, 0, 7), (7, 0)) for block in range(1, 5)]
    weights = [word for block in blocks[2:] for word in block]
    assert batch.weights.tolist() == [(word >> 32) * 257 >> 32 for word in weights]


def test_draws_fill_their_range_and_differ_between_steps():
    batch = BatchPlan(0, 4000, 4000, **FULL).batch(0)
    assert (batch.angles.min(), batch.angles.max()) == (-320, 320)
    assert set(batch.weights) == set(range(257))
    assert sorted(batch.partners) == list(range(4000))
    assert abs(batch.weights.mean() - 128) < 5
    plan = BatchPlan(0, 64, 8, **FULL)
    for name in ("angles", "holes", "partners", "weights"):
        draws = [getattr(plan.batch(step), name).tolist() for step in (0, 1, 8)]
        assert draws[0] != draws[1] != draws[2] != draws[0], name


def test_no_sine_is_near_a_tie():
    """So sines that are right to 1e-8 round to the same 2**-16ths, whichever library gives them."""
    angles = np.arange(-180 * 16, 180 * 16 + 1)
    for function in (np.sin, np.cos):
        scaled = function(angles * (math.pi / 2880)) * 65536
        assert np.abs(scaled - np.floor(scaled) - 0.5).min() > 9e-4


@pytest.mark.parametrize("size", [1, 4, 7])
def test_right_angles_are_exact(size):
    images = np.random.default_rng(size).integers(0, 256, (1, 3, size, size), np.uint8)
    for quarter in range(-2, 3):
        turned = rotate(images, np.array([quarter * 90 * 16]))
        assert (turned == np.rot90(images, -quarter, axes=(2, 3))).all()


def test_rotation_is_about_the_middle_and_clockwise():
    image = np.zeros((1, 1, 31, 31), np.uint8)
    image[0, 0, 2, 15] = 255  # above the middle
    turned = rotate(image, np.array([30 * 16]))[0, 0].astype(float)
    rows, columns = np.indices((31, 31))
    down, right = (float((place * turned).sum() / turned.sum()) - 15 for place in (rows, columns))
    assert (down, right) == pytest.approx((-13 * math.cos(math.pi / 6), 6.5), abs=0.05)


def test_mixing_with_the_full_weight_or_none_gives_either_image():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), np.uint8)
    partners = np.array([1, 2, 3, 0])
    assert (mix(images, partners, np.full(4, 256)) == images).all()
    assert (mix(images, partners, np.zeros(4, int)) == images[partners]).all()
    assert (mix(images, np.arange(4), np.array([1, 77, 128, 255])) == images).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_share_one_between_the_two_classes(dtype):
    labels = np.array([2, 0, 0])
    plain = BatchSpec(np.array([1, 0]), np.zeros((2, 2), int), np.zeros(2, bool), 0)
    assert targets(labels, plain, 4, dtype).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    mixed = BatchSpec(
        np.array([1, 0, 2]),
        np.zeros((3, 2), int),
        np.zeros(3, bool),
        0,
        partners=np.array([1, 0, 0]),
        weights=np.array([192, 256, 3]),
    )
    expected = [[0.75, 0, 0.25, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert targets(labels, mixed, 4, dtype).tolist() == expected
    assert targets(labels, mixed, 4, dtype).dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"rotation": 181}, r"rotation must be an integer in \[0, 180\]. Received: 181"),
        ({"rotation": 7.5}, "rotation must be .* Received: 7.5"),
        ({"cutout": -1}, r"cutout must be an integer in \[0, 65535\]. Received: -1"),
        ({"mixup": 0.2}, r"mixup must be 0 \(off\) or 1 \(uniform\). Received: 0.2"),
    ],
)
def test_an_augmentation_outside_its_range_is_refused(arguments, rule):
    with pytest.raises(ConfigError, match=rule):
        BatchPlan(0, 10, 5, **arguments)
