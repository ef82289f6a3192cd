"""`equivalence` is killed and started again: it gives the result of an uninterrupted one."""

import json
import signal
import sys
import time
from dataclasses import replace

import pytest
from forks import COMMAND
from run_files import RECIPE, lines_of, write_images, write_recipe
from small_models import assert_same_bits
from typer.testing import CliRunner

from pymobilenet import backend
from pymobilenet.cli import app
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.formats.exchange import read_weights
from pymobilenet.training import begin, load_recipe, resume
from pymobilenet.training.checkpoint import BEST, LAST, read_checkpoint
from pymobilenet.training.seeds import run_seeds

RUNS = ["torch-0", "numpy-0", "torch-1", "numpy-1"]
"""In the order in which they are trained."""

RESULT = "equivalence.json"

LEARNING = ("epochs=5", "validation=16", "save_steps=2", "rate=0.01", "ema_decay=0")
"""Changes of the recipe, with which the runs end with different accuracies."""

STEPS = 15

SHORT = RECIPE.replace("epochs = 3", "epochs = 1").replace("warmup_epochs = 1", "")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def equivalence(recipe, images, out, *changes):
    words = ["equivalence", recipe, "--data", images, "--out", out, "--backends", "torch,numpy"]
    words += ["--seeds", 2, "--set", "dtype=float64"]
    words += [word for change in changes for word in ("--set", change)]
    return [*map(str, words)]


def kill_after_epochs(forks, arguments, folder, epochs):
    """Start the command, kill it with SIGKILL once a run has so many epochs; return its stderr."""
    running = forks.start(COMMAND, *arguments)
    while not (folder / "log.jsonl").is_file() or len(lines_of(folder)) < epochs:
        assert running.poll() is None, running.stderr
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    return running.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_command_uses_what_is_done_and_gives_the_same_result(forks, tmp_path, images):
    """It is killed in the first run, in a run of the other backend, and in the last run."""
    recipe = write_recipe(tmp_path)
    whole = forks.run(*equivalence(recipe, images, tmp_path / "whole", *LEARNING))
    assert whole.returncode in (0, 1), whole.stderr

    out = tmp_path / "killed"
    arguments, logs = equivalence(recipe, images, out, *LEARNING), []
    for name, epochs in (("torch-0", 2), ("numpy-0", 1), ("numpy-1", 3)):
        errors = kill_after_epochs(forks, arguments, out / name, epochs)
        assert not (out / RESULT).exists()
        last, before = read_checkpoint(out / name / LAST).state, RUNS[: RUNS.index(name)]
        assert 0 < last.step < STEPS, "the run had ended before the signal came"
        for finished in before:
            assert f"{out / finished}: " in errors
        logs.append({run: lines_of(out / run, ()) for run in before})
    completed = forks.run(*arguments)
    errors = completed.stderr
    assert (completed.returncode, completed.stdout) == (whole.returncode, whole.stdout), errors
    for name in RUNS[:3]:
        assert f"{out / name}: used as it is, finished" in errors
    assert f"{out / 'numpy-1'}: continues after step {last.step} of {STEPS}" in errors

    result = (tmp_path / "whole" / RESULT).read_bytes()
    assert (out / RESULT).read_bytes() == result
    accuracies = json.loads(result)["accuracy"].values()
    assert len({value for values in accuracies for value in values}) > 1
    for name in RUNS:
        assert lines_of(out / name) == lines_of(tmp_path / "whole" / name)
        for file in (LAST, BEST):
            states = [read_weights(each / name / file).state for each in (out, tmp_path / "whole")]
            assert_same_bits(*states)
    for log in logs:  # with the times of the process that trained them
        for name, lines in log.items():
            assert lines_of(out / name, ()) == lines
    assert not list(out.rglob("*.tmp")), "a killed process has left temporary files"
    assert not list(out.rglob(".lock"))


