"""Every planted fault is detected and located."""

import faults
import pytest
from lab import (
    ADAM,
    CALM,
    FLOAT32_EPS,
    MISSING_BLOCK,
    PLANTED,
    SGD,
    Place,
    assert_agree,
    assert_divergence,
    by_backend,
    by_dtype,
    by_fault,
    by_optimizer,
)

pytestmark = pytest.mark.slow

# Levels 0 to 3


@by_backend
@by_dtype
@by_fault
def test_a_follower_with_a_fault_is_found(lab, name, dtype, fault):
    follower = fault.plant(lab.build(name, dtype))
    report = lab.levels(dtype, faulty=follower)
    assert_divergence(report, fault.levels, "faulty")


@by_backend
@by_fault
def test_a_leader_does_not_hide_its_fault_in_its_own_floors(lab, name, fault):
    leader = fault.plant(lab.build(name, "float64"))
    report = lab.levels("float64", faulty=leader, torch=lab.build("torch", "float64"))
    assert_divergence(report, fault.levels, "faulty")


def test_a_leader_with_shifted_labels_does_not_hide_in_float32_either(lab):
    fault = PLANTED["shifted labels"]
    leader = fault.plant(lab.build("torch", "float32"))
    report = lab.levels("float32", faulty=leader, torch=lab.build("torch", "float32"))
    assert_divergence(report, fault.levels, "faulty")


@by_backend
def test_a_float32_eps_is_found_in_float64(lab, name):
    follower = faults.float32_eps(lab.build(name, "float64"))
    report = lab.levels("float64", faulty=follower)
    assert_divergence(report, FLOAT32_EPS.levels, "faulty")
    assert 10 < report.verdicts[1].rows[1].ratio < 1000  # two units of float32 off, no more


def test_a_float32_eps_is_no_fault_in_float32(lab):
    follower = faults.float32_eps(lab.build("torch", "float32"))
    assert_agree(lab.levels("float32", other=follower))


@by_dtype
@pytest.mark.parametrize("is_leader", [False, True])
def test_a_missing_block_is_found(lab, dtype, is_leader):
    models = [("torch", lab.build("torch", dtype))]
    faulty = MISSING_BLOCK.plant(lab.build("torch", dtype))
    models.insert(0 if is_leader else 1, ("faulty", faulty))
    assert_divergence(lab.levels(dtype, **dict(models)), MISSING_BLOCK.levels, "faulty")


# Level 4, lockstep


@by_backend
@by_dtype
@by_fault
def test_a_fault_is_found_in_lockstep(lab, name, dtype, fault):
    leader, replica = (lab.build("torch", dtype) for _ in range(2))
    follower, other_replica = (fault.plant(lab.build(name, dtype)) for _ in range(2))
    report = lab.lockstep(SGD, leader, follower, replica, other_replica, steps=2)
    assert_divergence(report, fault.lockstep, "follower")


@by_backend
@by_fault
def test_a_leader_and_its_replica_with_a_fault_are_found_in_lockstep(lab, name, fault):
    leader, replica = (fault.plant(lab.build(name, "float64")) for _ in range(2))
    follower = lab.build("torch", "float64")
    report = lab.lockstep(SGD, leader, follower, replica, steps=2)
    assert_divergence(report, fault.lockstep, "leader")


def test_a_leader_with_a_fault_is_named_in_float32_lockstep(lab):
    fault = PLANTED["rate 1 % off"]
    leader, replica = (fault.plant(lab.build("torch", "float32")) for _ in range(2))
    report = lab.lockstep(SGD, leader, lab.build("torch", "float32"), replica, steps=1)
    assert_divergence(report, fault.lockstep, "leader")


@pytest.mark.parametrize(
    ("fault", "dtype"),
    [(FLOAT32_EPS, "float64"), (MISSING_BLOCK, "float64"), (MISSING_BLOCK, "float32")],
    ids=["float32 eps", "missing block", "missing block, float32"],
)
def test_faults_of_torch_models_are_found_in_lockstep(lab, fault, dtype):
    leader, replica = (lab.build("torch", dtype) for _ in range(2))
    follower = fault.plant(lab.build("torch", dtype))
    assert_divergence(lab.lockstep(SGD, leader, follower, replica, steps=2), fault.lockstep)


