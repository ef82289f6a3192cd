"""Noise floors: distances, smallest and largest floors, perturbations."""

import numpy as np
import pytest

from pymobilenet import backend
from pymobilenet.parity.floors import (
    Program,
    distance,
    draw_order,
    floors,
    max_floor,
    min_floor,
    move_parameters,
    move_ulps,
    perturbed,
    program,
    quick_floors,
    unpermute,
    with_unmasked,
)
from pymobilenet.parity.observe import Key, observe
from pymobilenet.parity.scenario import WORKING_RECIPES


def never(_):
    return False


INF = float("inf")
DTYPES = ("float32", "float64")


# Distance


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([], [], 0),
        ([0.0, 1e-300], [0.0, 0.0], INF),
        ([0.0, 0.0], [3.0, 4.0], 1),
        ([3.0, 5.0], [3.0, 4.0], 0.2),
        ([1.0, 2.0, 3.0], [1.0, 2.0], INF),
        ([[1.0, 2.0]], [1.0, 2.0], INF),
        ([1.0, np.nan], [1.0, np.nan], INF),
        ([1.0, np.inf], [1.0, np.inf], INF),
        ([1.0, np.nan], [1.0, 2.0], INF),
        ([1.0, 2.0], [1.0, np.inf], INF),
        ([2e-200, 0.0], [1e-200, 0.0], 1),
        ([2e200, 0.0], [1e200, 0.0], 1),
        ([1e308], [-1e308], INF),
        (3, 2, 0.5),
    ],
)
def test_distance(value, reference, expected):
    assert distance(np.array(value), np.array(reference)) == pytest.approx(expected, rel=1e-15)


def test_distance_is_computed_in_float64():
    value, reference = np.float32([1e-30, 1]), np.float64([1e-30, 1])
    assert distance(value, reference) == abs(float(np.float32(1e-30)) - 1e-30)
    assert distance(np.float32([1e-45]), np.float32([3e-45])) == pytest.approx(0.5)
    assert distance(np.float32([0.1]), np.float64([0.1])) == pytest.approx(1.49e-8, rel=1e-2)


# Floors


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_floor_is_at_least_16_ulps_and_infinite_above_the_largest(dtype):
    eps = np.finfo(dtype).eps
    keys = [Key(1, "train", name) for name in ("still", "moved", "wild", "broken", "gone")]
    base = {key: np.ones(4) for key in keys}
    values = (1, 1 + 50 * eps, 2, np.nan, 1), (1, 1 + 20 * eps, 1, 1)  # the second lacks "gone"
    draws = [dict(zip(keys, map(np.full, [4] * 5, draw), strict=False)) for draw in values]
    noise = Program(base, lambda number: draws[number % 2])
    result = list(floors(noise, [], dtype, never).values())
    assert result == pytest.approx([16 * eps, 50 * eps, INF, INF, INF])
    assert min_floor(dtype) == 16 * eps
    assert 30 * max_floor(dtype) <= 1


def test_every_compared_tensor_has_a_floor_of_at_least_16_ulps(references, config):
    reference = references["float64"]
    model = backend("torch").build(config, dtype="float64")
    observations = observe(model, reference.inputs)
    leader = program(model, reference.inputs, observations)
    result = with_unmasked(floors(leader, [], "float64", never))
    assert {key for key in observations if key.quantity != "flips"} == set(result)
    assert min(result.values()) == min_floor("float64")
    assert max(result.values()) < max_floor("float64")


KEY = Key(1, "train", "pool")


def growing(size):
    """Return a program whose draw n is off by n times `size`, and the list of its draws."""
    draws = []

    def draw(number):
        draws.append(number)
        return {KEY: np.array(1 + number * size)}

    return Program({KEY: np.array(1.0)}, draw), draws


def test_without_doubt_the_leaders_five_draws_are_the_floor():
    (leader, draws), (other, other_draws) = growing(1e-12), growing(1e-11)
    assert floors(leader, [other], "float64", never)[KEY] == pytest.approx(4e-12, rel=1e-3)
    assert (draws, other_draws) == ([0, 1, 2, 3, 4], [])


def test_floors_of_one_draw_are_at_most_those_of_five():
    falling = Program({KEY: np.array(1.0)}, lambda draw: {KEY: np.array(1 + 1e-11 / (draw + 1))})
    (rising, draws) = growing(1e-12)
    assert quick_floors(falling, "float64") == floors(falling, [], "float64", never)
    assert quick_floors(rising, "float64")[KEY] == min_floor("float64")
    assert draws == [0]


