"""Files that users name are regular and not too large: nothing blocks and nothing fills the
memory."""

import os
import signal
import subprocess
import sys

import pytest
from small_models import SMALL
from typer.testing import CliRunner

from pymobilenet import backend, files
from pymobilenet.cli import app
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.evaluation.names import class_names
from pymobilenet.files import read_text_file
from pymobilenet.formats import parse_settings
from pymobilenet.training import load_recipe
from pymobilenet.training.checkpoint import LAST


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    handler = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for the pipe"))
    yield tmp_path / "pipe.toml"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)


def test_a_device_and_a_pipe_are_refused_at_once(pipe, tmp_path):
    for path, kind in (("/dev/zero", "a device"), (pipe, "a named pipe"), (tmp_path, "a folder")):
        with pytest.raises(ConfigError, match=f"must be a regular file. Received: {kind}"):
            read_text_file(path)
        with pytest.raises(ConfigError, match="must be a regular file"):
            class_names(SMALL, {}, "m.safetensors", type(tmp_path)(path))
        with pytest.raises(ConfigError, match="must be a regular file"):
            MobileNetConfig.from_toml(path)
    with pytest.raises(ConfigError, match="must be a regular file"):
        load_recipe(pipe)


def test_every_command_refuses_a_pipe_in_place_of_a_file(pipe, tmp_path, monkeypatch):
    model, folder = tmp_path / "m.safetensors", tmp_path / "folder"
    backend("numpy").build(SMALL, dtype="float64").save(model)
    folder.mkdir()
    for name in ("model.safetensors.index.json", "log.jsonl", LAST):
        os.mkfifo(folder / name)
    monkeypatch.chdir(tmp_path)
    for words in (
        ["convert", pipe, "a.npz"],
        ["convert", folder, "a.npz"],
        *(
            ["convert", model, "a.npz", option, pipe]
            for option in ("--map", "--config", "--sample")
        ),
        ["verify", pipe, "--backends", "numpy"],
        ["evaluate", model, "--data", pipe],
        ["predict", model, pipe],
        ["predict", model, model, "--classes", pipe],
        ["compare", folder],
        ["train", "smoke", "--set", f"start={model}", "--map", pipe],
        ["train", "smoke", "--data", pipe],
        ["train", "--resume", folder],
        ["quantize", pipe, "a.onnx"],
        ["diff", model, model, "--inputs", pipe],
        ["diff", model, model, "--shape", "3,32,32", "--map", pipe],
        ["diff", model, model, "--load-outputs", pipe],
    ):
        signal.alarm(20)
        refused = CliRunner().invoke(app, list(map(str, words)))
        signal.alarm(0)
        assert refused.exit_code == 2, (words, refused.output, refused.exception)


def test_a_text_larger_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 10)
    (tmp_path / "names").write_text("é" * 5)
    assert read_text_file(tmp_path / "names") == "é" * 5
    (tmp_path / "names").write_text("é" * 5 + "a")
    with pytest.raises(ConfigError, match=r"at most 10 bytes. Received: 11 bytes"):
        read_text_file(tmp_path / "names")


def test_a_link_to_a_text_is_followed(tmp_path):
    (tmp_path / "names").write_text("a\n")
    (tmp_path / "link").symlink_to(tmp_path / "names")
    assert read_text_file(tmp_path / "link") == "a\n"


@pytest.mark.parametrize("words", [["info"], ["train", "--out", "run"]])
def test_a_command_refuses_a_pipe_in_one_line(pipe, words):
    completed = subprocess.run(
        [sys.executable, "-m", "pymobilenet.cli", words[0], str(pipe), *words[1:]],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert completed.returncode == 2
    assert "must be a regular file. Received: a named pipe" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_a_number_of_too_many_digits_is_refused(tmp_path):
    digits = "1" * 5000
    with pytest.raises(ConfigError, match="Exceeds the limit"):
        load_recipe("smoke", [f"seed={digits}"])
    with pytest.raises(ConfigError, match="Exceeds the limit"):
        parse_settings([f"resolution={digits}"])
    (tmp_path / "config.toml").write_text(f"[model]\nresolution = {digits}\n")
    with pytest.raises(ConfigError, match=r"not TOML \(Exceeds the limit"):
        MobileNetConfig.from_toml(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match=r"not JSON \(Exceeds the limit"):
        MobileNetConfig.from_json(f'{{"resolution":{digits}}}')
