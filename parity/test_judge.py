"""Verdicts on rows, curves and lockstep runs of known values."""

import dataclasses
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from synthetic_results import curves, verdict

from pymobilenet import TrainConfig, backend
from pymobilenet.parity.false_alarms import allowed_outside
from pymobilenet.parity.judge import Row, Verdict, compare_observations, is_doubtful, verdicts
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.observe import Key
from pymobilenet.parity.tolerances import FALSE_ALARM_RATE, OUTSIDE_RATE
from pymobilenet.training import Batches

INF = float("inf")


# Verdicts


@pytest.mark.parametrize(
    ("ratios", "passed", "first"),
    [
        ([0.0, 1.0, 10.0], True, None),
        ([1.0] * 277 + [30.0], True, None),
        ([1.0] * 277 + [30.1], False, "t277"),
        ([1.0] * 276 + [10.1, 10.1], False, "t276"),
        ([1.0] * 998 + [10.1, 30.0], True, None),
        ([1.0] * 997 + [10.1, 10.1, 10.1], False, "t997"),
        ([1.0] * 9 + [10.1], False, "t9"),
        ([1.0, 20.0, 500.0], False, "t1"),
        ([1.0, INF], False, "t1"),
        ([], False, None),
    ],
)
def test_a_level_passes_with_all_within_30_floors_and_a_few_of_many_outside_10(
    ratios, passed, first
):
    result = verdict(ratios)
    assert result.passed is passed
    assert (result.first_divergence and result.first_divergence.name) == first


@pytest.mark.parametrize(
    ("error", "floor", "ratio"),
    [
        (0, 0, 0),
        (0, INF, 0),
        (1e-9, 0, INF),
        (1e-9, INF, 30),
        (4.4e-7, INF, 30),
        (4.5e-7, INF, INF),
        (INF, INF, INF),
        (INF, 1, INF),
        (6, 2, 3),
    ],
)
def test_no_error_passes_a_floor_of_zero_and_few_pass_an_infinite_one(error, floor, ratio):
    assert Row(Key(1, "eval", "t"), {"a": 0.0, "b": error}, floor).ratio == ratio


@pytest.mark.parametrize(
    ("ratios", "doubt"),
    [
        *(([], False), ([1, 10], False), ([1, 11], True), ([100], True), ([101, INF], False)),
        *(([11, 101], True), ([101, 11], False), ([1, INF, 50], False)),
    ],
)
def test_only_what_more_draws_could_bring_inside_is_doubtful(ratios, doubt):
    assert is_doubtful(verdict(ratios).rows) == doubt


@pytest.mark.parametrize(("count", "passed"), [(2, True), (3, False)])
def test_two_tensors_in_a_thousand_may_be_lost_to_rounding(count, passed):
    lost = [Row(Key(1, "eval", f"lost{i}"), {"a": 1e-8}, INF) for i in range(count)]
    result = Verdict("s", 1, "outputs", (*verdict([1.0] * (1000 - count)).rows, *lost))
    assert result.passed is passed
    assert not is_doubtful(result.rows)


def test_a_gradient_its_slots_and_its_parameter_are_one_error():
    """All quantities of one step: a gradient that is off takes the others with it."""
    names = [f"blocks.{i}.conv.weight" for i in range(90)]

    def rows(outside):
        return tuple(
            Row(Key(4, quantity, slot + name, 1), {"b": 10.08 if name in outside else 1.0}, 1.0)
            for quantity, slot in (
                ("grad", ""),
                ("moment", "optimizer.exp_avg."),
                ("moment", "optimizer.exp_avg_sq."),
                ("parameter", ""),
            )
            for name in names
        )

    one, two = (Verdict("s", 4, "lockstep", rows(names[3 : 3 + count])) for count in (1, 2))
    assert (one.outside, one.allowed_outside, one.passed) == (1, 1, True)
    assert (two.outside, two.allowed_outside, two.passed) == (2, 1, False)
    assert two.first_divergence.name == names[3]


@pytest.mark.parametrize("count", [1, 10, 11, 138, 278, 1000, 5000, 27800])
def test_rounding_exceeds_the_allowed_number_at_the_stated_rate_and_no_smaller_one_does(count):
    """The tail of the binomial distribution, in 50 digits."""
    rate = Decimal(OUTSIDE_RATE)

    def exceeded(allowed):
        ways = ((k, math.comb(count, k)) for k in range(allowed + 1))
        with localcontext(prec=50):
            return 1 - sum(n * rate**k * (1 - rate) ** (count - k) for k, n in ways)

    allowed = allowed_outside(count)
    assert exceeded(allowed) <= FALSE_ALARM_RATE
    assert allowed == 0 or exceeded(allowed - 1) > FALSE_ALARM_RATE


def test_few_errors_allow_none_outside_and_a_long_run_few():
    counts = (1, 10, 11, 278, 1000, 27800)
    assert [allowed_outside(count) for count in counts] == [0, 0, 1, 1, 2, 9]


def test_the_worse_backend_is_the_one_that_is_named():
    row = Row(Key(1, "eval", "t"), {"a": 1.0, "b": 40.0}, 1.0)
    first = Verdict("s", 1, "outputs", (row,)).first_divergence
    assert (first.backend, first.error, first.direction) == ("b", 40.0, "forward")
    assert "level 1, forward: t (eval) of b is off by 4.00e+01" in str(first)