def test_in_doubt_as_many_draws_of_the_others_come_first():
    (leader, draws), (other, other_draws) = growing(1e-12), growing(2e-12)
    result = floors(leader, [other], "float64", lambda allowed: allowed[KEY] < 7e-12)
    assert result[KEY] == pytest.approx(8e-12, rel=1e-3)
    assert draws == other_draws == list(range(5))


def test_in_doubt_twenty_draws_of_every_program_are_the_floor():
    (leader, draws), (other, other_draws) = growing(1e-12), growing(1e-11)
    doubts = []
    result = floors(leader, [other], "float64", lambda allowed: not doubts.append(allowed[KEY]))
    assert doubts == pytest.approx([4e-12, 4e-11], rel=1e-3)
    assert result[KEY] == pytest.approx(1.9e-10, rel=1e-3)
    assert draws == other_draws == list(range(20))


def test_a_leader_that_depends_on_the_order_has_no_floor():
    (leader, _), (other, _) = growing(1.0), growing(1e-12)
    assert floors(leader, [other], "float64", lambda _: True)[KEY] == INF


def test_another_program_raises_a_floor_tenfold_and_no_further():
    (leader, _), (other, _) = growing(1e-12), growing(1.0)
    result = floors(leader, [other], "float64", lambda _: True)[KEY]
    assert result == pytest.approx(1.9e-10, rel=1e-3)


# Perturbations


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_but_zero_moves_by_one_ulp_up_or_down(dtype):
    values = np.random.default_rng(0).normal(size=(5, 7, 40)).astype(dtype)
    values[0, 0, :3] = 0, 1, -1
    moved = move_ulps(values, draw=1, index=2)
    assert moved.dtype == values.dtype
    assert moved.shape == values.shape
    up, down = np.nextafter(values, np.inf), np.nextafter(values, -np.inf)
    assert np.array_equal(moved == values, values == 0)
    moves = values != 0
    assert ((moved == up) | (moved == down))[moves].all()
    assert 0.4 < (moved == up)[moves].mean() < 0.6
    assert np.array_equal(moved, move_ulps(values, draw=1, index=2))
    assert not np.array_equal(moved, move_ulps(values, draw=2, index=2))
    assert not np.array_equal(moved, move_ulps(values, draw=1, index=3))


def test_parameters_move_and_statistics_and_moments_stay():
    names = ("stem.conv.weight", "stem.norm.running_var", "optimizer.momentum.stem.conv.weight")
    state = {name: np.ones(3) for name in names}
    moved = move_parameters(state, draw=0)
    assert [np.array_equal(moved[name], state[name]) for name in names] == [False, True, True]


def test_a_draw_keeps_image_label_and_mask_together(references):
    inputs = references["float64"].inputs
    moved, first = perturbed(inputs, draw=3)
    assert sorted(first) == list(range(15))
    assert not np.array_equal(first, np.arange(15))
    for recipe in WORKING_RECIPES:
        batches, moved_batches = (one.batches[recipe.optimizer] for one in (inputs, moved))
        for step, (batch, other) in enumerate(zip(batches, moved_batches, strict=True)):
            order = draw_order(3, step, 15, recipe.accumulate)
            assert np.array_equal(other.labels, batch.labels[order])
            assert np.allclose(other.images, batch.images[order], rtol=1e-15, atol=0)
            assert set(other.masks) == set(batch.masks) > {"dropout", "stem.act"}
            for name, mask in batch.masks.items():
                assert np.array_equal(other.masks[name], mask[order])
    assert np.array_equal(moved.first.images, moved.batches["sgd"][0].images)


def test_images_are_mixed_only_within_their_micro_batch():
    full_order = draw_order(3, 1, 16)
    assert np.array_equal(draw_order(3, 1, 16, micro_batches=1), full_order)
    order = draw_order(3, 1, 16, micro_batches=2)
    assert sorted(order[:8]) == list(range(8))
    assert sorted(order[8:]) == list(range(8, 16))
    assert not np.array_equal(order[:8], order[8:] - 8)


def test_unpermuted_puts_activations_back_and_leaves_the_rest():
    order = draw_order(0, 0, 16)
    values = np.arange(32.0).reshape(16, 2)
    observations = {
        Key(1, "train", "pool"): values[order],
        Key(2, "grad", "stem.conv.weight"): values,
    }
    assert all(np.array_equal(back, values) for back in unpermute(observations, order).values())
