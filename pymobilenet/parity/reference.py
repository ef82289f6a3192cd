"""The oracle's part in a scenario: the activation masks it gives everyone, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.backends import backend
from pymobilenet.data import Dataset
from pymobilenet.parity.observe import Observations, SharedMasks, compute_shared_masks, observe
from pymobilenet.parity.scenario import Inputs, Scenario


@dataclass(frozen=True)
class Reference:
    """What models are given in a scenario, the oracle's `masks`, and all it has `seen` itself."""

    scenario: Scenario
    inputs: Inputs
    masks: SharedMasks
    seen: Observations


def reference(scenario: Scenario, data: Dataset) -> Reference:
    """Put the float64 oracle through a scenario with the images of `data`."""
    return reference_for(scenario, scenario.inputs(data))


def reference_for(scenario: Scenario, inputs: Inputs) -> Reference:
    """Put the float64 oracle through a scenario with these inputs."""
    exact = inputs.astype("float64")
    oracle = backend("numpy").build(scenario.config, dtype="float64")
    masks = compute_shared_masks(oracle, exact)
    return Reference(scenario, inputs, masks, observe(oracle, exact, masks))
