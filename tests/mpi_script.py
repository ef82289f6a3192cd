"""Runs in each process that mpiexec starts in peers/test_mpi_peer.py; writes its results as JSON.

A step of two processes averages the same gradients as a step of one process in two micro-batches.
Only the running statistics differ; a momentum of 0 keeps them constant here.
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


class ShardedModel(JuliaModel):
    """Takes one shard per process where the reference takes two micro-batches."""

    def set_optimizer(self, config):
        super().set_optimizer(replace(config, accumulate=1))


def run_lockstep(train, steps=3, plant=lambda _model: None):
    """Compare steps from the same state; the noise floors are those of torch in one process."""
    references = [backend("torch").build(CONFIG, dtype="float64") for _ in range(2)]
    sharded = ShardedModel(backend("julia"), CONFIG, np.dtype("float64"), distributed=True)
    plant(sharded)
    references[0].set_state(start_state(CONFIG, 0, "float64"))
    batches = Batches(IMAGES, replace(train, accumulate=2), CONFIG, "float64")
    names = ("torch, micro-batches", "Julia, MPI")
    result = lockstep(references[0], sharded, references[1:], batches, steps, names)
    first = result.divergence
    return {
        "passed": result.passed,
        "worst": max(result.ratios),
        "first": None if first is None else [first.quantity, first.name],
    }


def no_averaging(model):
    """Planted fault: gradients are not averaged over the processes."""
    model._processes = None


def same_shard(model):
    """Planted fault: every process takes the shard of the main process."""
    julia, processes = model.backend.julia, model.backend.object(model._processes)
    first = julia.Processes(0, processes.count, processes.backend)
    model._processes = model.backend.calls.handle(int(julia.c_handle(first)))


def run_fit():
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
    results = {
        "is_main_process": model.is_main_process,
        "lockstep": {name: run_lockstep(train) for name, train in RECIPES.items()},
        "faults": {
            plant.__name__: run_lockstep(RECIPES["sgd"], 1, plant)
            for plant in (no_averaging, same_shard)
        },
        "fit": run_fit(),
        "any_rank": [model.any_rank(model.is_main_process), model.any_rank(False)],
    }
    rank = int(model.is_main_process is False)
    Path(folder, f"{rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
