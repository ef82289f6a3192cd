"""The oracle as arbiter: which of two backends is off, where one was compared with the other.

In lockstep, in free runs and after a hand-over the backends are compared with each other, because
a run of the oracle costs as much as theirs. If they differ, the oracle takes the same step, or the
same run up to the step that fails, and the backend that is further from it is the one that is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.backends.base import Model
from pymobilenet.config import MobileNetConfig
from pymobilenet.parity.curves import Curves, relative
from pymobilenet.parity.judge import Row, key_distance
from pymobilenet.parity.observe import Observations, activations_by_micro_batch
from pymobilenet.parity.steps import StepInputs, take_step
from pymobilenet.training import Batches, rate_at
from pymobilenet.weights import State


def build_oracle(config: MobileNetConfig) -> Model:
    """Return a float64 model of the NumPy backend.

    Args:
        config: The net.
    """
    return backend("numpy").build(config, dtype="float64")


def exact_state(state: State) -> State:
    """Return a state in float64.

    Args:
        state: Name -> array; ``optimizer.step`` stays an integer.
    """
    return {
        name: tensor.astype(np.float64) if tensor.dtype.kind == "f" else tensor
        for name, tensor in state.items()
    }


def exact_inputs(inputs: StepInputs) -> StepInputs:
    """Return what a step starts from in float64.

    Args:
        inputs: In either dtype.
    """
    return inputs._replace(start=exact_state(inputs.start), batch=inputs.batch.astype("float64"))


def oracle_step(config: MobileNetConfig, inputs: StepInputs) -> Observations:
    """Take a step in the oracle and return its results.

    Args:
        config: The net.
        inputs: What the step starts from, in either dtype.
    """
    with np.errstate(all="ignore"):  # a run that failed may be about to overflow
        return take_step(build_oracle(config), exact_inputs(inputs))


def oracle_activations(config: MobileNetConfig, inputs: StepInputs) -> State:
    """Return the oracle's activations in training mode at the start of a step.

    Args:
        config: The net.
        inputs: What the step starts from, in either dtype.

    Returns:
        Activation -> float64 (N, C, H, W).
    """
    start, batch, train, _ = exact_inputs(inputs)
    oracle = build_oracle(config)
    oracle.set_optimizer(train)  # whose slots the state has
    oracle.set_state(start)
    with np.errstate(all="ignore"):
        return activations_by_micro_batch(oracle, batch, train.accumulate)


def arbitrate(row: Row, by_backend: Mapping[str, Observations], oracle: Observations) -> Row:
    """Return a row with the distance of every backend from the oracle.

    Args:
        row: A quantity in which the backends differ.
        by_backend: Backend -> its observations.
        oracle: The oracle's observations.
    """
    errors = {name: key_distance(values, oracle, row.key) for name, values in by_backend.items()}
    return replace(row, errors=errors)


def arbitrate_curves(curves: Curves, start: State, batches: Batches) -> Curves:
    """Name the backend that is off in two curves that differ.

    The oracle repeats the run up to the first step that fails. Its loss there is that of a third
    correct program: rounding moves it away from a correct curve by about an envelope.

    Args:
        curves: Two training curves.
        start: The state that both started from.
        batches: Their batches and training configuration.

    Returns:
        The curves with `Curves.culprit`; unchanged if they passed or no step was compared.
    """
    if curves.passed or not curves.outside.any():
        return curves
    step = int(np.argmax(curves.outside))
    oracle = build_oracle(batches.model)
    oracle.set_state(exact_state(start))
    oracle.set_optimizer(batches.train)
    loss: Any = np.nan
    with np.errstate(all="ignore"):
        for number in range(step + 1):
            images, labels, masks = batches.at(number).astype("float64")
            loss = oracle.step(images, labels, rate_at(batches.train, number), masks)[0]
    errors = [float(relative(losses[step], loss)) for losses in curves.losses]
    return replace(curves, culprit=curves.names[int(np.argmax(errors))])
