"""One step of each optimizer for one tensor, in float64.

A rule takes a parameter, its gradient and its moments, in the order of `TrainConfig.slots`, and
gives parameter and moments after the step, as new arrays. Moments start at 0, `step` at 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pymobilenet.config import TrainConfig

Moments = tuple[np.ndarray, ...]


def sgd(
    config: TrainConfig,
    parameter: np.ndarray,
    grad: np.ndarray,
    moments: Moments,
    rate: float,
    step: int,  # noqa: ARG001 - every step is the same
) -> tuple[np.ndarray, Moments]:
    """Stochastic gradient descent with momentum: ``v = momentum * v + grad; p = p - rate * v``.

    As `torch.optim.SGD`: the rate stays outside the velocity, unlike in Sutskever et al., ICML
    2013, equations 1 and 2. Without momentum there is no velocity to keep.
    """
    velocity = grad + sum(config.momentum * moment for moment in moments)
    return parameter - rate * velocity, (velocity,) * len(moments)


def adam(
    config: TrainConfig,
    parameter: np.ndarray,
    grad: np.ndarray,
    moments: Moments,
    rate: float,
    step: int,
) -> tuple[np.ndarray, Moments]:
    """Kingma & Ba, arXiv:1412.6980, algorithm 1, in the order of operations of `torch.optim.Adam`.

    `eps` is added to the root of the corrected second moment.
    """
    exp_avg, exp_avg_sq = moments
    exp_avg = exp_avg + (1 - config.beta1) * (grad - exp_avg)
    exp_avg_sq = config.beta2 * exp_avg_sq + (1 - config.beta2) * grad * grad
    root = np.sqrt(exp_avg_sq) / math.sqrt(1 - config.beta2**step)
    rate = rate / (1 - config.beta1**step)
    return parameter - rate * exp_avg / (root + config.eps), (exp_avg, exp_avg_sq)


RULES: dict[str, Callable[..., tuple[np.ndarray, Moments]]] = {"sgd": sgd, "adam": adam}
"""By the names of `pymobilenet.config.OPTIMIZERS`."""
