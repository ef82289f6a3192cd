"""`pymobilenet sysimage` without Julia: the commands it runs, and errors for paths."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pymobilenet.backends.julia import project, sysimage
from pymobilenet.backends.julia.executable import SYSIMAGE_VARIABLE
from pymobilenet.cli import app


@pytest.fixture
def commands(monkeypatch):
    """The commands that would run, as (command, environment); `statuses`: their exit statuses."""

    class Commands(list):
        statuses = (0, 0)

    recorded = Commands()

    def run(command, stdout, env):
        assert stdout is sys.stderr
        recorded.append((command, env))
        return subprocess.CompletedProcess(command, recorded.statuses[len(recorded) - 1])

    monkeypatch.setattr(sysimage.subprocess, "run", run)
    monkeypatch.setattr(project, "unavailable", lambda: None)
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "my-julia")
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", "my-project")
    monkeypatch.delenv(SYSIMAGE_VARIABLE, raising=False)
    return recorded


def build(path):
    return CliRunner().invoke(app, ["sysimage", str(path)])


def test_julia_builds_the_image_and_then_starts_with_it(commands, tmp_path):
    image = tmp_path / "image.so"
    result = build(image)
    assert result.exit_code == 0, result.output
    (julia, environment), (python, with_image) = commands
    assert julia[:3] == ["my-julia", "--startup-file=no", "--project=my-project"]
    script = Path(julia[3])
    assert script.name == "build_sysimage.jl"
    assert "create_sysimage" in script.read_text()
    assert julia[4] == str(image)
    assert SYSIMAGE_VARIABLE not in environment
    assert python[0] == sys.executable
    assert with_image[SYSIMAGE_VARIABLE] == str(image)
    assert f"{SYSIMAGE_VARIABLE}={image}" in result.output


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ((3, 0), "the system image could not be built. Building requires a C compiler"),
        ((0, 3), "was built, but Julia does not start with it"),
    ],
)
def test_a_failure_names_the_step_that_failed(commands, tmp_path, statuses, message):
    commands.statuses = statuses
    result = build(tmp_path / "image.so")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Exit status: 3" in result.stderr
    assert len(commands) == 1 + statuses.index(3)


@pytest.mark.parametrize("name", ["no-such-folder/image.so", ""])
def test_an_impossible_path_is_refused_before_any_command_runs(commands, tmp_path, name):
    result = build(tmp_path / name)
    assert result.exit_code == 2
    assert "must be a file in an existing folder. Received: " in result.stderr
    assert not commands


@pytest.fixture
def installed(commands, monkeypatch, tmp_path):
    """The folder of a project, after `pymobilenet sysimage` without a path."""
    julia = tmp_path / "julia"
    julia.write_text("an executable")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Manifest.toml").write_text("Flux 0.16.10")
    monkeypatch.delenv("PYTHON_JULIACALL_EXE")
    monkeypatch.delenv("PYTHON_JULIACALL_PROJECT")
    monkeypatch.setattr(sysimage, "ensure_julia", lambda: None)
    monkeypatch.setattr(sysimage, "julia_executable_and_project", lambda: (str(julia), str(folder)))
    result = CliRunner().invoke(app, ["sysimage"])
    assert result.exit_code == 0, result.output
    image = Path(commands[0][0][4])
    image.write_text("an image")
    assert f"{image} is used from now on" in result.output
    assert image.parent == folder
    return image


def test_an_image_in_the_project_is_used_without_a_variable(installed, monkeypatch):
    sysimage.use_installed_sysimage()
    assert sysimage.os.environ[SYSIMAGE_VARIABLE] == str(installed)
    monkeypatch.setenv(SYSIMAGE_VARIABLE, "of-the-user.so")
    sysimage.use_installed_sysimage()
    assert sysimage.os.environ[SYSIMAGE_VARIABLE] == "of-the-user.so"
    monkeypatch.delenv(SYSIMAGE_VARIABLE)


@pytest.mark.parametrize("changed", ["project/Manifest.toml", "julia", "record", "gone"])
def test_an_image_for_other_packages_or_another_julia_is_not_used(
    installed, tmp_path, capsys, changed
):
    if changed == "gone":
        installed.unlink()
    else:
        path = installed.parent / sysimage.RECORD if changed == "record" else tmp_path / changed
        path.write_text("another content")
    sysimage.use_installed_sysimage()
    assert SYSIMAGE_VARIABLE not in sysimage.os.environ
    message = capsys.readouterr().err
    assert ("is for other packages or another Julia and is not used" in message) == (
        changed != "gone"
    )


@pytest.mark.usefixtures("commands")
def test_an_image_of_a_path_leaves_the_project_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(tmp_path))
    assert build(tmp_path / "image.so").exit_code == 0
    assert not (tmp_path / sysimage.RECORD).exists()


def test_without_julia_no_command_runs(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(project, "unavailable", lambda: "no Julia is installed")
    result = build(tmp_path / "image.so")
    assert result.exit_code == 2
    assert "the Julia backend is unavailable: no Julia is installed" in result.stderr
    assert not commands
