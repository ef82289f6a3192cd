"""The rate of a step: pure functions of its number, the same bits in Julia (src/schedules.jl).

Libraries' powers and cosines differ in their last bits, so both are made here of sums, products
and quotients, which IEEE 754 rounds alike everywhere. docs/training.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pymobilenet.config import TrainConfig

PI = 3.141592653589793


def rate_at(config: TrainConfig, step: int) -> float:
    """The rate of `step`, from 0: a warm-up of `config.warmup_steps`, then the schedule.

    The warm-up rises evenly and has a rate above 0 from its first step; the schedule begins where
    it ends, and counts its steps from there.

    >>> [rate_at(TrainConfig(rate=1.0, warmup_steps=3), step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    schedule = _SCHEDULES[config.schedule]
    if step < config.warmup_steps:
        return schedule(config, 0) * ((step + 1) / (config.warmup_steps + 1))
    return schedule(config, step - config.warmup_steps)


def _constant(config: TrainConfig, _step: int) -> float:
    return config.rate


def _step(config: TrainConfig, step: int) -> float:
    """Times `gamma` every `step_size` steps (torch's ``StepLR``)."""
    return config.rate * _power(config.gamma, step // config.step_size)


def _milestones(config: TrainConfig, step: int) -> float:
    """Times `gamma` at each milestone (torch's ``MultiStepLR``)."""
    return config.rate * _power(config.gamma, sum(step >= at for at in config.milestones))


def _cosine(config: TrainConfig, step: int) -> float:
    """From `rate` down to `final_rate`, which the step after the last would have.

    Loshchilov & Hutter, arXiv:1608.03983, equation 5, without restarts; torch's
    ``CosineAnnealingLR`` with ``T_max`` the steps after the warm-up.
    """
    return _anneal(config.rate, config.final_rate, min(step / _length(config), 1.0))


def _one_cycle(config: TrainConfig, step: int) -> float:
    """Up to `rate` and down again: torch's ``OneCycleLR``, its two phases with cosine annealing.

    The rate alone: momentum stays as it is.
    """
    first = config.rate / config.div_factor
    last = first / config.final_div_factor
    peak = config.pct_start * _length(config) - 1.0
    if step < peak:
        return _anneal(first, config.rate, step / peak)
    down = _length(config) - 1.0 - peak
    return _anneal(config.rate, last, min((step - peak) / down, 1.0) if down > 0 else 0.0)


_SCHEDULES: dict[str, Callable[[TrainConfig, int], float]] = {
    "constant": _constant,
    "step": _step,
    "milestones": _milestones,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}
"""By the names of `pymobilenet.config.SCHEDULES`."""


def _length(config: TrainConfig) -> int:
    """The steps after the warm-up; at least one."""
    return max(config.steps - config.warmup_steps, 1)


def _anneal(start: float, end: float, part: float) -> float:
    """From `start` to `end` on half a cosine, as `part` goes from 0 to 1."""
    return end + (start - end) / 2.0 * (_cos_pi(part) + 1.0)


def _power(base: float, exponent: int) -> float:
    """`base` to a whole power at least 0, by squaring."""
    result = 1.0
    while exponent > 0:
        if exponent % 2 == 1:
            result = result * base
        base = base * base
        exponent //= 2
    return result


def _cos_pi(x: float) -> float:
    """The cosine of pi times x, for x in [0, 1]: Taylor's series within pi / 4 of 0."""
    if x > 0.5:
        return -_cos_pi(1.0 - x)
    angle = PI * (x if x <= 0.25 else 0.5 - x)
    odd = 0 if x <= 0.25 else 1
    total, square = 0.0, angle * angle
    for n in range(18 + odd, -1, -2):
        total = 1.0 / math.factorial(n) - square * total
    return angle * total if odd else total
