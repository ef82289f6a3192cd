"""How many errors outside ten floors a correct pair may have, at a stated false-alarm rate."""

from __future__ import annotations

import math
from functools import cache

from pymobilenet.parity.observe import Key
from pymobilenet.parity.tolerances import FALSE_ALARM_RATE, OUTSIDE_RATE


def independent_error(key: Key) -> tuple[str, int | None]:
    """Return the same value for all quantities that have one error in common.

    A gradient that is off in a step is off in the optimizer slots and in the parameter, too.

    Args:
        key: What was compared.

    Returns:
        The name of the tensor without that of an optimizer slot, and the step.
    """
    name = key.name.split(".", 2)[-1] if key.name.startswith("optimizer.") else key.name
    return name, key.step


@cache
def allowed_outside(count: int) -> int:
    """Return how many of `count` independent errors may be outside `USUAL_RATIO` floors.

    It is the least number that rounding exceeds with a probability of at most `FALSE_ALARM_RATE`,
    if each error is outside with the probability `OUTSIDE_RATE`: a quantile of the binomial
    distribution.

    Args:
        count: The number of independent errors.
    """
    allowed, exceeded = 0, 1.0 - _probability(0, count)
    while exceeded > FALSE_ALARM_RATE:
        allowed += 1
        exceeded -= _probability(allowed, count)
    return allowed


def _probability(outside: int, count: int) -> float:
    """Return the probability that `outside` of `count` errors are outside."""
    ways = math.lgamma(count + 1) - math.lgamma(outside + 1) - math.lgamma(count - outside + 1)
    inside = (count - outside) * math.log1p(-OUTSIDE_RATE)
    return math.exp(ways + outside * math.log(OUTSIDE_RATE) + inside)
