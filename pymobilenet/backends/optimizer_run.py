"""Optimizers that a comparison runs: what each makes of the same parameters and gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]
"""Name of a parameter -> array."""


@dataclass(frozen=True)
class OptimizerForm:
    """The formula of an optimizer; see `pymobilenet.parity.diff.optimizer_forms`.

    Attributes:
        rule: ``sgd``, ``adam`` or ``rmsprop``.
        momentum: Of ``sgd`` and ``rmsprop``.
        dampening: Of ``sgd``: the part of the gradient that does not enter the momentum.
        nesterov: ``no``; ``gradient``: the step is the gradient and the momentum times `momentum`;
            ``momentum``: it is the momentum times ``1 + momentum``.
        is_rate_inside: Whether the rate is multiplied into the momentum, and not into the step.
        beta1: Of ``adam``: decay of the average.
        beta2: Of ``adam``: decay of the average square.
        alpha: Of ``rmsprop``: decay of the average square.
        eps: Of ``adam`` and ``rmsprop``.
        eps_place: ``outside`` the root, ``inside`` it, or ``before`` the bias correction of Adam.
        corrects_bias: Whether ``adam`` divides its averages by ``1 - beta^step``.
        decay: Weight decay.
        decay_form: ``coupled``: added to the gradient; ``decoupled``: taken from the parameter,
            times the rate; ``without rate``: taken from the parameter.
        decays_vectors: Whether parameters with one axis are decayed, too.
        clip_norm: The largest norm of the gradients; 0 is no limit.
        clips_each: Whether each gradient is limited alone.
        clip_eps: Added to the norm where it divides.
        rates_ahead: How many steps the schedule is ahead.
    """

    rule: str = "sgd"
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: str = "no"
    is_rate_inside: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    alpha: float = 0.99
    eps: float = 1e-8
    eps_place: str = "outside"
    corrects_bias: bool = True
    decay: float = 0.0
    decay_form: str = "coupled"
    decays_vectors: bool = True
    clip_norm: float = 0.0
    clips_each: bool = False
    clip_eps: float = 1e-6
    rates_ahead: int = 0


class OptimizerSteps(NamedTuple):
    """The parameters after each step, and the rate of each step, if they are known."""

    parameters: list[dict[str, np.ndarray]]
    rates: list[float]


class OptimizerRun(ABC):
    """An optimizer of any framework.

    Attributes:
        name: How reports call it.
        form: Its formula, if it is known.
        has_schedule: Whether its rate is its own and cannot be set.
    """

    name: str
    form: OptimizerForm | None = None
    has_schedule: bool = False

    @abstractmethod
    def run(
        self, parameters: Arrays, gradients: Sequence[Arrays], factors: Sequence[float]
    ) -> OptimizerSteps:
        """Take one step for each of the given gradients, from a new state.

        Args:
            parameters: float32 or float64; they stay as they are.
            gradients: For each step, those of all parameters, of the same shapes and dtype.
            factors: For each step, what the optimizer's own rate is multiplied by; 1 for one that
                has a schedule.

        Returns:
            The parameters after each step, and its rate.
        """
