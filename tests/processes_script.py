"""Runs in each process that torchrun starts in test_torch_processes.py; writes results as JSON.

Every process makes every comparison, of a distributed model with a model of a single process.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from small_models import batch

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends.torch.processes import Processes
from pymobilenet.data import synthetic
from pymobilenet.errors import PymobilenetError
from pymobilenet.parity.curves import free_curves
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.scenario import start_state
from pymobilenet.training import Batches
from pymobilenet.weights import initial_state

CONFIG = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, stem_stride=2, dropout=0.2)
IMAGES = synthetic(64, num_classes=5)
NAMES = ("one process", "two processes")
RECIPE = {
    "batch_size": 16,
    "weight_decay": 5e-4,
    "clip_norm": 1.0,
    "ema_decay": 0.9,
    "label_smoothing": 0.1,
}
WORKING_RATE = TrainConfig(rate=0.05, nesterov=True, **RECIPE)
ACCUMULATING = TrainConfig(rate=0.05, accumulate=2, **RECIPE)
CALM = TrainConfig(optimizer="adam", rate=1e-4, **RECIPE)


def build(**options):
    return backend("torch").build(CONFIG, dtype="float64", **options)


def build_distributed(**options):
    return build(distributed=True, **options)


def run_lockstep(train, follower, steps=2):
    """Compare steps from the same state; the noise floors are those of a single process."""
    leader, batches = build(), Batches(IMAGES, train, CONFIG, "float64")
    leader.set_state(start_state(CONFIG, 0, "float64"))
    result = lockstep(leader, follower, [build()], batches, steps, NAMES)
    first = result.divergence
    return {
        "passed": result.passed,
        "worst": max(result.ratios),
        "first": None if first is None else [first.quantity, first.name],
    }


def curves(train, steps):
    """Compare two free runs; the envelope is that of a single process."""
    batches, start = Batches(IMAGES, train, CONFIG, "float64"), initial_state(CONFIG, 0, "float64")
    models = (build(), build_distributed(sync_norm=True))
    result = free_curves("free", NAMES, models, start, batches, steps)
    return {"passed": result.passed, "judged": result.compared_steps, "worst": result.ratio}


def digest(model):
    """SHA-256 of all bytes of the state, including moments."""
    state = model.get_state()
    return hashlib.sha256(b"".join(state[name].tobytes() for name in sorted(state))).hexdigest()


def run_fit(accumulate=1, **options):
    model = backend("torch").build(CONFIG, distributed=True, **options)
    history = model.fit(IMAGES, TrainConfig(steps=4, accumulate=accumulate, **RECIPE))
    assert np.isfinite(history.losses).all()
    return {
        "losses": history.losses,
        "digest": digest(model),
        "compute_options": history.compute_options,
    }


def compare_unsynchronised():
    """Compare a step with the mean over the shards, computed in a single process."""
    model, single = build_distributed(), build()
    train = TrainConfig(momentum=0, batch_size=8)
    images, labels = batch(8, (32, 32), CONFIG)
    labels = labels % 5
    shards = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    results = [single.loss_and_grads(*shard) for shard in shards]
    expected = {name: (results[0][1][name] + results[1][1][name]) / 2 for name in results[0][1]}
    for each in (model, single):
        each.set_optimizer(train)
    loss, grads = model.step(images, labels, 0.1)
    single.step(*shards[0], 0.0)
    statistics = {n: t for n, t in single.get_state().items() if "running" in n}
    state = model.get_state()
    return {
        "loss": abs(loss - (results[0][0] + results[1][0]) / 2),
        "grads": max(
            float(np.linalg.norm(grads[name] - grad) / np.linalg.norm(grad))
            for name, grad in expected.items()
        ),
        "statistics": all(np.array_equal(state[name], t) for name, t in statistics.items()),
    }


def compare_single_process_calls():
    """Call the other methods in one process only."""
    model, single = build_distributed(sync_norm=True), build()
    images, labels = batch(6, (32, 32), CONFIG)
    if not model.is_main_process:
        return True
    loss, grads = model.loss_and_grads(images, labels % 5)
    expected_loss, expected = single.loss_and_grads(images, labels % 5)
    same = [np.array_equal(grads[name], grad) for name, grad in expected.items()]
    logits, expected_logits = (
        each.activations(images, train=True)["logits"] for each in (model, single)
    )
    return loss == expected_loss and all(same) and np.array_equal(logits, expected_logits)


def error_of(count, size=(32, 32), **options):
    model = build_distributed(**options)
    model.set_optimizer(TrainConfig(batch_size=8))
    before = digest(model)
    images, labels = batch(count, size, CONFIG)
    try:
        model.step(images, labels % 5, 0.1)
    except PymobilenetError as error:
        return [type(error).__name__, str(error), digest(model) == before]
    return None


def faults():
    """Plant faults: no averaging of gradients, and the first shard in every process."""
    shard, ddp = Processes.shard, Processes.ddp
    Processes.ddp = lambda _self, module, _device: module
    not_averaged = run_lockstep(WORKING_RATE, build_distributed(sync_norm=True), steps=1)
    Processes.ddp = ddp
    Processes.shard = lambda self, batch: batch.micro_batch(0, self.count)
    wrong_shard = run_lockstep(WORKING_RATE, build_distributed(sync_norm=True), steps=1)
    Processes.shard = shard
    return {"not averaged": not_averaged, "wrong shard": wrong_shard}


def main(folder):
    torch.set_num_threads(1)
    model = build_distributed()
    results = {
        "is_main_process": model.is_main_process,
        "compute_options": model.compute_options,
        "lockstep": {
            "sgd": run_lockstep(WORKING_RATE, build_distributed(sync_norm=True)),
            "adam": run_lockstep(CALM, build_distributed(sync_norm=True)),
            "accumulated": run_lockstep(ACCUMULATING, build_distributed(sync_norm=True)),
        },
        "without sync_norm": run_lockstep(WORKING_RATE, build_distributed(), steps=1),
        "curves": curves(CALM, 8),
        "fit": {str(sync): run_fit(sync_norm=sync) for sync in (False, True)},
        "mixed": run_fit(sync_norm=True, amp="bf16"),
        "accumulated": run_fit(accumulate=2),
        "unsynchronised": compare_unsynchronised(),
        "single process": compare_single_process_calls(),
        "odd batch": error_of(7),
        "one value": error_of(2),
        "one value of two": error_of(2, sync_norm=True),
        "faults": faults(),
    }
    path = Path(folder) / f"{os.environ['RANK']}.json"
    path.write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