def test_temporary_files_of_a_killed_command_are_removed(tmp_path, images):
    out = tmp_path / "out"
    (out / "torch-0").mkdir(parents=True)
    leftovers = [out / "torch-0" / f".{LAST}.k1ll3d.tmp", out / f".{RESULT}.k1ll3d.tmp"]
    for path in leftovers:
        path.write_bytes(b"half")
    arguments = equivalence(write_recipe(tmp_path, SHORT), images, out)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code in (0, 1), done.output
    assert not [path for path in leftovers if path.exists()]


@pytest.fixture(scope="module")
def done(tmp_path_factory, images):
    """A folder with one finished run, and its recipe."""
    folder = tmp_path_factory.mktemp("done")
    recipe = load_recipe(write_recipe(folder, SHORT), [f"data={images}"])
    run_seeds(recipe, [backend("torch")], [0], folder / "runs")
    return recipe, folder / "runs"


def test_the_command_names_the_setting_that_differs(tmp_path, images):
    recipe, out = write_recipe(tmp_path, SHORT), tmp_path / "out"
    begin(
        load_recipe(recipe, [f"data={images}", "seed=0", "dtype=float64"]),
        backend("torch"),
        out / "torch-0",
    ).unlock()
    refused = CliRunner().invoke(app, equivalence(recipe, images, out, "rate=0.5"))
    assert refused.exit_code == 2
    message = " ".join(refused.stderr.split())
    assert "torch-0 contains a run of another recipe: its [train] rate must be 0.5" in message
    assert "Received: 0.002. Choose another folder, or remove this one" in message
    assert [path.name for path in out.iterdir()] == ["torch-0"]


def test_a_run_that_was_continued_in_another_backend_is_refused(done, tmp_path):
    recipe, _ = done
    first = load_recipe(
        write_recipe(tmp_path), [f"data={recipe.run.data}", "seed=0", "dtype=float64"]
    )
    run = begin(first, backend("torch"), tmp_path / "runs" / "torch-0")
    run.train(is_stopping=lambda: len(run.state.log) == 1)
    resume(tmp_path / "runs" / "torch-0", backend("numpy")).train()
    message = r"torch-0 must contain a run of the backend torch alone. Received: epoch 2 in numpy"
    with pytest.raises(ConfigError, match=message):
        run_seeds(first, [backend("torch")], [0], tmp_path / "runs")


def test_other_images_are_refused_before_anything_is_trained(done, tmp_path):
    recipe, folder = done
    other = write_images(tmp_path / "images")
    paths = sorted((other / "train" / "a").iterdir())
    paths[0].write_bytes(paths[1].read_bytes())
    moved = replace(recipe, run=replace(recipe.run, data=str(other)))
    with pytest.raises(DataError, match="torch-0: a run must be resumed with its own images"):
        run_seeds(moved, [backend("numpy"), backend("torch")], [0], folder)
    assert [path.name for path in folder.iterdir()] == ["torch-0"]


def test_runs_of_an_earlier_version_are_used_with_another_number_of_evaluated_images(done):
    """The default was 2000; no result depends on it. A number in the recipe must be theirs."""
    recipe, folder = done
    trained = []

    def results(number):
        chosen = replace(recipe, run=replace(recipe.run, train_eval_images=number))
        return run_seeds(chosen, [backend("torch")], [0], folder, lambda run: trained.append(run))

    assert results(None) == results(8)
    assert [run.ending for run in trained] == ["finished", "finished"]
    with pytest.raises(ConfigError, match=r"train_eval_images must be 0\. Received: 8"):
        results(0)


def test_a_run_says_why_it_has_ended(done, tmp_path):
    recipe, folder = done
    assert resume(folder / "torch-0", backend("torch")).ending == "finished"
    changes = [f"data={recipe.run.data}", "rate=0", "ema_decay=0", "epochs=9", "patience=2"]
    patient = begin(
        load_recipe(write_recipe(tmp_path), changes), backend("torch"), tmp_path / "run"
    )
    assert patient.ending is None
    assert patient.train() == patient.ending == "no better epoch in a while"
