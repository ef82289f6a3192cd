"""What test_torch_processes.py has torchrun start; each process writes what it found as JSON.

Every comparison is one that every process makes, as it would make a step: of models that train
together with one that trains alone.
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
WORKING = TrainConfig(rate=0.05, nesterov=True, **RECIPE)
ACCUMULATING = TrainConfig(rate=0.05, accumulate=2, **RECIPE)
CALM = TrainConfig(optimizer="adam", rate=1e-4, **RECIPE)


def build(**options):
    return backend("torch").build(CONFIG, dtype="float64", **options)


def together(**options):
    return build(distributed=True, **options)


def locked(train, follower, steps=2):
    """Steps from the same state each, held against the floors of the model that is alone."""
    leader, batches = build(), Batches(IMAGES, train, CONFIG, "float64")
    leader.set_state(start_state(CONFIG, 0, "float64"))
    found = lockstep(leader, follower, [build()], batches, steps, NAMES)
    first = found.divergence
    return {
        "passed": found.passed,
        "worst": max(found.ratios),
        "first": None if first is None else [first.quantity, first.name],
    }


def curves(train, steps):
    """Two free runs, held against the envelope of the model that is alone."""
    batches, start = Batches(IMAGES, train, CONFIG, "float64"), initial_state(CONFIG, 0, "float64")
    models = (build(), together(sync_norm=True))
    found = free_curves("free", NAMES, models, start, batches, steps)
    return {"passed": found.passed, "judged": found.judged, "worst": found.ratio}


def digest(model):
    """Of all bytes of the state, moments included."""
    state = model.get_state()
    return hashlib.sha256(b"".join(state[name].tobytes() for name in sorted(state))).hexdigest()


def fitted(accumulate=1, **options):
    model = backend("torch").build(CONFIG, distributed=True, **options)
    history = model.fit(IMAGES, TrainConfig(steps=4, accumulate=accumulate, **RECIPE))
    assert np.isfinite(history.losses).all()
    return {
        "losses": history.losses,
        "digest": digest(model),
        "compute_options": history.compute_options,
    }


def unsynchronised():
    """A step against the mean of the steps of the shares, by a model that is alone."""
    model, alone = together(), build()
    train = TrainConfig(momentum=0, batch_size=8)
    images, labels = batch(8, (32, 32), CONFIG)
    labels = labels % 5
    shares = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    found = [alone.loss_and_grads(*share) for share in shares]
    expected = {name: (found[0][1][name] + found[1][1][name]) / 2 for name in found[0][1]}
    for one in (model, alone):
        one.set_optimizer(train)
    loss, grads = model.step(images, labels, 0.1)
    alone.step(*shares[0], 0.0)
    statistics = {n: t for n, t in alone.get_state().items() if "running" in n}
    state = model.get_state()
    return {
        "loss": abs(loss - (found[0][0] + found[1][0]) / 2),
        "grads": max(
            float(np.linalg.norm(grads[name] - grad) / np.linalg.norm(grad))
            for name, grad in expected.items()
        ),
        "statistics": all(np.array_equal(state[name], t) for name, t in statistics.items()),
    }


def by_itself():
    """What one process asks for while the others are elsewhere."""
    model, alone = together(sync_norm=True), build()
    images, labels = batch(6, (32, 32), CONFIG)
    if not model.is_main_process:
        return True
    loss, grads = model.loss_and_grads(images, labels % 5)
    expected_loss, expected = alone.loss_and_grads(images, labels % 5)
    same = [np.array_equal(grads[name], grad) for name, grad in expected.items()]
    seen, wanted = (one.activations(images, train=True)["logits"] for one in (model, alone))
    return loss == expected_loss and all(same) and np.array_equal(seen, wanted)


def refusal(count, size=(32, 32), **options):
    model = together(**options)
    model.set_optimizer(TrainConfig(batch_size=8))
    before = digest(model)
    images, labels = batch(count, size, CONFIG)
    try:
        model.step(images, labels % 5, 0.1)
    except PymobilenetError as error:
        return [type(error).__name__, str(error), digest(model) == before]
    return None


def faults():
    """Planted: processes that do not average, and that all take the first share."""
    share, averaged = Processes.shard, Processes.ddp
    Processes.ddp = lambda _self, module, _device: module
    not_averaged = locked(WORKING, together(sync_norm=True), steps=1)
    Processes.ddp = averaged
    Processes.shard = lambda self, whole: whole.micro_batch(0, self.count)
    wrong_share = locked(WORKING, together(sync_norm=True), steps=1)
    Processes.shard = share
    return {"not averaged": not_averaged, "wrong share": wrong_share}


def main(folder):
    torch.set_num_threads(1)
    model = together()
    found = {
        "is_main_process": model.is_main_process,
        "compute_options": model.compute_options,
        "lockstep": {
            "sgd": locked(WORKING, together(sync_norm=True)),
            "adam": locked(CALM, together(sync_norm=True)),
            "accumulated": locked(ACCUMULATING, together(sync_norm=True)),
        },
        "without sync_norm": locked(WORKING, together(), steps=1),
        "curves": curves(CALM, 8),
        "fitted": {str(sync): fitted(sync_norm=sync) for sync in (False, True)},
        "mixed": fitted(sync_norm=True, amp="bf16"),
        "accumulated": fitted(accumulate=2),
        "unsynchronised": unsynchronised(),
        "by itself": by_itself(),
        "odd batch": refusal(7),
        "one value": refusal(2),
        "one value of two": refusal(2, sync_norm=True),
        "faults": faults(),
    }
    path = Path(folder) / f"{os.environ['RANK']}.json"
    path.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
