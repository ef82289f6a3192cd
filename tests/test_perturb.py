"""Values that are moved by one unit in the last place, and relative distances."""

import numpy as np
import pytest

from pymobilenet.weights.perturb import distance, move_ulps


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("draw", range(4))
def test_every_value_moves_to_a_neighbour(dtype, draw):
    info = np.finfo(dtype)
    random = np.random.default_rng(0).standard_normal(50)
    limits = [info.max, info.tiny, info.smallest_subnormal, 1, 2]
    values = np.array([*random, *limits, *np.negative(limits)], dtype).reshape(6, 10)
    for each in (values, values.T, values[::2]):
        moved = move_ulps(each, draw, 3)
        with np.errstate(over="ignore"):
            up, down = (np.nextafter(each, np.array(x, dtype)) for x in (np.inf, -np.inf))
        assert moved.dtype == each.dtype
        assert ((moved == up) | (moved == down)).all()
        assert (moved == up).any()
        assert (moved == down).any()


def test_zeros_and_what_is_not_finite_stay():
    values = np.array([0.0, -0.0, np.nan])
    assert move_ulps(values, 0, 0).tobytes() == values.tobytes()
    assert move_ulps(np.float64(1.5) * np.ones(()), 0, 0).shape == ()
    assert move_ulps(np.zeros((0, 3), "f4"), 0, 0).shape == (0, 3)


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([0.0, 4.0], [3.0, 4.0], 0.6),
        ([1e-300, 0.0], [2e-300, 0.0], 0.5),
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], np.inf),
        ([np.nan], [1.0], np.inf),
        ([1.0], [np.inf], np.inf),
        ([1.0, 2.0], [1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_a_distance_is_relative_to_the_norm_of_the_reference(value, reference, expected):
    assert distance(np.array(value), np.array(reference)) == pytest.approx(expected, rel=1e-15)
