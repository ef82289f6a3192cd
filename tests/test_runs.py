"""Runs: the files in their folder, stopping, and bit-identical resuming."""

import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from run_files import TIMES, lines_of, write_images, write_recipe
from small_models import assert_same_bits

from pymobilenet import backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import TrainingDiverged, WeightsError
from pymobilenet.evaluation import evaluate, read_runs
from pymobilenet.formats.exchange import read_weights
from pymobilenet.training import begin, load_recipe, resume
from pymobilenet.training.checkpoint import BEST, LAST, read_checkpoint
from pymobilenet.training.setup import split_images
from pymobilenet.weights import averaged

BACKENDS = ["torch", pytest.param("julia", marks=pytest.mark.julia)]
by_backend = pytest.mark.parametrize("name", BACKENDS)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def recipe(tmp_path, images):
    return load_recipe(write_recipe(tmp_path), [f"data={images}"])


def complete_run(recipe, name, folder):
    """Run a recipe without interruption."""
    run = begin(recipe, backend(name), folder)
    assert run.train() == "finished"
    return folder


def sorted_state(run):
    return dict(sorted(run.model.get_state().items()))


def assert_same_results(first, second, ignored=()):
    for file in (LAST, BEST):
        assert_same_bits(read_weights(first / file).state, read_weights(second / file).state)
    assert lines_of(first, (*TIMES, *ignored)) == lines_of(second, (*TIMES, *ignored))


# The files of a run


