"""Planted faults in the options of model and training are found, and the faulty model is named."""

from functools import partial

import faults
import option_faults
import pytest
from lab import Place, assert_divergence, by_backend
from option_faults import OtherFrozen, OtherOptions

from pymobilenet.parity.handover import BEFORE, HANDOVERS, optimizer_name

pytestmark = pytest.mark.slow

FIRST = "stem.conv.weight"
PREDICTED = Place(1, "forward", "predict", "logits")
FROZEN = Place(1, "forward", "frozen", "logits")
DROPPED = Place(1, "forward", "train", "logits")
MEAN = "stem.norm.running_mean"

PLANTED = {
    "height and width of kernels swapped": (
        faults.TransposedKernel,
        Place(1, "forward", "eval", "stem.conv"),
    ),
    "variance of square maps": (
        faults.VarianceOfSquareMaps,
        Place(2, "update", "statistic", "stem.norm.running_var"),
    ),
    "softmax missing": (option_faults.WithoutSoftmax, PREDICTED),
    "softmax twice": (option_faults.SoftmaxTwice, PREDICTED),
    "frozen without clip": (partial(OtherFrozen, activation="relu"), FROZEN),
    "frozen with another eps": (partial(OtherFrozen, norm_eps=1e-4), FROZEN),
    "frozen without softmax": (partial(OtherFrozen, softmax=False), FROZEN),
    "no dropout": (option_faults.without_dropout, DROPPED),
    "dropout not scaled": (option_faults.unscaled_dropout, DROPPED),
    "labels not smoothed": (option_faults.HardLabels, Place(2, "forward", "loss", "loss")),
    "not clipped": (
        partial(OtherOptions, clip_norm=0.0),
        Place(3, "update", "sgd-moment", f"optimizer.momentum.{FIRST}", 0),
    ),
    "each gradient clipped by its own norm": (
        option_faults.ClippedOneByOne,
        Place(3, "update", "sgd-moment", f"optimizer.momentum.{FIRST}", 0),
    ),
    "gradients of micro-batches added up": (
        option_faults.SummedMicroBatches,
        Place(3, "update", "adam-moment", f"optimizer.exp_avg.{FIRST}", 0),
    ),
    "running statistics of one micro-batch": (
        option_faults.StatisticsOfOneMicroBatch,
        Place(3, "update", "adam-statistic", MEAN, 0),
    ),
    "norms of the whole batch": (
        partial(OtherOptions, accumulate=1),
        Place(3, "update", "adam-statistic", MEAN, 0),
    ),
}


@by_backend
@pytest.mark.parametrize(("plant", "place"), PLANTED.values(), ids=PLANTED)
def test_a_fault_in_an_option_is_located(lab, name, plant, place):
    report = lab.levels("float64", faulty=plant(lab.build(name, "float64")))
    assert_divergence(report, place, "faulty")


def test_a_mean_over_square_maps_is_located(lab):
    report = lab.levels("float64", faulty=faults.mean_over_squares(lab.build("torch", "float64")))
    assert_divergence(report, Place(1, "forward", "eval", "pool"), "faulty")


OTHER_VALUES = {
    "sgd": [{"momentum": 0.89}, {"clip_norm": 0.0}, {"nesterov": True}],
    "nesterov": [
        {"nesterov": False},
        {"momentum": 0.89},
        {"weight_decay": 4e-4},
        {"accumulate": 1},
    ],
    "adam": [{"beta1": 0.89}, {"beta2": 0.99}, {"eps": 1e-7}, {"ema_decay": 0.89}],
    "adamw": [{"weight_decay": 0.04}, {"decay_all": True}, {"optimizer": "adam"}, {"beta2": 0.99}],
    "rmsprop": [
        {"alpha": 0.98},
        {"momentum": 0.89},
        {"eps": 1e-7},
        {"weight_decay": 0.0},
        {"optimizer": "rmsprop_tf"},
    ],
    "rmsprop_tf": [
        {"alpha": 0.98},
        {"momentum": 0.89},
        {"eps": 1e-2},
        {"initial_square_avg": 0.0},
        {"optimizer": "rmsprop", "initial_square_avg": 0.0},
    ],
}
"""Optimizer -> fields of its recipe of level 6, and other values."""

CASES = [
    pytest.param(train, fields, id=f"{optimizer_name(train)}-{'-'.join(fields)}")
    for train in HANDOVERS
    for fields in OTHER_VALUES[optimizer_name(train)]
]


@by_backend
@pytest.mark.parametrize(("train", "fields"), CASES)
def test_another_value_of_an_optimizers_option_is_found_after_a_hand_over(lab, name, train, fields):
    models = [lab.build("torch", "float64") for _ in range(2)]
    follower = OtherOptions(lab.build(name, "float64"), **fields)
    report = lab.hand_over(train, models[0], follower, models[1])
    first = report.first_divergence
    assert (first.level, first.backend) == (6, "follower")
    is_initial = "initial_square_avg" in fields
    assert (first.quantity == "initial") is is_initial
    assert first.step == (None if is_initial else BEFORE)
