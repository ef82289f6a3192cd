"""Level 5: test that two groups of runs end equally, by two one-sided tests against a margin.

A test that shows no difference proves nothing. A difference smaller than a margin fixed beforehand
can be shown (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987): two one-sided Welch tests must
reject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.errors import BackendUnavailable, ConfigError

LEVEL = 0.05
"""Significance level of each one-sided test."""


@dataclass(frozen=True)
class Equivalence:
    """The result of the tests on two groups of values.

    Attributes:
        difference: Mean of the second group minus that of the first.
        interval: The (1 - 2 * `LEVEL`) confidence interval of the difference.
        p_value: The larger p-value of the two one-sided tests.
        margin: The bound of the difference, in either direction.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    margin: float

    @property
    def is_equivalent(self) -> bool:
        """Whether the groups are equivalent within the margin."""
        return self.p_value < LEVEL


def equivalence(first: Sequence[float], second: Sequence[float], margin: float) -> Equivalence:
    """Test two groups for equivalence within a margin, by Welch's t on each side.

    If the values of neither group differ, there is no spread to test against, and the difference
    is compared with the margin alone.

    Args:
        first: A value of each run, such as its accuracy.
        second: Of the other group, in the same unit.
        margin: The largest difference of the means that counts as none, in the same unit.

    Returns:
        Means, difference, interval and p-value.

    Raises:
        ConfigError: `margin` is not above 0, or a group has fewer than two values.
        BackendUnavailable: SciPy is not installed.

    >>> result = equivalence([0.50, 0.51, 0.49, 0.50], [0.50, 0.52, 0.49, 0.51], margin=0.03)
    >>> result.is_equivalent, round(result.difference, 3)
    (True, 0.005)
    """
    if not margin > 0:
        raise ConfigError(f"margin must be above 0. Received: {margin}")
    if min(len(first), len(second)) < 2:
        raise ConfigError(
            f"each group must have at least two runs. Received: {len(first)} and {len(second)}"
        )
    try:
        from scipy.stats import t as student
    except ImportError as error:
        raise BackendUnavailable(
            f"SciPy is not installed ({error}): pip install 'pymobilenet[statistics]'"
        ) from None
    groups = [np.asarray(values, np.float64) for values in (first, second)]
    difference = float(groups[1].mean() - groups[0].mean())
    squares = [values.var(ddof=1) / len(values) for values in groups]
    if not any(squares):
        p_value = 0.0 if abs(difference) < margin else 1.0
        return Equivalence(difference, (difference, difference), p_value, margin)
    deviation = float(np.sqrt(sum(squares)))
    freedom = sum(squares) ** 2 / sum(
        square**2 / (len(values) - 1) for square, values in zip(squares, groups, strict=True)
    )
    above = student.sf((difference + margin) / deviation, freedom)
    below = student.cdf((difference - margin) / deviation, freedom)
    half = deviation * student.ppf(1 - LEVEL, freedom)
    return Equivalence(
        difference=difference,
        interval=(float(difference - half), float(difference + half)),
        p_value=float(max(above, below)),
        margin=margin,
    )
