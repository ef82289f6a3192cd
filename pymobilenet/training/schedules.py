"""Learning-rate schedules, bit-identical to those in Julia (src/schedules.jl).

Libraries' powers and cosines differ in their last bits, so both are computed here from sums,
products and quotients, which IEEE 754 rounds identically everywhere. docs/training.md has the
formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pymobilenet.config import TrainConfig

PI = 3.141592653589793


def rate_at(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then the schedule.

    The rate is above 0 from the first step of the warm-up. The schedule counts its steps from the
    end of the warm-up.

    Args:
        config: Schedule, rate and warm-up.
        step: Number of the step, from 0.

    Examples:
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
    """Multiply by `gamma` every `step_size` steps (PyTorch's ``StepLR``)."""
    return config.rate * _power(config.gamma, step // config.step_size)


def _milestones(config: TrainConfig, step: int) -> float:
    """Multiply by `gamma` at each milestone (PyTorch's ``MultiStepLR``)."""
    return config.rate * _power(config.gamma, sum(step >= at for at in config.milestones))


def _cosine(config: TrainConfig, step: int) -> float:
    """Decrease from `rate` to `final_rate`, which the step after the last one would have.

    Loshchilov & Hutter, arXiv:1608.03983, equation 5, without restarts; PyTorch's
    ``CosineAnnealingLR`` with ``T_max`` equal to the number of steps after the warm-up.
    """
    return _anneal(config.rate, config.final_rate, min(step / _length(config), 1.0))


def _one_cycle(config: TrainConfig, step: int) -> float:
    """Increase to `rate` and decrease again: PyTorch's ``OneCycleLR`` with cosine annealing.

    Only the rate is changed; momentum is constant.
    """
    first = config.rate / config.div_factor
    last = first / config.final_div_factor
    peak = config.pct_start * _length(config) - 1.0
    if step < peak:
        return _anneal(first, config.rate, step / peak)
    descent = _length(config) - 1.0 - peak
    fraction = min((step - peak) / descent, 1.0) if descent > 0 else 0.0
    return _anneal(config.rate, last, fraction)


_SCHEDULES: dict[str, Callable[[TrainConfig, int], float]] = {
    "constant": _constant,
    "step": _step,
    "milestones": _milestones,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}
"""Schedules by the names of `pymobilenet.config.SCHEDULES`."""


def _length(config: TrainConfig) -> int:
    """The number of steps after the warm-up, at least 1."""
    return max(config.steps - config.warmup_steps, 1)


def _anneal(start: float, end: float, fraction: float) -> float:
    """Interpolate from `start` to `end` on half a cosine, for `fraction` in [0, 1]."""
    return end + (start - end) / 2.0 * (_cos_pi(fraction) + 1.0)


def _power(base: float, exponent: int) -> float:
    """Raise `base` to a power of at least 0, by squaring."""
    result = 1.0
    while exponent > 0:
        if exponent % 2 == 1:
            result = result * base
        base = base * base
        exponent //= 2
    return result


def _cos_pi(x: float) -> float:
    """Compute cos(pi x) for x in [0, 1], by the Taylor series within pi / 4 of 0."""
    if x > 0.5:
        return -_cos_pi(1.0 - x)
    angle = PI * (x if x <= 0.25 else 0.5 - x)
    odd = 0 if x <= 0.25 else 1
    total, square = 0.0, angle * angle
    for n in range(18 + odd, -1, -2):
        total = 1.0 / math.factorial(n) - square * total
    return angle * total if odd else total
