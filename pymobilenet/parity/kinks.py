"""Both kinks of every activation function, exercised: a unit that never exceeds 6 hides a ReLU.

With weights as they are initialized, few values of a net exceed 6, so that ReLU in place of ReLU6
changes nothing. So the scenarios start from norms that push some channels of every unit past both
kinks, and the report says which units were exercised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pymobilenet.architecture import layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.weights import State

EVERY = 4
"""Of this many channels of a unit, one is pushed past both kinks."""

WEIGHT, BIAS = 4.0, 3.0
"""Factor of the norm's weight, and summand of its bias, in these channels. A normalized value then
exceeds 6 where it is above 0.75, and is below 0 where it is below -0.75."""


def past_kinks(state: State, config: MobileNetConfig) -> State:
    """Return a state in which some channels of every activated unit pass both kinks.

    Args:
        state: Parameters and running statistics by name.
        config: The net.

    Returns:
        A copy, with other norm weights and biases in every `EVERY`-th channel of units with an
        activation function.
    """
    result = dict(state)
    for layer in layers(config):
        if layer.activation:
            weight, bias = f"{layer.name}.norm.weight", f"{layer.name}.norm.bias"
            result[weight], result[bias] = result[weight].copy(), result[bias].copy()
            result[weight][::EVERY] *= result[weight].dtype.type(WEIGHT)
            result[bias][::EVERY] += result[bias].dtype.type(BIAS)
    return result


@dataclass(frozen=True)
class Exercised:
    """How many channels of a unit have values on both sides of a kink.

    Attributes:
        name: The activation, such as ``stem.act``.
        channels: The channels of the unit.
        at_zero: Those with values on both sides of 0.
        at_six: Those with values on both sides of 6; None for an activation function without it.
    """

    name: str
    channels: int
    at_zero: int
    at_six: int | None

    @property
    def fully(self) -> bool:
        """Whether a channel passes each kink."""
        return self.at_zero > 0 and (self.at_six is None or self.at_six > 0)


def exercised_kinks(activations: Mapping[str, np.ndarray], activation: str) -> list[Exercised]:
    """Return which kinks the values of every unit pass.

    Args:
        activations: Activations in training mode by name; norms are (N, C, H, W).
        activation: The activation function: relu or relu6.

    Returns:
        One for each unit with an activation function, in forward order.
    """

    def passing(norm: np.ndarray, kink: float) -> int:
        above, below = (side.any(axis=(0, 2, 3)) for side in (norm > kink, norm < kink))
        return int((above & below).sum())

    norms = {
        name: activations[name.removesuffix("act") + "norm"]
        for name in activations
        if name.endswith(".act")
    }
    return [
        Exercised(
            name,
            norm.shape[1],
            passing(norm, 0.0),
            passing(norm, 6.0) if activation == "relu6" else None,
        )
        for name, norm in norms.items()
    ]
