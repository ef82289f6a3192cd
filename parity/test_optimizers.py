"""Levels 3 and 4: every optimizer, option and schedule, parameters and moments at every step.

Each step is taken from the same state, and held against the floors measured there.
"""

import faults
import option_faults
import pytest
from lab import Place, assert_agree, assert_divergence, by_backend

from pymobilenet import TrainConfig
from pymobilenet.config import OPTIMIZERS, SCHEDULES

STEPS = {"float64": 15, "float32": 5}
BATCH = {"batch_size": 15, "steps": 15}

RECIPES = {
    "sgd, ema": TrainConfig(
        rate=0.05, ema_decay=0.99, schedule="milestones", milestones=(5, 10), **BATCH
    ),
    "nesterov, decay, clip": TrainConfig(
        rate=0.05,
        nesterov=True,
        weight_decay=5e-4,
        clip_norm=1.0,
        schedule="cosine",
        warmup_steps=3,
        **BATCH,
    ),
    "nesterov, decay, accumulated": TrainConfig(
        rate=0.05, nesterov=True, weight_decay=5e-4, label_smoothing=0.1, accumulate=3, **BATCH
    ),
    "adam, decay": TrainConfig(optimizer="adam", rate=1e-3, weight_decay=1e-4, **BATCH),
    "adamw, weights alone, smoothed": TrainConfig(
        optimizer="adamw",
        rate=1e-3,
        weight_decay=0.05,
        decay_all=False,
        label_smoothing=0.1,
        schedule="one_cycle",
        **BATCH,
    ),
    "rmsprop, momentum, clip": TrainConfig(
        optimizer="rmsprop", rate=1e-4, weight_decay=1e-4, clip_norm=1.0, **BATCH
    ),
    "rmsprop_tf of Keras": TrainConfig(
        optimizer="rmsprop_tf", rate=1e-3, alpha=0.9, momentum=0, eps=1e-7, **BATCH
    ),
    "rmsprop_tf of TF-slim": TrainConfig(
        optimizer="rmsprop_tf",
        rate=0.045,
        alpha=0.9,
        eps=1.0,
        initial_square_avg=1,
        weight_decay=4e-5,
        label_smoothing=0.1,
        schedule="step",
        step_size=4,
        gamma=0.94,
        **BATCH,
    ),
}

by_recipe = pytest.mark.parametrize("train", RECIPES.values(), ids=RECIPES)
by_dtype = pytest.mark.parametrize("dtype", STEPS)


def test_every_optimizer_and_schedule_has_a_recipe():
    assert {train.optimizer for train in RECIPES.values()} == set(OPTIMIZERS)
    assert {train.schedule for train in RECIPES.values()} == set(SCHEDULES)


@pytest.mark.slow
@by_recipe
def test_torch_takes_the_oracles_steps(lab, train):
    leader, replica = (lab.build("torch", "float64") for _ in range(2))
    follower, other_replica = (lab.build("numpy", "float64") for _ in range(2))
    assert_agree(
        lab.lockstep(train, leader, follower, replica, other_replica, steps=STEPS["float64"])
    )


@pytest.mark.julia
@by_dtype
@by_recipe
def test_julia_takes_torchs_steps(lab, train, dtype):
    leader, replica = (lab.build("torch", dtype) for _ in range(2))
    follower, other_replica = (lab.build("julia", dtype) for _ in range(2))
    assert_agree(lab.lockstep(train, leader, follower, replica, other_replica, steps=STEPS[dtype]))


NESTEROV = TrainConfig(rate=0.05, nesterov=True, **BATCH)
DECAYING = TrainConfig(rate=0.05, weight_decay=5e-4, **BATCH)
CLIPPING = TrainConfig(rate=0.05, clip_norm=0.1, **BATCH)
OUTSIDE = TrainConfig(optimizer="rmsprop", rate=1e-3, momentum=0, eps=1e-3, **BATCH)
INSIDE = TrainConfig(optimizer="rmsprop_tf", rate=1e-3, momentum=0, eps=1e-3, **BATCH)
ACCUMULATING = TrainConfig(rate=0.05, accumulate=3, **BATCH)

PLANTED = {
    "decay forgotten on norms": (
        lambda model: option_faults.OtherOptions(model, decay_all=False),
        DECAYING,
        Place(4, "update", "moment", "optimizer.momentum.stem.norm.weight", 0),
    ),
    "nesterov without look-ahead": (
        lambda model: option_faults.OtherOptions(model, nesterov=False),
        NESTEROV,
        Place(4, "update", "parameter", "stem.conv.weight", 0),
    ),
    "eps inside the root": (
        lambda model: option_faults.OtherOptions(model, optimizer="rmsprop_tf"),
        OUTSIDE,
        Place(4, "update", "parameter", "stem.conv.weight", 0),
    ),
    "eps outside the root": (
        lambda model: option_faults.OtherOptions(model, optimizer="rmsprop"),
        INSIDE,
        Place(4, "update", "parameter", "stem.conv.weight", 0),
    ),
    "each gradient clipped by its own norm": (
        option_faults.ClippedOneByOne,
        CLIPPING,
        Place(4, "update", "moment", "optimizer.momentum.stem.conv.weight", 0),
    ),
    "stale square average": (
        faults.StaleMomentum,
        OUTSIDE,
        Place(4, "update", "moment", "optimizer.square_avg.stem.conv.weight", 1),
    ),
    "gradients of parts added up": (
        option_faults.SummedMicroBatches,
        ACCUMULATING,
        Place(4, "backward", "grad", "classifier.bias", 0),
    ),
    "running statistics of one part": (
        option_faults.StatisticsOfOneMicroBatch,
        ACCUMULATING,
        Place(4, "update", "statistic", "stem.norm.running_mean", 0),
    ),
    "norms of the whole batch": (
        lambda model: option_faults.OtherOptions(model, accumulate=1),
        ACCUMULATING,
        Place(4, "input", "batch", "images or labels", 0),
    ),
}


@pytest.mark.slow
@by_backend
@pytest.mark.parametrize(("plant", "train", "place"), PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_fault_of_an_optimizer_is_located(lab, name, plant, train, place, dtype):
    leader, replica = (lab.build("torch", dtype) for _ in range(2))
    follower = plant(lab.build(name, dtype))
    assert_divergence(lab.lockstep(train, leader, follower, replica, steps=2), place, "follower")


@by_backend
def test_a_square_average_that_starts_elsewhere_shows_in_a_free_curve(lab, name):
    """Not in lockstep, where every step starts from the leader's moments."""
    train = TrainConfig(optimizer="rmsprop_tf", rate=1e-4, initial_square_avg=1, **BATCH)
    follower = option_faults.OtherOptions(lab.build(name, "float64"), initial_square_avg=0)
    report = lab.curves(train, lab.build("torch", "float64"), follower, steps=3)
    assert_divergence(report, Place(4, "curve", "loss", "loss", 1), "follower")
