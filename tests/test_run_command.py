"""`train` and `recipes` as they are typed."""

import signal
import subprocess
import sys
import time

import pytest
from run_files import RECIPE, lines_of, write_images, write_recipe
from typer.testing import CliRunner

from pymobilenet import backend
from pymobilenet.cli import app
from pymobilenet.training import resume
from pymobilenet.training.checkpoint import LAST, read_checkpoint


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


by_backend = pytest.mark.parametrize(
    "name", ["torch", pytest.param("julia", marks=pytest.mark.julia)]
)


def command(*arguments):
    return [sys.executable, "-m", "pymobilenet.cli", "train", *map(str, arguments)]


@by_backend
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, images, name):
    recipe = write_recipe(tmp_path, RECIPE.replace("epochs = 3", "epochs = 500"))
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(recipe, "--data", images, "--out", folder, "--backend", name),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "log.csv").is_file() or len(lines_of(folder)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"pymobilenet train --resume {folder} --backend {name}" in said.replace("\n", "")
    assert "Traceback" not in errors
    stopped = read_checkpoint(folder / LAST).state
    assert stopped.step >= 8
    run = resume(folder, backend(name))
    assert run.go(is_stopping=lambda: run.state.step > stopped.step) == "interrupted"


def test_the_command_trains_resumes_and_refuses(tmp_path, images):
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    done = subprocess.run(
        command(recipe, "--data", images, "--out", folder, "--set", "epochs=1"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1  loss " in done.stdout
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = subprocess.run(command("--resume", folder), capture_output=True, text=True)
    assert (again.returncode, len(lines_of(folder))) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a recipe or --resume FOLDER"),
        (("smoke", "--resume", "run"), "either a recipe or --resume FOLDER"),
        (("--resume", "run", "--set", "rate=1"), "a run keeps its recipe"),
        (("nothing",), "a recipe must be one of"),
        (("smoke", "--set", "data=nowhere"), "no data at nowhere"),
        (("--resume", "nowhere"), "no such file"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["train", *arguments])
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.output
    assert not list(tmp_path.iterdir())


def test_recipes_are_listed():
    listed = CliRunner().invoke(app, ["recipes"])
    assert listed.exit_code == 0
    assert "cifar100_reference" in listed.stdout
    assert "65.98 %" in listed.stdout
