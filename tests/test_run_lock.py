"""The lock of a run's folder: one process writes it, and another gets an error that names it."""

import os
import signal
import time

import pytest
from run_files import write_images, write_recipe

from pymobilenet import backend
from pymobilenet.errors import RunLocked
from pymobilenet.training import begin, load_recipe, resume
from pymobilenet.training.checkpoint import LAST
from pymobilenet.training.lock import NAME, RunLock

TRAIN = """
import sys, time
from pymobilenet import backend
from pymobilenet.training import begin, load_recipe
run = begin(load_recipe(sys.argv[1], ["data=" + sys.argv[2]]), backend("torch"), sys.argv[3])
print("begun", flush=True)
run.train(callbacks=[lambda record: time.sleep(60)])
"""


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path), write_images(tmp_path / "images")


@pytest.fixture
def running(forks, recipe, tmp_path):
    """Another process that trains in tmp_path/run."""
    process = forks.start(TRAIN, *recipe, tmp_path / "run")
    while process.stdout != "begun\n":
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    yield process
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_second_process_is_refused_with_the_name_of_the_first(forks, running, recipe, tmp_path):
    folder = tmp_path / "run"
    owner = f"process {running.pid} on "
    again = forks.run("train", "--resume", folder)
    assert again.returncode == 2
    assert owner in again.stderr
    (folder / LAST).unlink()  # as if the first had not saved yet
    beside = forks.run("train", recipe[0], "--data", recipe[1], "--out", folder)
    assert beside.returncode == 2
    assert owner in beside.stderr


def test_resuming_a_running_run_leaves_its_temporary_files(running, tmp_path):
    writing = tmp_path / "run" / f".{LAST}.abc.tmp"
    writing.touch()
    with pytest.raises(RunLocked, match=f"process {running.pid} on .* trains there now"):
        resume(tmp_path / "run", backend("torch"))
    assert writing.exists()


def test_a_killed_process_leaves_no_lock(running, tmp_path):
    running.send_signal(signal.SIGKILL)
    running.wait()
    run = resume(tmp_path / "run", backend("torch"))
    assert run.train() == "finished"
    assert not (tmp_path / "run" / NAME).exists()


def test_a_run_that_has_ended_is_unlocked(recipe, tmp_path):
    run = begin(load_recipe(recipe[0], [f"data={recipe[1]}"]), backend("torch"), tmp_path / "run")
    run.train(is_stopping=lambda: True)
    assert resume(tmp_path / "run", backend("torch")).train() == "finished"


def test_the_lock_of_an_ended_process_is_released(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(RunLocked, match=f"process {os.getpid()} on"):
        RunLock(tmp_path)
    del lock
    RunLock(tmp_path).release()
    assert os.listdir(tmp_path) == []
