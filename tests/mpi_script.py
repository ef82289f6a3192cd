"""What peers/test_mpi_peer.py has mpiexec start; each process writes what it found as JSON.

A step of two processes is a step in two parts of one: the same means of the same gradients. Only
the running statistics differ, and those stay put here, with a momentum of 0.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends.julia import JuliaModel
from pymobilenet.data import synthetic
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.scenario import start_state
from pymobilenet.training import Batches

CONFIG = MobileNetConfig(
    width_mult=0.1, resolution=32, num_classes=5, stem_stride=2, dropout=0.2, norm_momentum=0
)
IMAGES = synthetic(64, num_classes=5)
RECIPE = {"batch_size": 16, "weight_decay": 5e-4, "clip_norm": 1.0, "ema_decay": 0.9}
RECIPES = {
    "sgd": TrainConfig(rate=0.05, nesterov=True, **RECIPE),
    "adam": TrainConfig(optimizer="adam", rate=1e-4, label_smoothing=0.1, **RECIPE),
}


class InShards(JuliaModel):
    """Two processes that take the two parts of a batch."""

    def set_optimizer(self, config):
        super().set_optimizer(replace(config, accumulate=1))


def locked(train, steps=3, plant=lambda _model: None):
    """Steps from the same state each, held against the floors of torch alone."""
    alone = [backend("torch").build(CONFIG, dtype="float64") for _ in range(2)]
    together = InShards(backend("julia"), CONFIG, np.dtype("float64"), distributed=True)
    plant(together)
    alone[0].set_state(start_state(CONFIG, 0, "float64"))
    batches = Batches(IMAGES, replace(train, accumulate=2), CONFIG, "float64")
    found = lockstep(alone[0], together, alone[1:], batches, steps, ("torch, parts", "Julia, MPI"))
    first = found.divergence
    return {
        "passed": found.passed,
        "worst": max(found.ratios),
        "first": None if first is None else [first.quantity, first.name],
    }


def by_itself(model):
    """Planted: it averages with nobody."""
    model._together = {}


def first_share(model):
    """Planted: all take the share of the first."""
    own = model._together["processes"]
    model._together = {"processes": model.backend.julia.Processes(0, own.count, own.backend)}


def fitted():
    model = backend("julia").build(CONFIG, distributed=True)
    history = model.fit(IMAGES, replace(RECIPES["sgd"], steps=4))
    state = model.get_state()
    digest = hashlib.sha256(b"".join(state[name].tobytes() for name in sorted(state)))
    return {
        "losses": history.losses,
        "digest": digest.hexdigest(),
        "compute_options": history.compute_options,
    }


def main(folder):
    model = backend("julia").build(CONFIG, distributed=True)
    found = {
        "is_main_process": model.is_main_process,
        "lockstep": {name: locked(train) for name, train in RECIPES.items()},
        "faults": {
            plant.__name__: locked(RECIPES["sgd"], 1, plant) for plant in (by_itself, first_share)
        },
        "fitted": fitted(),
        "any_rank": [model.any_rank(model.is_main_process), model.any_rank(False)],
    }
    rank = int(model.is_main_process is False)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
