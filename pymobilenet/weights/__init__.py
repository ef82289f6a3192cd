"""Weights: what a model's state is, where it comes from at first, and how it travels."""

from pymobilenet.weights.initial import initial_state
from pymobilenet.weights.safetensors import WeightsFile, read_weights, write_weights
from pymobilenet.weights.state import (
    OPTIMIZER_STEP,
    State,
    averaged,
    check_state,
    optimizer_shapes,
    state_shapes,
)

__all__ = [
    "OPTIMIZER_STEP",
    "State",
    "WeightsFile",
    "averaged",
    "check_state",
    "initial_state",
    "optimizer_shapes",
    "read_weights",
    "state_shapes",
    "write_weights",
]
