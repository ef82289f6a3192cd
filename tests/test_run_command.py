"""The commands `train` and `recipes`."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forks import COMMAND
from run_files import RECIPE, lines_of, write_images, write_recipe
from typer.testing import CliRunner

from pymobilenet import backend, training
from pymobilenet.cli import app
from pymobilenet.errors import ConfigError
from pymobilenet.training import TrainingRun, resume
from pymobilenet.training.checkpoint import LAST, read_checkpoint


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


by_backend = pytest.mark.parametrize(
    "name", ["torch", pytest.param("julia", marks=pytest.mark.julia)]
)


def command(*arguments):
    return [sys.executable, "-m", "pymobilenet.cli", "train", *map(str, arguments)]


def going_on(folder, name):
    return ["pymobilenet", "train", "--resume", str(folder), "--backend", name]


def interrupted(run, *_):
    """What `TrainingRun.train` does in a run that is interrupted before its first step."""
    run.save()
    run.unlock()
    return "interrupted"


@by_backend
def test_ctrl_c_saves_and_prints_the_command_that_resumes(forks, tmp_path, images, name):
    recipe = write_recipe(tmp_path, RECIPE.replace("epochs = 3", "epochs = 500"))
    folder = tmp_path / "my run"
    words = ["train", recipe, "--data", images, "--out", folder, "--backend", name]
    process = forks.start(COMMAND, *words)
    while not (folder / "log.csv").is_file() or len(lines_of(folder)) < 2:
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, process.stderr
    again = process.stdout.replace("\n", "").split("with: ")[1]
    assert shlex.split(again) == going_on(folder, name)
    assert "Traceback" not in process.stderr
    stopped = read_checkpoint(folder / LAST).state
    assert stopped.step >= 8
    run = resume(folder, backend(name))
    assert run.train(is_stopping=lambda: run.state.step > stopped.step) == "interrupted"


@pytest.mark.slow
@by_backend
def test_sigterm_saves_within_two_seconds_and_ends_with_143(tmp_path, images, name):
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
    process.send_signal(signal.SIGTERM)
    start = time.time()
    assert "and saved" in next(line for line in process.stdout if line.startswith("Stopped"))
    assert (folder / LAST).stat().st_mtime - start < 2
    _, errors = process.communicate(timeout=60)
    assert time.time() - start < 5  # on a busy machine, with the end of the interpreter
    assert process.returncode == 143, errors
    assert not re.search(r"signal \(?15", errors)
    assert read_checkpoint(folder / LAST).state.step >= 8


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # torch's compiler
def test_the_printed_command_that_resumes_has_the_users_options(tmp_path, images, monkeypatch):
    monkeypatch.setattr(TrainingRun, "train", interrupted)
    recipe, folder = write_recipe(tmp_path), tmp_path / "it's [a] run"
    options = ["--amp", "bf16", "--compile", "--log", "tensorboard"]
    begun = ["train", recipe, "--data", images, "--out", folder, *options]
    stopped = CliRunner().invoke(app, [*map(str, begun)])
    assert stopped.exit_code == 130, stopped.output
    again = shlex.split(stopped.stdout.replace("\n", "").split("with: ")[1])
    assert again == [*going_on(folder, "torch"), *options]
    assert CliRunner().invoke(app, again[1:]).exit_code == 130


def test_a_run_is_resumed_from_another_folder(tmp_path, images, monkeypatch):
    monkeypatch.setattr(TrainingRun, "train", interrupted)
    (tmp_path / "three").symlink_to(images)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    recipe = str(write_recipe(tmp_path, RECIPE + 'data = "three"\n'))
    for number, data in enumerate(([], ["--data=~/three"], ["--data", "three"])):
        run = f"{tmp_path}/run{number}"
        assert CliRunner().invoke(app, ["train", recipe, "--out", run, *data]).exit_code == 130
        with monkeypatch.context() as context:
            context.chdir(tmp_path / "elsewhere")
            resumed = CliRunner().invoke(app, ["train", "--resume", run])
            assert resumed.exit_code == 130, resumed.output


def test_a_log_that_is_refused_leaves_the_folder_free(tmp_path, images):
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    begun = ["train", recipe, "--data", images, "--out", folder, "--log", "tensorbord"]
    refused = CliRunner().invoke(app, [*map(str, begun)])
    assert (refused.exit_code, folder.exists()) == (2, False)


TORCHRUNS = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"WORLD_SIZE": "2"}, False),  # a cluster's
        (TORCHRUNS, False),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}, False),
        (TORCHRUNS | {"TORCHELASTIC_RUN_ID": "none"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"PMI_SIZE": "2"}, True),
    ],
)
def test_several_processes_are_detected_by_the_variables_of_a_cluster(
    tmp_path, monkeypatch, environment, expected
):
    for name in {*TORCHRUNS, "TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    calls = []

    def begin(*_, **options):
        calls.append(options)
        raise ConfigError("it is a test")

    monkeypatch.setattr(training, "begin", begin)
    CliRunner().invoke(app, ["train", "smoke", "--out", str(tmp_path / "run")])
    assert calls == [{"distributed": True} if expected else {}]


def test_each_command_of_the_page_has_a_folder_of_its_own():
    page = (Path(__file__).parents[1] / "docs" / "runs.md").read_text()
    folders = re.findall(r"--out (\S+)", page)
    assert len(folders) >= 3
    assert len(set(folders)) == len(folders)
    assert set(re.findall(r"--resume (\S+) --backend torch", page)) <= set(folders)


def test_the_command_trains_and_resumes(forks, tmp_path, images):
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    done = forks.run("train", recipe, "--data", images, "--out", folder, "--set", "epochs=1")
    assert done.returncode == 0, done.stderr
    assert "; initial weights: init=torch, seed 3; " in done.stdout
    assert "epoch 1/1  loss " in done.stdout
    assert "% (chance: 25.00%), epoch 1: " in done.stdout
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = forks.run("train", "--resume", folder)
    assert (again.returncode, len(lines_of(folder))) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a recipe or --resume FOLDER"),
        (("smoke", "--resume", "run"), "either a recipe or --resume FOLDER"),
        (("--resume", "run", "--set", "rate=1"), "a run keeps its recipe"),
        (("--resume", "run", "--out", "other"), "a run keeps its folder: --out belongs to a new"),
        (("smoke", "--log", "tensorbord"), "a logger must be one of tensorboard, wandb"),
        (("--resume", "run", "--log", "paper"), "a logger must be one of tensorboard, wandb"),
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


@pytest.mark.slow
def test_smoke_learns_what_a_newcomer_can_see(tmp_path):
    done = CliRunner().invoke(app, ["train", "smoke", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "(chance: 1.00%)" in done.stdout
    assert lines_of(tmp_path / "run")[-1]["val_accuracy"] > 0.3


def test_recipes_are_listed():
    listed = CliRunner().invoke(app, ["recipes"])
    assert listed.exit_code == 0
    assert "cifar100_reference" in listed.stdout
    assert "65.98 %" in listed.stdout
