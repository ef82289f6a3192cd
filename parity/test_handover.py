"""Level 6: runs continue in the other backend, and faults of the transfer are detected."""

import pytest
import transfer_faults as faults
from faults import BiasedVariance, RateOff, Wrapper
from lab import DTYPES, Place, assert_agree, assert_divergence

from pymobilenet.parity.handover import BEFORE, HANDOVERS, optimizer_name

pytestmark = pytest.mark.slow

SGD, _, ADAM, ADAMW, *_ = HANDOVERS
JULIA = [
    pytest.param("torch", "julia", marks=pytest.mark.julia, id="torch-julia"),
    pytest.param("julia", "torch", marks=pytest.mark.julia, id="julia-torch"),
]
ORACLE = [pytest.param("torch", "numpy", id="torch-numpy"), ("numpy", "torch")]

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_recipe = pytest.mark.parametrize("train", HANDOVERS, ids=optimizer_name)


def run_handover(lab, train, first, second, dtype, plant=lambda model, _batches: model):
    leader, other_replica = (lab.build(first, dtype) for _ in range(2))
    follower, replica = (lab.build(second, dtype) for _ in range(2))
    follower = plant(follower, lab.batches(train, dtype))
    return lab.hand_over(train, leader, follower, other_replica, replica)


@by_dtype
@by_recipe
@pytest.mark.parametrize(("first", "second"), JULIA)
def test_a_run_continues_in_the_other_backend(lab, first, second, train, dtype):
    assert_agree(run_handover(lab, train, first, second, dtype))


@by_recipe
@pytest.mark.parametrize(("first", "second"), ORACLE)
def test_a_run_continues_in_the_oracle_and_in_torch(lab, first, second, train):
    assert_agree(run_handover(lab, train, first, second, "float64"))


@by_dtype
@by_recipe
def test_a_run_continues_in_a_new_model_of_the_same_backend(lab, train, dtype):
    assert_agree(run_handover(lab, train, "torch", "torch", dtype))


def updated(kind, name):
    return Place(6, "update", kind, name, BEFORE)


FIRST = "stem.conv.weight"
SEEN_IN_FLOAT32 = "stem.norm.bias"
"""What shows a wrong step count first in float32, where 6 % of a step is within the floors of a
weight, but not of a bias."""
SEEN_FIRST = {"square_avg": "momentum"}
"""What shows a zeroed moment before the moment itself does: RMSprop's momentum is made of it."""


def zeroed(train, slot):
    kind, shown = "average" if slot == "ema" else "moment", SEEN_FIRST.get(slot, slot)
    return train, faults.without_moment(slot), updated(kind, f"optimizer.{shown}.{FIRST}")


PLANTED = {
    f"{optimizer_name(train)}, {slot} zeroed": zeroed(train, slot)
    for train in HANDOVERS
    for slot in train.slots
} | {
    "adam, step count off by one": (ADAM, faults.step_count_off, updated("parameter", FIRST)),
    "adamw, step count off by one": (ADAMW, faults.step_count_off, updated("parameter", FIRST)),
    "schedule restarted": (SGD, faults.RestartedSchedule, updated("parameter", FIRST)),
    "data cursor off by one": (
        ADAM,
        faults.CursorOff,
        Place(6, "forward", "loss", "loss", BEFORE),
    ),
}


TAKING_OVER = [
    pytest.param("torch", "float64"),
    pytest.param("torch", "float32"),
    pytest.param("julia", "float32", marks=pytest.mark.julia),
]


@pytest.mark.parametrize(("name", "dtype"), TAKING_OVER)
@pytest.mark.parametrize(("train", "plant", "place"), PLANTED.values(), ids=PLANTED)
def test_a_fault_of_the_transfer_is_located(lab, name, train, plant, place, dtype):
    if plant is faults.step_count_off and dtype == "float32":
        place = place._replace(name=SEEN_IN_FLOAT32)
    assert_divergence(run_handover(lab, train, "torch", name, dtype, plant), place, "follower")


@pytest.mark.parametrize(
    ("plant", "dtype", "place"),
    [
        (BiasedVariance, "float64", updated("statistic", "stem.norm.running_var")),
        (RateOff, "float64", updated("parameter", FIRST)),
        (RateOff, "float32", updated("parameter", FIRST)),
    ],
)
def test_a_fault_of_the_backend_that_hands_over_is_not_charged_to_the_other(
    lab, plant, dtype, place
):
    leader, replica = (plant(lab.build("torch", dtype)) for _ in range(2))
    follower = lab.build("torch", dtype)
    assert_divergence(lab.hand_over(SGD, leader, follower, replica), place, "leader")


@by_dtype
def test_a_moment_that_is_not_the_same_bytes_is_found_before_any_step(lab, dtype):
    class Rounded(Wrapper):
        def _set_state(self, state):
            name = "optimizer.momentum.classifier.bias"
            if name in state:
                state = {
                    **state,
                    name: state[name] * (1 + 2 ** -(10 if dtype == "float32" else 40)),
                }
            super()._set_state(state)

    report = run_handover(lab, SGD, "torch", "torch", dtype, lambda model, _batches: Rounded(model))
    place = Place(6, "hand-over", "handed", "optimizer.momentum.classifier.bias")
    assert_divergence(report, place, "follower")
