"""The command `parity`, and the paths that commands print."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pymobilenet.cli import app
from pymobilenet.cli.common import print_written
from pymobilenet.data import synthetic
from pymobilenet.parity import run

PARITY = ["parity", "--backends", "torch, numpy", "--steps", "0"]


@pytest.fixture(autouse=True)
def images(monkeypatch):
    monkeypatch.setattr("pymobilenet.data.open_cifar100", lambda *_: synthetic(64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "foo"], "dtype must be one of float32, float64. Received: 'foo'"),
        (["--dtype", "float16"], "dtype must be one of float32, float64. Received: 'float16'"),
        (
            [],
            "supported by both backends, and numpy does not support it. Received: float32",
        ),
    ],
)
def test_a_dtype_is_refused_before_anything_is_compared(monkeypatch, arguments, message):
    monkeypatch.setattr(run, "compare_live", lambda *_: pytest.fail("it was compared"))
    refused = CliRunner().invoke(app, [*PARITY, *arguments])
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith("ConfigError: ")
    assert refused.stderr.rstrip().endswith(message)


def test_a_file_in_place_of_the_reports_folder_is_refused_before_anything_is_compared(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "compare_live", lambda *_: pytest.fail("it was compared"))
    (tmp_path / "file").touch()
    report = ["--dtype", "float64", "--report", str(tmp_path / "file")]
    refused = CliRunner().invoke(app, [*PARITY, *report])
    assert refused.exit_code == 2
    assert "must be a folder or a new path" in refused.stderr


def test_brackets_in_a_name_are_no_markup(capsys):
    print_written([Path("out[bold]/bench.json"), Path("[1]")])
    assert capsys.readouterr().out == "Written: out[bold]/bench.json, [1]\n"