ONE = np.ones(2)
OBSERVATIONS = {
    Key(0, "shape", "w"): np.array([2]),
    Key(1, "eval", "stem.conv"): ONE,
    Key(2, "flips", "stem.act"): np.array([0.0, 0.0]),
    Key(2, "grad", "w"): ONE,
    Key(2, "free_grad", "w"): ONE,
    Key(3, "sgd-parameter", "w", 0): ONE,
}
FLOORS = dict.fromkeys(OBSERVATIONS, 0.001)


def test_equal_observations_pass_and_flips_are_not_compared():
    rows = compare_observations(OBSERVATIONS, {"a": OBSERVATIONS, "b": OBSERVATIONS}, FLOORS)
    assert [row.key for row in rows] == [key for key in OBSERVATIONS if key.quantity != "flips"]
    assert all(row.ratio == 0 for row in rows)
    assert [(v.level, v.passed) for v in verdicts("s", rows)] == [(n, True) for n in range(4)]


def test_structure_has_no_floor():
    other = OBSERVATIONS | {Key(0, "shape", "w"): np.array([2.0001])}
    assert compare_observations(OBSERVATIONS, {"a": other}, FLOORS)[0].ratio == INF


@pytest.mark.parametrize("key", [key for key in OBSERVATIONS if key.quantity != "flips"], ids=str)
def test_a_missing_key_counts_as_infinitely_far(key):
    less = {k: v for k, v in OBSERVATIONS.items() if k != key}
    (row,) = [
        row
        for row in compare_observations(OBSERVATIONS, {"a": OBSERVATIONS, "b": less}, FLOORS)
        if row.ratio
    ]
    assert (row.key, row.errors, row.worst_backend) == (key, {"a": 0.0, "b": INF}, "b")
    (row,) = [
        row
        for row in compare_observations(less, {"a": less, "b": OBSERVATIONS}, FLOORS)
        if row.ratio
    ]
    assert (row.key, row.worst_backend) == (key, "b")  # the oracle lacks it


def test_unmasked_gradients_are_left_out_where_masks_flipped():
    flipped = OBSERVATIONS | {
        Key(2, "flips", "stem.act"): np.array([1.0, 1e-7]),
        Key(2, "free_grad", "w"): 2 * ONE,
    }
    rows = compare_observations(OBSERVATIONS, {"a": OBSERVATIONS, "b": flipped}, FLOORS)
    assert not any(row.key.quantity.startswith("free_") for row in rows)
    assert all(row.ratio == 0 for row in rows)
    unflipped = flipped | {Key(2, "flips", "stem.act"): np.array([0.0, 0.0])}
    assert (
        max(row.ratio for row in compare_observations(OBSERVATIONS, {"a": unflipped}, FLOORS))
        == 1000
    )


@pytest.mark.parametrize("key", OBSERVATIONS, ids=str)
def test_a_key_is_read_from_its_text(key):
    assert Key.parse(str(key)) == key


# Curves


def test_curves_are_compared_until_the_envelope_saturates():
    run = curves([1, 1, 1, 1], [1, 1 + 5e-9, 2, 3], [1e-9, 1e-9, 2e-3, 2e-3])
    assert run.compared_steps == 2
    assert run.ratio == pytest.approx(5)
    assert run.passed
    assert run.divergence is None


def test_curves_are_compared_until_the_first_flip():
    run = curves([1, 2, 3, 4], [1, 2, 4, 4], [1e-9] * 4)
    assert not run.passed
    assert dataclasses.replace(run, flipped=2).passed
    assert not dataclasses.replace(run, flipped=3).passed
    assert not dataclasses.replace(run, flipped=0).passed


def test_a_curve_outside_ten_envelopes_fails_at_that_step():
    run = curves([1, 1, 1], [1, 1 + 2e-8, 1 + 1e-9], [1e-9, 1e-9, 1e-9])
    assert not run.passed
    assert (run.divergence.step, run.divergence.backend) == (1, "b")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_no_number_fails_saturated_or_not(which, step):
    losses = np.ones((2, 4))
    losses[which, step] = np.nan
    run = curves(*losses, [1e-9, 1e-9, 1, INF])
    assert not run.passed
    assert run.divergence.step == step


def test_curves_that_saturate_at_once_prove_nothing():
    assert not curves([1, 1], [1, 1], [1, 1]).passed
    assert not curves([1, 1], [1, 1], [INF, INF]).passed


# Lockstep


def test_lockstep_of_no_step_does_not_pass(config, images):
    models = [backend("torch").build(config, dtype="float64") for _ in range(3)]
    batches = Batches(images, TrainConfig(batch_size=16), config, "float64")
    assert not lockstep(*models[:2], models[2:], batches, 0, ("a", "b")).passed


def test_lockstep_ends_where_the_leader_has_no_numbers_left(config, images):
    models = [backend("torch").build(config, dtype="float64") for _ in range(3)]
    batches = Batches(images, TrainConfig(rate=1e6, batch_size=16), config, "float64")
    state = models[0].get_state()
    models[0].set_state(state | {"classifier.weight": 1e300 * state["classifier.weight"]})
    result = lockstep(*models[:2], models[2:], batches, 5, ("a", "b"))
    assert not result.passed
    assert len(result.losses) < 5
