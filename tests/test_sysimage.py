"""`pymobilenet sysimage`, all but Julia's part in it: what is run, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pymobilenet.backends.julia import sysimage
from pymobilenet.cli import app

start = sys.modules["pymobilenet.backends.julia.start"]


@pytest.fixture
def commands(monkeypatch):
    """What would be run, as (command, environment); the last ends with `commands.status`."""

    class Commands(list):
        statuses = (0, 0)

    seen = Commands()

    def run(command, stdout, env):
        assert stdout is sys.stderr
        seen.append((command, env))
        return subprocess.CompletedProcess(command, seen.statuses[len(seen) - 1])

    monkeypatch.setattr(sysimage.subprocess, "run", run)
    monkeypatch.setattr(start, "unavailable", lambda: None)
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "my-julia")
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", "my-project")
    monkeypatch.delenv(sysimage.VARIABLE, raising=False)
    return seen


def build(path):
    return CliRunner().invoke(app, ["sysimage", str(path)])


def test_julia_builds_the_image_and_is_then_started_with_it(commands, tmp_path):
    image = tmp_path / "image.so"
    done = build(image)
    assert done.exit_code == 0, done.output
    (julia, environment), (python, with_image) = commands
    assert julia[:3] == ["my-julia", "--startup-file=no", "--project=my-project"]
    script = Path(julia[3])
    assert script.name == "build_sysimage.jl"
    assert "create_sysimage" in script.read_text()
    assert julia[4] == str(image)
    assert sysimage.VARIABLE not in environment
    assert python[0] == sys.executable
    assert with_image[sysimage.VARIABLE] == str(image)
    assert f"{sysimage.VARIABLE}={image}" in done.output


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ((3, 0), "no system image was built. It takes a C compiler"),
        ((0, 3), "was built, but Julia does not start with it"),
    ],
)
def test_a_failure_says_which_part_failed(commands, tmp_path, statuses, words):
    commands.statuses = statuses
    done = build(tmp_path / "image.so")
    assert done.exit_code == 2
    assert words in done.stderr
    assert "status 3" in done.stderr
    assert len(commands) == 1 + statuses.index(3)


@pytest.mark.parametrize("name", ["no-such-folder/image.so", ""])
def test_a_path_that_cannot_be_a_file_is_refused_before_anything_is_run(commands, tmp_path, name):
    done = build(tmp_path / name)
    assert done.exit_code == 2
    assert "must be a file in a folder that exists. Received: " in done.stderr
    assert not commands


def test_without_julia_nothing_is_run(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "unavailable", lambda: "it is a test")
    done = build(tmp_path / "image.so")
    assert done.exit_code == 2
    assert "the Julia backend cannot be had: it is a test" in done.stderr
    assert not commands
