"""One step of each optimizer for one tensor, in float64. docs/training.md has the formulas.

An update rule takes a parameter, its gradient and its moments in the order of
`TrainConfig.moments`, and returns the new parameter and moments as new arrays. Moments start at
`TrainConfig.start_of`, `step` at 1. `clip_gradients` (over all gradients) and `apply_decay` are
applied before the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pymobilenet.config import TrainConfig
from pymobilenet.weights import State

Moments = tuple[np.ndarray, ...]


def clip_gradients(grads: State, clip_norm: float) -> State:
    """Scale gradients so that their common norm is at most `clip_norm`.

    Like `torch.nn.utils.clip_grad_norm_`, which adds 1e-6 to the norm.

    Args:
        grads: Gradients by parameter name.
        clip_norm: The largest norm; 0 disables clipping.

    Returns:
        New arrays by name, or `grads` itself if clipping is disabled.
    """
    if clip_norm == 0:
        return grads
    norm = math.sqrt(sum(float(np.square(grad).sum()) for grad in grads.values()))
    factor = np.minimum(clip_norm / (norm + 1e-6), 1.0)
    return {name: factor * grad for name, grad in grads.items()}


def apply_decay(
    config: TrainConfig, parameter: np.ndarray, grad: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Apply weight decay; parameters with one axis are decayed only with `decay_all`.

    Decay is the gradient of ``weight_decay / 2 * sum(p ** 2)``, added to the loss's gradient. AdamW
    subtracts it from the parameter instead (Loshchilov & Hutter, arXiv:1711.05101, algorithm 2).

    Args:
        config: For `optimizer`, `weight_decay` and `decay_all`.
        parameter: Any shape.
        grad: Its gradient, the same shape.
        rate: The learning rate.

    Returns:
        Parameter and gradient for the update rule.
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
    step: int,  # noqa: ARG001 - does not depend on the step
) -> tuple[np.ndarray, Moments]:
    """Stochastic gradient descent with momentum: ``v = momentum * v + grad; p = p - rate * v``.

    Like `torch.optim.SGD`: the rate is not part of the velocity, unlike in Sutskever et al., ICML
    2013, equations 1 and 2. With `nesterov`, ``p = p - rate * (grad + momentum * v)``: their
    equations 3 and 4 in the variables of Bengio et al., arXiv:1212.0901, section 3.5.

    Args:
        config: Hyperparameters.
        parameter: Any shape.
        grad: The same shape.
        moments: The velocity; empty if `momentum` is 0.
        rate: The learning rate.
        step: Number of the step, from 1.

    Returns:
        The new parameter and moments.
    """
    velocity = grad + sum(config.momentum * moment for moment in moments)
    update = grad + config.momentum * velocity if config.nesterov else velocity
    return parameter - rate * update, (velocity,) * len(moments)


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

    Args:
        config: Hyperparameters.
        parameter: Any shape.
        grad: The same shape.
        moments: First and second moment.
        rate: The learning rate.
        step: Number of the step, from 1.

    Returns:
        The new parameter and moments.
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
    step: int,  # noqa: ARG001 - does not depend on the step
) -> tuple[np.ndarray, Moments]:
    """RMSprop like `torch.optim.RMSprop` (Tieleman & Hinton, Coursera lecture 6.5, 2012).

    `eps` is added to the root, and the rate is not part of the momentum.

    Args:
        config: Hyperparameters.
        parameter: Any shape.
        grad: The same shape.
        moments: The momentum, unless `momentum` is 0, and the square average.
        rate: The learning rate.
        step: Number of the step, from 1.

    Returns:
        The new parameter and moments.
    """
    *momentum, square_avg = moments
    square_avg = config.alpha * square_avg + (1 - config.alpha) * grad * grad
    update = grad / (np.sqrt(square_avg) + config.eps)
    update = update + sum(config.momentum * moment for moment in momentum)
    return parameter - rate * update, (*(update for _ in momentum), square_avg)


def rmsprop_tf(
    config: TrainConfig,
    parameter: np.ndarray,
    grad: np.ndarray,
    moments: Moments,
    rate: float,
    step: int,  # noqa: ARG001 - does not depend on the step
) -> tuple[np.ndarray, Moments]:
    """RMSprop like TensorFlow and Keras (keras/src/optimizers/rmsprop.py).

    `eps` is added under the root, and the rate is part of the momentum.

    Args:
        config: Hyperparameters.
        parameter: Any shape.
        grad: The same shape.
        moments: The momentum, unless `momentum` is 0, and the square average.
        rate: The learning rate.
        step: Number of the step, from 1.

    Returns:
        The new parameter and moments.
    """
    *momentum, square_avg = moments
    square_avg = config.alpha * square_avg + (1 - config.alpha) * grad * grad
    update = rate * grad / np.sqrt(square_avg + config.eps)
    update = update + sum(config.momentum * moment for moment in momentum)
    return parameter - update, (*(update for _ in momentum), square_avg)


UPDATE_RULES: dict[str, Callable[..., tuple[np.ndarray, Moments]]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adam,
    "rmsprop": rmsprop,
    "rmsprop_tf": rmsprop_tf,
}
"""Update rules by the names of `pymobilenet.config.OPTIMIZERS`."""