def test_a_run_writes_checkpoint_best_model_and_log(recipe, tmp_path):
    folder = complete_run(recipe, "torch", tmp_path / "run")
    assert sorted(path.name for path in folder.iterdir()) == [BEST, LAST, "log.csv", "log.jsonl"]
    lines = lines_of(folder, ())
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert [line["backend"] for line in lines] == ["torch"] * 3
    assert all(line["seconds"] > 0 for line in lines)
    (run_log,) = read_runs([folder])
    assert run_log.values["val_accuracy"].tolist() == [line["val_accuracy"] for line in lines]
    rows = (folder / "log.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].split(",") == list(lines[0])
    checkpoint = read_checkpoint(folder / LAST)
    assert (checkpoint.state.step, checkpoint.state.epoch_loss) == (12, 0.0)
    assert checkpoint.state.log == lines
    assert checkpoint.file.config.num_classes == 4


def test_the_log_agrees_with_an_evaluation_of_the_best_model(recipe, tmp_path):
    run = begin(recipe, backend("torch"), tmp_path / "run")
    run.train()
    best = backend("torch").load(tmp_path / "run" / BEST)
    result = evaluate(best, run.images.validation)
    line = run.state.best
    assert (result.top1, result.loss) == (line["val_accuracy"], line["val_loss"])
    assert line["val_accuracy"] == max(each["val_accuracy"] for each in run.state.log)
    train_result = evaluate(best, run.images.train_eval)
    assert train_result.top1 == line["train_accuracy"]


def test_training_loss_is_the_mean_over_the_epochs_steps(recipe, tmp_path):
    losses = []
    run = begin(recipe, backend("torch"), tmp_path / "run")
    run.train([lambda record: losses.append(record.loss)])
    means = [sum(losses[start : start + 4]) / 4 for start in (0, 4, 8)]
    assert [line["train_loss"] for line in run.state.log] == means


def test_the_best_model_has_the_averaged_weights(recipe, tmp_path):
    once = replace(recipe, run=replace(recipe.run, epochs=1, warmup_epochs=0))
    folder = complete_run(once, "torch", tmp_path / "run")
    state = read_weights(folder / LAST).state
    assert_same_bits(read_weights(folder / BEST).state, averaged(state))


def test_validation_and_training_images_do_not_overlap(recipe):
    run = replace(recipe.run, validation=10, limit=20, train_eval_images=5)
    held_out, training, train_eval = split_images(run, 40, 3)
    assert [len(indices) for indices in (held_out, training, train_eval)] == [10, 20, 5]
    assert not set(held_out) & set(training)
    assert set(train_eval) <= set(training)
    unlimited = split_images(replace(run, limit=0), 40, 3)
    assert sorted([*unlimited[0], *unlimited[1]]) == list(range(40))
    assert set(split_images(run, 40, 4)[0]) != set(held_out)


def test_a_run_stops_when_its_patience_ends(recipe, tmp_path):
    calm = replace(recipe, train=recipe.train | {"rate": 0.0, "ema_decay": 0.0})
    patient = replace(calm, run=replace(calm.run, epochs=9, patience=2))
    run = begin(patient, backend("torch"), tmp_path / "run")
    ending = run.train()
    best, last = run.state.best["epoch"], len(run.state.log)
    assert ending == "no better epoch in a while"
    assert last == best + 2 < 9


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(recipe, tmp_path):
    run = begin(recipe, backend("torch"), tmp_path / "run")
    step = run.model.step
    run.model.step = lambda *batch: (np.nan, {}) if run.state.step == 5 else step(*batch)
    with pytest.raises(TrainingDiverged, match=r"must be finite. Received: nan at step 5, rate 0"):
        run.train()
    assert read_checkpoint(tmp_path / "run" / LAST).state.step == 4


def test_loggers_are_called_with_each_entry(recipe, tmp_path):
    lines = []
    begin(recipe, backend("torch"), tmp_path / "run").train(loggers=[lines.append])
    assert lines == lines_of(tmp_path / "run", ())


# Weights to start from


def test_a_start_file_provides_the_weights_except_the_classifier(recipe, tmp_path):
    config = MobileNetConfig(width_mult=0.1, resolution=64, num_classes=9, norm_eps=1e-3)
    pretrained = backend("torch").build(config, seed=5)
    pretrained.save(tmp_path / "start.safetensors")
    run_config = replace(recipe.run, start=str(tmp_path / "start.safetensors"))
    run = begin(replace(recipe, run=run_config), backend("torch"), tmp_path / "run")
    assert run.model.config == replace(
        config, resolution=32, num_classes=4, stem_stride=1, dropout=0.1
    )
    state, expected = run.model.get_state(), pretrained.get_state()
    assert_same_bits(
        {name: state[name] for name in expected if not name.startswith("classifier.")},
        {name: expected[name] for name in expected if not name.startswith("classifier.")},
    )
    assert state["classifier.bias"].shape == (4,)


def test_a_start_file_of_another_model_is_refused(recipe, tmp_path):
    other = backend("torch").build(MobileNetConfig(width_mult=0.2, resolution=32, num_classes=4))
    other.save(tmp_path / "start.safetensors")
    run_config = replace(recipe.run, start=str(tmp_path / "start.safetensors"))
    with pytest.raises(WeightsError, match=r"stem.conv.weight must have shape \(3, 3, 3, 3\)"):
        begin(replace(recipe, run=run_config), backend("torch"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Interrupting and resuming


@pytest.mark.slow
@by_backend
@pytest.mark.parametrize("stop_after", [1, 3, 4, 7])
def test_an_interrupted_and_resumed_run_gives_the_same_bits(recipe, tmp_path, name, stop_after):
    complete = complete_run(recipe, name, tmp_path / "alone")
    run = begin(recipe, backend(name), tmp_path / "stopped")
    assert run.train(is_stopping=lambda: run.state.step >= stop_after) == "interrupted"
    assert read_checkpoint(tmp_path / "stopped" / LAST).state.step == stop_after
    assert resume(tmp_path / "stopped", backend(name)).train() == "finished"
    assert_same_results(complete, tmp_path / "stopped")


def test_resuming_removes_temporary_files_of_a_killed_run(recipe, tmp_path):
    folder = tmp_path / "run"
    begin(recipe, backend("torch"), folder)
    for name in (f".{LAST}.k1ll3d.tmp", f".{BEST}.k1ll3d.tmp", ".notes.tmp"):
        (folder / name).write_bytes(b"half")
    resume(folder, backend("torch"))
    assert sorted(path.name for path in folder.iterdir()) == [".notes.tmp", LAST]


def test_an_interrupted_evaluation_is_repeated(recipe, tmp_path):
    complete = complete_run(recipe, "torch", tmp_path / "alone")
    run = begin(recipe, backend("torch"), tmp_path / "stopped")
    steps = []

    def is_stopping():
        steps.append(run.state.step)
        return steps.count(4) > 1

    assert run.train(is_stopping=is_stopping) == "interrupted"
    assert (run.state.step, len(run.state.log)) == (4, 0)
    resume(tmp_path / "stopped", backend("torch")).train()
    assert_same_results(complete, tmp_path / "stopped")


KILLED = """
import os, random, signal, sys, time
from pymobilenet import backend
from pymobilenet.cli import app
from pymobilenet.training import resume
import torch
torch.set_num_threads(1)
torch_backend = backend("torch")
draw = random.Random(0)
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if not child:
        resume(sys.argv[1], torch_backend).train()
        os._exit(0)
    time.sleep(draw.uniform(0, float(sys.argv[3])))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(resume(sys.argv[1], torch_backend).train())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_run_killed_at_twenty_random_times_gives_the_same_bits(recipe, tmp_path):
    long = replace(recipe, run=replace(recipe.run, epochs=12, save_steps=1))
    start = time.perf_counter()
    complete = complete_run(long, "torch", tmp_path / "alone")
    seconds = time.perf_counter() - start
    begin(long, backend("torch"), tmp_path / "killed")
    process = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "killed", "20", str(seconds / 6)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.stdout.strip() == "finished", process.stderr
    assert_same_results(complete, tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.tmp*"))


RESUME = """
import sys
from pymobilenet import backend
from pymobilenet.training import resume
print(resume(sys.argv[1], backend("julia")).train([lambda record: print(record.step, flush=True)]))
"""


@pytest.mark.slow
@pytest.mark.julia
def test_a_run_in_julia_killed_at_twenty_random_times_gives_the_same_bits(recipe, tmp_path):
    """Each time in a new process, because Julia does not support fork."""
    long = replace(recipe, run=replace(recipe.run, epochs=30, save_steps=1))
    complete = complete_run(long, "julia", tmp_path / "alone")
    begin(long, backend("julia"), tmp_path / "killed")
    draw, command, steps = random.Random(0), [sys.executable, "-c", RESUME, tmp_path / "killed"], []
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            for _ in range(draw.randint(1, 6)):
                run.stdout.readline()
            time.sleep(draw.uniform(0, 0.05))
            run.kill()
        steps.append(read_checkpoint(tmp_path / "killed" / LAST).state.step)
    assert len(set(steps)) > 10, f"it was killed at steps {steps}"
    assert steps[-1] < 120, f"it had ended before: {steps}"
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.split()[-1] == "finished"
    assert_same_results(complete, tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.tmp*"))


@pytest.mark.parametrize("other", ["numpy", pytest.param("julia", marks=pytest.mark.julia)])
def test_a_run_can_change_its_backend_and_back(recipe, tmp_path, other):
    """The state is transferred bit for bit; the steps are compared by parity's level 6."""
    wide = replace(recipe, run=replace(recipe.run, dtype="float64"))
    folder = tmp_path / "run"
    run = begin(wide, backend("torch"), folder)
    run.train(is_stopping=lambda: run.state.step >= 5)
    continued = resume(folder, backend(other))
    assert_same_bits(sorted_state(continued), sorted_state(run))
    continued.train(is_stopping=lambda: continued.state.step >= 10)
    back = resume(folder, backend("torch"))
    assert_same_bits(sorted_state(back), sorted_state(continued))
    assert back.train() == "finished"
    complete = complete_run(wide, "torch", tmp_path / "alone")
    lines = lines_of(folder)
    assert [line["backend"] for line in lines] == ["torch", other, "torch"]
    assert lines[0] == lines_of(complete)[0]
    assert [line["step"] for line in lines] == [line["step"] for line in lines_of(complete)]
