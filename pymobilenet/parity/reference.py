"""The oracle's run of a scenario: its results, and the inputs that every backend receives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.config import TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.parity.observe import (
    Observations,
    activations_by_micro_batch,
    masks_of_activations,
    observe,
)
from pymobilenet.parity.scenario import WORKING_RECIPES, Inputs, Scenario
from pymobilenet.weights import State

STATISTIC_BITS = 10
"""Significant bits of the running statistics that a scenario starts from."""


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


def prepared(oracle: Model, inputs: Inputs) -> Inputs:
    """Add to the inputs of a scenario what is computed by the oracle.

    - Running statistics: those of the first batch, moved and scaled by the given ones. Evaluation
      mode is then as well-conditioned as training mode, and not the same.
    - The activation masks of every step. A value near 0 or 6 may fall on either side of ReLU6's
      kink in two correct programs, and its gradient is then passed on or not. With the same masks
      in every backend, gradients compare.

    Args:
        oracle: A float64 model of the NumPy backend.
        inputs: The state and the batches, in either dtype.

    Returns:
        The inputs with other running statistics, and batches with the masks of their step.
    """
    inputs = replace(inputs, state=inputs.state | _running_statistics(oracle, inputs))
    exact = inputs.astype("float64")

    def masked(recipe: TrainConfig) -> Iterator[Batch]:
        exact.load_into(oracle, recipe)
        batches = exact.batches[recipe.optimizer]
        steps = zip(batches, inputs.batches[recipe.optimizer], strict=True)
        for number, (batch, unmasked) in enumerate(steps, start=1):
            values = activations_by_micro_batch(oracle, batch, recipe.accumulate)
            masks = masks_of_activations(values, inputs.config.activation)
            if number < len(batches):
                oracle.step(batch.images, batch.labels, recipe.rate, batch.masks | masks)
            yield unmasked._replace(masks=unmasked.masks | masks)

    batches = {recipe.optimizer: tuple(masked(recipe)) for recipe in WORKING_RECIPES}
    return replace(inputs, batches=batches)


def _running_statistics(oracle: Model, inputs: Inputs) -> State:
    """Return running statistics near those of the first batch.

    They are rounded to a few bits, so that they are the same on every machine.
    """
    exact = inputs.astype("float64")
    exact.load_into(oracle)
    front, back = oracle.split(0)
    back(front(exact.first.images, train=True), train=True)
    after, statistics = oracle.get_state(), {}
    for name in [name for name in exact.state if name.endswith("running_var")]:
        mean_name = name.removesuffix("var") + "mean"
        mean, var = (
            exact.state[one] + (after[one] - exact.state[one]) / inputs.config.norm_momentum
            for one in (mean_name, name)
        )
        statistics[mean_name] = mean + exact.state[mean_name] * np.sqrt(var)
        statistics[name] = var * exact.state[name]
    return {name: _rounded(values).astype(inputs.dtype) for name, values in statistics.items()}


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round to `STATISTIC_BITS` significant bits."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, STATISTIC_BITS)), exponent - STATISTIC_BITS)
