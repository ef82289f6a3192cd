"""Correct models pass every level, as leader and as follower."""

import faults
import pytest
from lab import CALM, assert_agree, by_backend, by_optimizer


def honest(lab, other, dtype):
    """Another model that is right: through a transparent wrapper, or along another path."""
    if other == "channels_last":
        return lab.build("torch", dtype, memory_format="channels_last")
    return faults.Wrapper(lab.build(other, dtype))


OTHERS = ["torch", "channels_last", "numpy", pytest.param("julia", marks=pytest.mark.julia)]
by_other = pytest.mark.parametrize("other", OTHERS)


@by_other
def test_honest_models_agree_on_all_levels(lab, other):
    assert_agree(lab.levels("float64", other=honest(lab, other, "float64")))


@by_backend
def test_honest_models_agree_on_all_levels_in_float32(lab, name):
    assert_agree(lab.levels("float32", other=honest(lab, name, "float32")))


@by_optimizer
@by_other
def test_honest_models_agree_in_lockstep(lab, other, train):
    leader, replica = (lab.build("torch", "float64") for _ in range(2))
    follower, other_replica = (honest(lab, other, "float64") for _ in range(2))
    assert_agree(lab.lockstep(train, leader, follower, replica, other_replica))


@by_optimizer
@by_backend
def test_honest_models_agree_in_lockstep_in_float32(lab, name, train):
    leader, replica = (lab.build("torch", "float32") for _ in range(2))
    follower, other_replica = (honest(lab, name, "float32") for _ in range(2))
    assert_agree(lab.lockstep(train, leader, follower, replica, other_replica))


@by_other
def test_honest_models_draw_one_calm_curve(lab, other):
    leader, follower = lab.build("torch", "float64"), honest(lab, other, "float64")
    report = lab.curves(CALM, leader, follower, steps=10)
    assert_agree(report)
    assert report.curves[0].compared_steps == 10
