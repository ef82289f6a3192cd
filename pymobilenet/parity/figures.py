"""The few figures that summarize how close two backends are in a scenario."""

from __future__ import annotations

import numpy as np

from pymobilenet.parity.floors import distance
from pymobilenet.parity.judge import key_distance
from pymobilenet.parity.observe import Key, Observations


def row_error(observations: Observations, reference: Observations) -> float:
    """Return the largest distance of an image's logits in evaluation mode, by the row's norm.

    Args:
        observations: Of one backend.
        reference: Of the oracle, or of another backend.
    """
    key = Key(1, "predict", "logits")
    return max(distance(*rows) for rows in zip(observations[key], reference[key], strict=True))


def median_gradient(observations: Observations, reference: Observations) -> float:
    """Return the median distance of all parameters' gradients, with the oracle's masks.

    Args:
        observations: Of one backend.
        reference: Of the oracle, or of another backend.
    """
    keys = [key for key in reference if key.quantity == "grad"]
    return float(np.median([key_distance(observations, reference, key) for key in keys]))


def activation_errors(observations: Observations, reference: Observations) -> dict[str, float]:
    """Return activation -> distance in training mode, in forward order.

    Args:
        observations: Of one backend.
        reference: Of the oracle, or of another backend.
    """
    keys = [key for key in reference if key.quantity == "train"]
    return {key.name: key_distance(observations, reference, key) for key in keys}


def largest_ratio(errors: dict[str, float], reference: dict[str, float]) -> tuple[str, float]:
    """Return the activation whose error is the largest multiple of the reference's, and the ratio.

    Activations with a reference error of 0 are left out.

    Args:
        errors: Activation -> error of one backend.
        reference: Activation -> error of another.
    """
    ratios = {name: errors[name] / error for name, error in reference.items() if error > 0}
    name = max(ratios, key=lambda name: ratios[name])
    return name, ratios[name]
