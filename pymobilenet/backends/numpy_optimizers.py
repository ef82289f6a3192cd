"""One step of each optimizer for one tensor, in float64; docs/training.md has the formulas.

A rule takes a parameter, its gradient and its moments, in the order of `TrainConfig.moments`, and
gives parameter and moments after the step, as new arrays. Moments start at `TrainConfig.start_of`,
`step` at 1. Before the rule come `clipped`, over all gradients, and `decayed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pymobilenet.config import TrainConfig
from pymobilenet.weights import State

Moments = tuple[np.ndarray, ...]


def clipped(grads: State, largest: float) -> State:
    """Gradients whose norm, that of all of them together, is at most `largest`; 0 is no limit.

    As `torch.nn.utils.clip_grad_norm_`, with its 1e-6 beside the norm.
    """
    if largest == 0:
        return grads
    norm = math.sqrt(sum(float(np.square(grad).sum()) for grad in grads.values()))
    factor = np.minimum(largest / (norm + 1e-6), 1.0)
    return {name: factor * grad for name, grad in grads.items()}


def decayed(
    config: TrainConfig, parameter: np.ndarray, grad: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Parameter and gradient after the weight decay; what has one axis only with `decay_all`.

    Decay is the gradient of ``weight_decay / 2 * sum(p ** 2)``, added to the loss's. In AdamW it
    goes past the moments (Loshchilov & Hutter, arXiv:1711.05101, algorithm 2).
    """
    if parameter.ndim < 2 and not config.decay_all:
        return parameter, grad
    if config.optimizer == "adamw":
        return (1 - rate * config.weight_decay) * parameter, grad
    return parameter, grad + config.weight_decay * parameter


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
    2013, equations 1 and 2. With `nesterov`, ``p = p - rate * (grad + momentum * v)``, their
    equations 3 and 4 in the variables of Bengio et al., arXiv:1212.0901, section 3.5. Without
    momentum there is no velocity to keep.
    """
    velocity = grad + sum(config.momentum * moment for moment in moments)
    pull = grad + config.momentum * velocity if config.nesterov else velocity
    return parameter - rate * pull, (velocity,) * len(moments)


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


def rmsprop(
    config: TrainConfig,
    parameter: np.ndarray,
    grad: np.ndarray,
    moments: Moments,
    rate: float,
    step: int,  # noqa: ARG001 - every step is the same
) -> tuple[np.ndarray, Moments]:
    """Tieleman & Hinton, Coursera lecture 6.5 (2012), as `torch.optim.RMSprop` has it.

    `eps` is added to the root, and the rate stays outside the momentum.
    """
    *momentum, square_avg = moments
    square_avg = config.alpha * square_avg + (1 - config.alpha) * grad * grad
    pull = grad / (np.sqrt(square_avg) + config.eps)
    pull = pull + sum(config.momentum * moment for moment in momentum)
    return parameter - rate * pull, (*(pull for _ in momentum), square_avg)


def rmsprop_tf(
    config: TrainConfig,
    parameter: np.ndarray,
    grad: np.ndarray,
    moments: Moments,
    rate: float,
    step: int,  # noqa: ARG001 - every step is the same
) -> tuple[np.ndarray, Moments]:
    """RMSprop as TensorFlow and Keras have it (keras/src/optimizers/rmsprop.py).

    `eps` is added under the root, and the rate is in the momentum.
    """
    *momentum, square_avg = moments
    square_avg = config.alpha * square_avg + (1 - config.alpha) * grad * grad
    pull = rate * grad / np.sqrt(square_avg + config.eps)
    pull = pull + sum(config.momentum * moment for moment in momentum)
    return parameter - pull, (*(pull for _ in momentum), square_avg)


RULES: dict[str, Callable[..., tuple[np.ndarray, Moments]]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adam,
    "rmsprop": rmsprop,
    "rmsprop_tf": rmsprop_tf,
}
"""By the names of `pymobilenet.config.OPTIMIZERS`."""
