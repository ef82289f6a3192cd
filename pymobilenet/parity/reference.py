"""The oracle's run of a scenario: its masks, which every backend receives, and its results."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.backends import backend
from pymobilenet.data import Dataset
from pymobilenet.parity.observe import Observations, SharedMasks, compute_shared_masks, observe
from pymobilenet.parity.scenario import Inputs, Scenario


@dataclass(frozen=True)
class Reference:
    """The oracle's run of a scenario.

    Attributes:
        scenario: What was run.
        inputs: The state and the batches that every backend receives, in the scenario's dtype.
        masks: The oracle's activation masks.
        observations: The oracle's results, float64.
    """

    scenario: Scenario
    inputs: Inputs
    masks: SharedMasks
    observations: Observations


def compute_reference(scenario: Scenario, data: Dataset) -> Reference:
    """Run a scenario in the float64 oracle, with the images of `data`.

    Args:
        scenario: What to run.
        data: Training images.

    Returns:
        The inputs, the activation masks and the results.
    """
    return compute_reference_for(scenario, scenario.inputs(data))


def compute_reference_for(scenario: Scenario, inputs: Inputs) -> Reference:
    """Run a scenario in the float64 oracle, with these inputs.

    Args:
        scenario: What to run.
        inputs: The state and the batches, in the scenario's dtype.

    Returns:
        The inputs, the activation masks and the results.
    """
    exact = inputs.astype("float64")
    oracle = backend("numpy").build(scenario.config, dtype="float64")
    masks = compute_shared_masks(oracle, exact)
    return Reference(scenario, inputs, masks, observe(oracle, exact, masks))
