"""Level 5: do two groups of runs end equally well? Two one-sided tests against a margin.

That no difference was found proves nothing; that it is smaller than a margin fixed beforehand can
be shown (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987): two one-sided Welch tests must reject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.errors import BackendUnavailable, ConfigError

LEVEL = 0.05


@dataclass(frozen=True)
class Equivalence:
    """What the tests say of two groups of values.

    Attributes:
        difference: Mean of the second group less that of the first.
        interval: The (1 - 2 * `LEVEL`) confidence interval of the difference.
        p_value: The larger of the two one-sided tests'.
        margin: What the difference is to be smaller than, either way.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    margin: float

    @property
    def shown(self) -> bool:
        """Whether the groups are equivalent within the margin."""
        return self.p_value < LEVEL


def equivalence(first: Sequence[float], second: Sequence[float], margin: float) -> Equivalence:
    """Test two groups for equivalence within `margin`, by Welch's t on each side.

    Raises:
        ConfigError: A margin that is not above 0, or a group of fewer than two values.
        BackendUnavailable: SciPy is not installed.

    >>> found = equivalence([0.50, 0.51, 0.49, 0.50], [0.50, 0.52, 0.49, 0.51], margin=0.03)
    >>> found.shown, round(found.difference, 3)
    (True, 0.005)
    """
    if not margin > 0:
        raise ConfigError(f"the margin must be above 0. Received: {margin}")
    if min(len(first), len(second)) < 2:
        raise ConfigError(
            f"each group needs two runs or more. Received: {len(first)} and {len(second)}"
        )
    try:
        from scipy.stats import ttest_ind
    except ImportError as error:
        raise BackendUnavailable(
            f"SciPy is not installed ({error}): pip install 'pymobilenet[statistics]'"
        ) from None
    mine, theirs = np.asarray(first, np.float64), np.asarray(second, np.float64)
    above = ttest_ind(theirs + margin, mine, equal_var=False, alternative="greater")
    below = ttest_ind(theirs - margin, mine, equal_var=False, alternative="less")
    between = ttest_ind(theirs, mine, equal_var=False).confidence_interval(1 - 2 * LEVEL)
    return Equivalence(
        difference=float(theirs.mean() - mine.mean()),
        interval=(float(between.low), float(between.high)),
        p_value=float(max(above.pvalue, below.pvalue)),
        margin=margin,
    )
