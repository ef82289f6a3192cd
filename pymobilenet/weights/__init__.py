"""The state of a model: canonical names and shapes, initial values, validation."""

from pymobilenet.weights.initial import initial_state
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
    "averaged",
    "check_state",
    "initial_state",
    "optimizer_shapes",
    "state_shapes",
]
