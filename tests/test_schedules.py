"""Learning-rate schedules against recorded values and torch's schedulers."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules_reference import CASES, VECTORS, rates

from pymobilenet import TrainConfig
from pymobilenet.config import SCHEDULES
from pymobilenet.training import rate_at
from pymobilenet.training.schedules import _cos_pi, _power

RECORDED = json.loads(VECTORS.read_text())["cases"]

each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def recipe(schedule, **fields):
    return TrainConfig(schedule=schedule, step_size=3, milestones=(2, 7), **fields)


@pytest.mark.parametrize(
    "case", RECORDED, ids=[f"{n}-{case['config']['schedule']}" for n, case in enumerate(RECORDED)]
)
def test_rates_are_the_recorded_ones_to_the_bit(case):
    config = TrainConfig.from_dict(case["config"])
    assert [rate_at(config, t).hex() for t in range(len(case["rates"]))] == case["rates"]


def test_the_vectors_equal_those_of_the_reference():
    assert [case["config"] for case in RECORDED] == CASES
    assert [case["rates"] for case in RECORDED] == [
        [rate.hex() for rate in rates(case)] for case in CASES
    ]
    assert {case["schedule"] for case in CASES} == set(SCHEDULES)


def torchs(config, count):
    """The rates of torch's own scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], config.rate, momentum=0.9)
    kinds, length = torch.optim.lr_scheduler, config.steps
    scheduler = {
        "constant": lambda: kinds.ConstantLR(optimizer, factor=1.0),
        "step": lambda: kinds.StepLR(optimizer, config.step_size, config.gamma),
        "milestones": lambda: kinds.MultiStepLR(optimizer, list(config.milestones), config.gamma),
        "cosine": lambda: kinds.CosineAnnealingLR(optimizer, length, config.final_rate),
        "one_cycle": lambda: kinds.OneCycleLR(
            optimizer,
            config.rate,
            total_steps=length,
            pct_start=config.pct_start,
            div_factor=config.div_factor,
            final_div_factor=config.final_div_factor,
        ),
    }[config.schedule]()
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < count:
            scheduler.step()
    return rates


@each_schedule
@pytest.mark.parametrize("steps", [12, 37, 150])
def test_rates_are_those_of_torchs_schedulers(schedule, steps):
    config = recipe(schedule, rate=0.4, steps=steps, final_rate=1e-3, gamma=0.3)
    rates = [rate_at(config, step) for step in range(steps)]
    np.testing.assert_allclose(rates, torchs(config, steps), rtol=1e-11)


@each_schedule
def test_the_warm_up_rises_evenly_to_where_the_schedule_begins(schedule):
    plain = recipe(schedule, rate=0.4, steps=20)
    warm = recipe(schedule, rate=0.4, steps=25, warmup_steps=5)
    rates = [rate_at(warm, step) for step in range(25)]
    assert rates[5:] == [rate_at(plain, step) for step in range(20)]
    np.testing.assert_allclose(rates[:6], rate_at(plain, 0) * np.arange(1, 7) / 6, rtol=1e-15)


def test_a_constant_rate_is_the_configs_to_the_bit():
    assert all(rate_at(TrainConfig(rate=0.1), step) == 0.1 for step in (0, 1, 10**9))


def test_one_cycle_reaches_its_rate_and_ends_far_below_it():
    config = TrainConfig(schedule="one_cycle", rate=0.4, steps=101, pct_start=0.5 + 0.5 / 101)
    rates = [rate_at(config, step) for step in range(101)]
    assert rates.index(max(rates)) == 50
    assert rates[50] == pytest.approx(0.4, rel=1e-12)
    assert rates[0] == pytest.approx(0.016, rel=1e-12)
    assert rates[100] == pytest.approx(1.6e-6, rel=1e-9)


@settings(deadline=None, database=None)
@given(
    schedule=st.sampled_from(SCHEDULES),
    steps=st.integers(0, 50),
    warmup=st.integers(0, 60),
    pct_start=st.floats(0, 1),
    step=st.integers(0, 10**9),
)
def test_a_rate_is_never_negative_nor_above_the_configs(schedule, steps, warmup, pct_start, step):
    config = recipe(schedule, rate=0.1, steps=steps, warmup_steps=warmup, pct_start=pct_start)
    assert 0 <= rate_at(config, step) <= 0.1 * (1 + 1e-15)


@settings(deadline=None, database=None)
@given(x=st.floats(0, 1))
def test_the_cosine_is_right_to_the_last_bits(x):
    """pi x is rounded too, by as much as half a unit in the last place of pi / 2."""
    assert abs(_cos_pi(x) - math.cos(math.pi * x)) < 5e-16


@settings(deadline=None, database=None)
@given(base=st.floats(0, 1), exponent=st.integers(0, 200))
def test_the_power_is_right_to_the_last_bits(base, exponent):
    assert _power(base, exponent) == pytest.approx(base**exponent, rel=1e-13, abs=1e-300)


def test_a_power_that_underflows_is_zero():
    assert _power(0.1, 10**9) == 0.0
