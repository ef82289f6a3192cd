"""The terminal: 80 columns, any encoding, brackets in help texts, and progress in a log."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from rich.console import Console
from typed_commands import run

from pymobilenet import MobileNetConfig, backend, cli
from pymobilenet.bench import CONTENDERS, Case, Timing, print_table
from pymobilenet.bench.process import FreshProcess
from pymobilenet.cli import app, common
from pymobilenet.formats.exchange import write_weights
from pymobilenet.terminal import folded_table

COMMANDS = typer.main.get_command(app).commands
CONFIG = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=2)
LONG = "a" * 70 + "_class_of_ninety_characters"


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_text_is_printed_as_it_is_written(name):
    """Rich takes square brackets for markup: "[model]" would be missing."""
    shown = "".join(run(name, "--help").output.split())
    for parameter in COMMANDS[name].params:
        text = (parameter.help or "").replace("\\[", "[")
        for word in text.split():
            assert word.strip("│|") in shown, (parameter.name, word)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run(name, "--help").output
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


# 80 columns


def test_a_long_value_is_folded_and_not_cut():
    console = Console(width=30, file=io.StringIO())
    table = folded_table("name", "value", right=("value",))
    table.add_row(LONG, "1.5")
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 30
    folded = "".join(line.split()[0] for line in lines[2:])
    assert folded == LONG


@pytest.fixture
def model(tmp_path):
    state = backend("torch").build(CONFIG).get_state()
    path = tmp_path / "model.safetensors"
    write_weights(path, CONFIG, state, {}, {"classes": f'["{LONG}", "b"]'})
    return path


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    return path


def test_predict_folds_long_class_names(model, picture):
    result = run("predict", model, picture, "--backend", "torch", "--backend", "numpy")
    assert result.exit_code == 0, result.output
    _title, *table = result.stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert LONG in "".join(line.split()[0] for line in table if line.strip())


def test_every_recipe_and_backend_is_listed_within_80_columns():
    for command in ("recipes", "backends"):
        lines = run(command).stdout.splitlines()
        assert max(map(len, lines)) <= 80 or command == "backends"
        assert "…" not in "".join(lines)


def test_the_environment_report_folds_long_values(monkeypatch):
    rows = [("float32 matrix products, julia", LONG, "a remark of many words " * 4)]
    monkeypatch.setattr("pymobilenet.doctor.environment_report", lambda: iter(rows))
    lines = run("doctor").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert "".join(lines).count("remark") == 4


def test_a_table_of_times_has_every_contender_and_number_in_80_columns():
    case = Case(CONFIG, 128, "train")
    hot, rested = (1.2345, 1.3456, 1.4567), (2.3456, 2.4567, 2.5678)
    timings = [Timing(case, one.name, hot, 123_456_789, rested) for one in CONTENDERS]
    fresh = [FreshProcess(case, one.name, 12.3, 1_234_000_000) for one in CONTENDERS]
    console = Console(width=80, file=io.StringIO())
    print_table(timings, fresh, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("1345.60") == text.count("2456.70") == len(CONTENDERS)
    assert text.count("1234") == len(CONTENDERS)


# Encodings


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_that_the_terminal_cannot_encode_is_printed_with_escapes(
    tmp_path, picture, encoding
):
    """中 is in neither encoding; è is in cp1252."""
    named = tmp_path / "modèle.safetensors"
    state = backend("torch").build(CONFIG).get_state()
    write_weights(named, CONFIG, state, {}, {"classes": '["猫", "b"]'})
    image = picture.rename(tmp_path / "中è.png")
    result = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "pymobilenet.cli", "predict", named, image],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"},
        check=False,
    )
    output = result.stdout.decode(encoding)
    assert result.returncode == 0, result.stderr
    assert "\\u4e2d" in output
    assert "\\u732b" in output
    assert ("è.png" if encoding == "cp1252" else "\\xe8.png") in output
    missing = tmp_path / "中.safetensors"
    result = subprocess.run(
        [sys.executable, "-m", "pymobilenet.cli", "info", missing],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"},
        check=False,
    )
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert b"\\u4e2d" in result.stderr


# Progress


class Clock:
    """A clock that is set by the test."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def log(monkeypatch):
    """The text of the standard error, which is not a terminal."""
    output = io.StringIO()
    monkeypatch.setattr(common, "errors", Console(file=output, width=80))
    return output


def test_in_a_log_each_part_has_a_line_when_it_starts_and_ends(log, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(common, "time", clock)
    with common.show_progress() as progress:
        clock.now = 2.0
        advance = progress("levels 0-3, [v1]", 2)
        clock.now = 3.0
        advance()
        clock.now = 6.1
        advance()
        clock.now = 12.0
        progress("level 4", 5)
        clock.now = 13.0
    assert log.getvalue().splitlines() == [
        "[   2 s] levels 0-3, [v1] ...",
        "[   6 s] levels 0-3, [v1]: done in 4.1 s",
        "[  12 s] level 4 ...",
        "[  13 s] level 4: done in 1.0 s",
    ]


def test_a_part_that_fails_is_not_reported_as_done(log):
    def work():
        with common.show_progress() as progress:
            progress("level 4", 5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert log.getvalue() == "[   0 s] level 4 ...\n"


def test_on_a_terminal_there_are_bars(monkeypatch):
    output = io.StringIO()
    terminal = Console(file=output, width=80, force_terminal=True)
    monkeypatch.setattr(common, "errors", terminal)
    with common.show_progress() as progress:
        progress("a part with a long name, v1_bottleneck-0.25-stem1-float64", 2)()
    text = output.getvalue()
    assert "1/2" in text
    assert "done in" not in text
    assert "…" not in text


def test_the_entry_point_replaces_what_cannot_be_encoded(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    common.replace_unencodable()
    stream.write("中")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u4e2d"


@pytest.mark.parametrize(
    ("words", "before", "level"),
    [(["diff", "a", "b"], None, "1"), (["diff", "a"], "3", "3"), (["parity"], None, None)],
)
def test_julia_compiles_fast_where_only_models_are_compared(words, before, level, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "app", lambda: seen.append(os.environ.get(cli.OPTIMIZE_VARIABLE)))
    monkeypatch.setattr(sys, "argv", ["pymobilenet", *words])
    monkeypatch.setenv(cli.OPTIMIZE_VARIABLE, before or "")
    if before is None:
        monkeypatch.delenv(cli.OPTIMIZE_VARIABLE)
    cli.entry_point()
    assert seen == [level]


def test_the_package_has_a_marker_for_type_checkers():
    import pymobilenet

    assert (Path(pymobilenet.__file__).parent / "py.typed").is_file()