def test_a_missing_block_of_the_leader_is_found_in_lockstep(lab):
    leader, replica = (MISSING_BLOCK.plant(lab.build("torch", "float64")) for _ in range(2))
    report = lab.lockstep(SGD, leader, lab.build("torch", "float64"), replica, steps=2)
    assert_divergence(report, MISSING_BLOCK.lockstep, "leader")


def test_a_leader_that_swaps_batches_is_named(lab):
    batches = lab.batches(SGD, "float64")
    leader = faults.SwappedBatches(lab.build("torch", "float64"), batches, first=1)
    follower, replica = (lab.build("torch", "float64") for _ in range(2))
    report = lab.lockstep(SGD, leader, follower, replica, steps=2)
    assert_divergence(report, Place(4, "input", "batch", "images or labels", 1), "leader")


@by_backend
@by_optimizer
@by_dtype
def test_swapped_batches_are_found_at_their_step(lab, name, dtype, train):
    leader, replica = (lab.build("torch", dtype) for _ in range(2))
    follower = faults.SwappedBatches(lab.build(name, dtype), lab.batches(train, dtype), first=1)
    report = lab.lockstep(train, leader, follower, replica, steps=4)
    assert_divergence(report, Place(4, "input", "batch", "images or labels", 1), "follower")
    wrong = [step for step, ratio in enumerate(report.lockstep[0].ratios) if ratio > 30]
    assert wrong == [1, 2]


@by_backend
@by_dtype
@pytest.mark.parametrize(("train", "slot"), [(SGD, "momentum"), (ADAM, "exp_avg")])
def test_stale_momentum_is_found_at_the_first_step_that_has_any(lab, name, dtype, train, slot):
    leader, replica = (lab.build("torch", dtype) for _ in range(2))
    follower = faults.StaleMomentum(lab.build(name, dtype))
    report = lab.lockstep(train, leader, follower, replica, steps=2)
    moment = f"optimizer.{slot}.stem.conv.weight"
    assert_divergence(report, Place(4, "update", "moment", moment, 1), "follower")


@by_backend
def test_a_wrong_rate_of_adam_is_found_in_lockstep(lab, name):
    leader, replica = (lab.build("torch", "float64") for _ in range(2))
    follower = faults.RateOff(lab.build(name, "float64"))
    report = lab.lockstep(ADAM, leader, follower, replica, steps=1)
    assert_divergence(report, PLANTED["rate 1 % off"].lockstep, "follower")


# Level 4, free curves


@by_backend
@pytest.mark.parametrize(
    ("plant", "step"),
    [
        (faults.keras_eps, 0),
        (faults.ShiftedLabels, 0),
        (faults.RateOff, 1),
        (faults.StaleMomentum, None),
    ],
    ids=["norm eps 1e-3", "shifted labels", "rate 1 % off", "stale momentum"],
)
def test_a_calm_curve_leaves_its_envelope_where_the_fault_begins(lab, name, plant, step):
    leader, follower = lab.build("torch", "float64"), plant(lab.build(name, "float64"))
    report = lab.curves(CALM, leader, follower, steps=6)
    if step is None:  # nothing is handed over in a free run
        assert_agree(report)
    else:
        assert_divergence(report, Place(4, "curve", "loss", "loss", step), "follower")


@by_backend
def test_swapped_batches_show_in_a_calm_curve(lab, name):
    batches = lab.batches(CALM, "float64")
    follower = faults.SwappedBatches(lab.build(name, "float64"), batches, first=2)
    report = lab.curves(CALM, lab.build("torch", "float64"), follower, steps=3)
    assert_divergence(report, Place(4, "curve", "loss", "loss", 2), "follower")


@pytest.mark.parametrize(
    ("plant", "step"),
    [(faults.keras_eps, 0), (faults.RateOff, 1)],
    ids=["norm eps 1e-3", "rate 1 % off"],
)
@pytest.mark.parametrize("other", ["torch", "numpy"])
def test_a_leader_with_a_fault_is_named_in_a_calm_curve(lab, plant, step, other):
    leader, follower = plant(lab.build("torch", "float64")), lab.build(other, "float64")
    report = lab.curves(CALM, leader, follower, steps=3)
    assert_divergence(report, Place(4, "curve", "loss", "loss", step), "leader")
