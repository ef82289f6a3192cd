"""The oracle's run of a scenario: its results, and the inputs that every backend receives."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.backends import backend
from pymobilenet.data import Dataset
from pymobilenet.parity.observe import Observations, observe, prepared
from pymobilenet.parity.scenario import Inputs, Scenario


@dataclass(frozen=True)
class Reference:
    """The oracle's run of a scenario.

    Attributes:
        scenario: What was run.
        inputs: The state and the batches that every backend receives, in the scenario's dtype,
            with the oracle's activation masks.
        observations: The oracle's results, float64.
    """

    scenario: Scenario
    inputs: Inputs
    observations: Observations


def compute_reference(scenario: Scenario, data: Dataset) -> Reference:
    """Run a scenario in the float64 oracle, with the images of `data`.

    Args:
        scenario: What to run.
        data: Training images.

    Returns:
        The inputs with activation masks, and the results.
    """
    return compute_reference_for(scenario, scenario.inputs(data))


def compute_reference_for(scenario: Scenario, inputs: Inputs) -> Reference:
    """Run a scenario in the float64 oracle, with these inputs.

    Args:
        scenario: What to run.
        inputs: The state and the batches, in the scenario's dtype.

    Returns:
        The inputs with activation masks, and the results.
    """
    oracle = backend("numpy").build(scenario.config, dtype="float64")
    masked = prepared(oracle, inputs)
    return Reference(scenario, masked, observe(oracle, masked.astype("float64")))
