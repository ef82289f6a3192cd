"""The few figures that say how close two backends are, out of everything that was observed."""

from __future__ import annotations

import numpy as np

from pymobilenet.parity.floors import distance
from pymobilenet.parity.judge import off
from pymobilenet.parity.observe import Key, Observations


def row_error(seen: Observations, reference: Observations) -> float:
    """The largest distance of an image's logits (evaluation mode), by the norm of its row."""
    key = Key(1, "predict", "logits")
    return max(distance(*rows) for rows in zip(seen[key], reference[key], strict=True))


def median_gradient(seen: Observations, reference: Observations) -> float:
    """The median over all parameters of the distance of the gradient, with the oracle's masks."""
    keys = [key for key in reference if key.quantity == "grad"]
    return float(np.median([off(seen, reference, key) for key in keys]))


def activation_errors(seen: Observations, reference: Observations) -> dict[str, float]:
    """Activation -> distance in training mode, in forward order."""
    keys = [key for key in reference if key.quantity == "train"]
    return {key.name: off(seen, reference, key) for key in keys}


def largest_ratio(errors: dict[str, float], reference: dict[str, float]) -> tuple[str, float]:
    """The activation at which `errors` is the largest multiple of `reference`, and the multiple.

    Activations that the reference has exactly are left out.
    """
    ratios = {name: errors[name] / off for name, off in reference.items() if off > 0}
    name = max(ratios, key=lambda name: ratios[name])
    return name, ratios[name]
