"""Faults in the optimizers of every backend, judged in lockstep, where a step is named, too.

Where a fault begins is known without any judge, as in `source_faults`.
"""

import functools
from dataclasses import replace

import numpy as np

from parity import operators
from parity.outcomes import JUDGED, NO_EFFECT, RAISES, Outcome
from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends import numpy as numpy_model
from pymobilenet.backends import numpy_optimizers
from pymobilenet.backends.torch import model as torch_model
from pymobilenet.backends.torch import optimizers as torch_optimizers
from pymobilenet.data import synthetic
from pymobilenet.parity.lockstep import StepInputs, lockstep, take_step
from pymobilenet.parity.scenario import start_state
from pymobilenet.training import Batches

CONFIG = MobileNetConfig(width_mult=0.0625, resolution=32, num_classes=5)
STEPS = 2
BATCH = {"batch_size": 8, "steps": 20}
RECIPES = {
    "sgd": TrainConfig(rate=0.05, nesterov=True, weight_decay=0.01, clip_norm=0.5, **BATCH),
    "sgd, gradients within the limit": TrainConfig(rate=0.05, clip_norm=240.0, **BATCH),
    "sgd without momentum": TrainConfig(rate=0.05, momentum=0.0, **BATCH),
    "sgd, weights alone": TrainConfig(rate=0.05, weight_decay=0.01, decay_all=False, **BATCH),
    "adam": TrainConfig("adam", rate=1e-3, weight_decay=0.01, eps=1e-3, ema_decay=0.9, **BATCH),
    "adamw": TrainConfig("adamw", rate=1e-3, weight_decay=0.1, decay_all=False, eps=1e-3, **BATCH),
    "rmsprop": TrainConfig("rmsprop", rate=1e-4, weight_decay=0.01, eps=1e-3, **BATCH),
    "rmsprop_tf": TrainConfig("rmsprop_tf", rate=1e-4, eps=1e-3, clip_norm=0.5, **BATCH),
    "rmsprop without momentum": TrainConfig("rmsprop", rate=1e-4, momentum=0, eps=1e-3, **BATCH),
}
RECIPES_OF = {
    "sgd": ("sgd", "sgd, weights alone", "sgd without momentum"),
    "adam": ("adam", "adamw"),
    "rmsprop": ("rmsprop", "rmsprop without momentum"),
    "rmsprop_tf": ("rmsprop_tf",),
    "RMSpropTF": ("rmsprop_tf",),
    "TorchSGD": ("sgd", "sgd, weights alone", "sgd without momentum"),
    "TorchAdam": ("adam", "adamw"),
    "TorchRMSProp": ("rmsprop",),
    "TensorFlowRMSProp": ("rmsprop_tf",),
    "update_average!": ("adam",),
}
"""The start of a fault's name -> the recipes that use the function; all others use any."""

NUMPY_FUNCTIONS = (
    numpy_optimizers.sgd,
    numpy_optimizers.adam,
    numpy_optimizers.rmsprop,
    numpy_optimizers.rmsprop_tf,
    numpy_optimizers.apply_decay,
    numpy_optimizers.clip_gradients,
    numpy_model.NumpyModel._update_parameters,
)
TORCH_FUNCTIONS = (
    torch_optimizers.RMSpropTF.step,
    torch_optimizers.RMSpropTF._initial_state,
    torch_optimizers.clip,
    torch_optimizers._groups,
    torch_model.TorchModel._update,
)
LEADERS = {"NumPy": "torch", "torch": "numpy", "Julia": "torch"}
"""Whose optimizer has the fault -> the backend that is compared with it."""


def optimizer_mutations(side):
    functions = NUMPY_FUNCTIONS if side == "NumPy" else TORCH_FUNCTIONS
    return [m for f in functions for m in operators.mutations(f, "numpy")]


@functools.cache
def _batches(recipe):
    data = synthetic(num_images=64, num_classes=CONFIG.num_classes)
    return Batches(data, RECIPES[recipe], CONFIG, "float64")


def _model(name):
    return backend(name).build(CONFIG, dtype="float64")


@functools.cache
def _starts(side, recipe):
    """The leader's state before each step, and the follower's step from it without a fault."""
    train, batches = RECIPES[recipe], _batches(recipe)
    leader, follower = _model(LEADERS[side]), _model(side.lower())
    leader.set_state(start_state(CONFIG, 0, "float64"))
    leader.set_optimizer(train)
    found = []
    for step in range(STEPS):
        inputs = StepInputs(leader.get_state(), batches.at(step), train, step)
        take_step(leader, inputs)
        found.append((inputs, take_step(follower, inputs)))
    return found


def _first_change(side, recipe, follower):
    """The first number with other bits, as its key in the results of a step; or None."""
    for inputs, expected in _starts(side, recipe):
        values = take_step(follower, inputs)
        for key, value in expected.items():
            if not np.array_equal(value, values[key], equal_nan=True):
                return key
    return None


def judge_optimizer(side, name, operator, planted):
    """Run the recipes in turn until the fault changes anything; then judge it in lockstep.

    `planted` is a function that gives a context in which the fault is active.
    """
    group = f"optimizers of the {side} backend"
    for recipe in _recipes(name):
        _starts(side, recipe)
        try:
            with planted(), np.errstate(all="ignore"):
                follower = _model(side.lower())
                place = _first_change(side, recipe, follower)
                if place is None:
                    continue
                leader, replica = (_model(LEADERS[side]) for _ in range(2))
                leader.set_state(start_state(CONFIG, 0, "float64"))
                names = ("leader", "follower")
                result = lockstep(leader, follower, (replica,), _batches(recipe), STEPS, names)
        except Exception as error:  # any that a wrong program raises
            return Outcome(name, group, operator, RAISES, words=f"{error!s:.200}")
        found = result.divergence
        located = found is not None and (found.quantity, found.name, found.step) == (
            place.quantity,
            place.name,
            place.step,
        )
        words = "" if located else f"{recipe}: begins at {place}, named {found}"
        return Outcome(name, group, operator, JUDGED, found is not None, located, words=words)
    return Outcome(name, group, operator, NO_EFFECT)


def _recipes(name):
    words = name.replace("::", " ").replace(":", " ").replace(".", " ").split()
    return next((RECIPES_OF[word] for word in words[:2] if word in RECIPES_OF), tuple(RECIPES))


def judge_mutation(side, mutation):
    outcome = judge_optimizer(
        side, str(mutation), mutation.operator, lambda: operators.planted(mutation)
    )
    return replace(outcome, name=str(mutation))
