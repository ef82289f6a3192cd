"""`verify`: a file passes in every backend if its logits are unchanged, and fails otherwise."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig, backend
from pymobilenet import metadata_keys as keys
from pymobilenet.backends.probe import Probe, digest, images
from pymobilenet.cli import app
from pymobilenet.errors import WeightsError
from pymobilenet.formats.exchange import read_weights, write_weights
from pymobilenet.parity.scenario import start_state
from pymobilenet.parity.verify import verify

CONFIG = MobileNetConfig("v2", 0.35, resolution=33, num_classes=7, stem_stride=1)
EVERY = ["torch", "numpy", pytest.param("julia", marks=pytest.mark.julia)]


@pytest.fixture(params=["float32", "float64"])
def path(request, tmp_path):
    state = start_state(CONFIG, 0, request.param)
    path = tmp_path / "model.safetensors"
    backend("torch").from_state(CONFIG, state).save(path)
    return path


def rewritten(path, **changes):
    """The file with some tensors replaced and its probe as it was."""
    file = read_weights(path)
    state = {**file.state, **changes}
    write_weights(path, file.config, state, file.versions, file.metadata)
    return read_weights(path)


@pytest.mark.parametrize("name", EVERY)
def test_a_file_agrees_with_its_probe_in_every_backend(path, name):
    checks = verify(read_weights(path), [name], "file")
    assert [check.dtype for check in checks] == ["float64", "float32"][: len(checks)]
    assert len(checks) == (1 if name == "numpy" else 2)
    assert all(check.passed for check in checks)
    assert checks[0].error < 1e-13


@pytest.mark.parametrize("name", EVERY)
def test_one_wrong_running_mean_is_found_in_both_dtypes(path, name):
    moved = read_weights(path).state["blocks.9.expand.norm.running_mean"].copy()
    moved[0] += 0.1  # 0.01 is 26 floors of Julia in float32, and the limit is 30
    file = rewritten(path, **{"blocks.9.expand.norm.running_mean": moved})
    assert not any(check.passed for check in verify(file, [name], "file"))


def test_another_padding_is_found(path):
    file = read_weights(path)
    config = dataclasses.replace(CONFIG, padding="keras")
    wrong = dataclasses.replace(file, config=config)
    assert not any(check.passed for check in verify(wrong, ["torch"], "file"))


def test_a_probe_is_written_by_the_oracle_too(tmp_path):
    state = start_state(CONFIG, 0, "float64")
    path = tmp_path / "model.safetensors"
    backend("numpy").from_state(CONFIG, state).save(path)
    assert all(check.passed for check in verify(read_weights(path), ["torch", "numpy"], "file"))


def probe_with(path, **changes):
    file = read_weights(path)
    values = {**json.loads(file.metadata[keys.PROBE]), **changes}
    return dataclasses.replace(file, metadata={keys.PROBE: json.dumps(values)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "are not those of its seed 1"),
        ({"digest": "0"}, "Received: 0"),
        ({"seed": "0"}, "seed must be a whole number. Received: '0'"),
        ({"shape": [3, 3, 33, 33]}, "float64 must be the logits of 3 images"),
        ({"shape": [2, 3, 10**9, 10**9]}, "shape must be that of images"),
        ({"shape": [2, 3, 33]}, "shape must be that of images"),
        ({"shape": [2, 1, 33, 33]}, r"channels must be \(7, 3\). Received: \(7, 1\)"),
        ({"float32": [[1.0]]}, "float32 must be the logits of 2 images"),
        ({"float32": [[1.0], [2.0]]}, "logits must be of one shape"),
        ({"float64": "text"}, "metadata probe: float64 must be the logits"),
        ({"more": 1}, "it must have exactly digest"),
    ],
)
def test_an_invalid_probe_is_refused(path, changes, message):
    with pytest.raises(WeightsError, match=message):
        verify(probe_with(path, **changes), ["torch"], "file")


def test_a_file_without_a_probe_is_refused(path):
    file = read_weights(path)
    with pytest.raises(WeightsError, match="file: has no probe"):
        verify(dataclasses.replace(file, metadata={}), ["torch"], "file")


def test_the_probes_images_are_pinned():
    pixels = images(0, (2, 3, 4, 5))
    assert digest(pixels) == "2ef05b5ec1ad26924a9a0f3a461d1ce412939e0afb3c20b3e52a35d0a4797920"
    assert -1 <= pixels.min() < -0.9
    assert 0.9 < pixels.max() < 1


def test_a_model_whose_logits_overflow_is_saved_without_a_probe(tmp_path):
    state = start_state(CONFIG, 0, "float32")
    state["classifier.weight"][:] = 3e38
    backend("torch").from_state(CONFIG, state).save(tmp_path / "model.safetensors")
    file = read_weights(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="has no probe"):
        verify(file, ["torch"], "file")


def test_a_probe_survives_its_text():
    probe = Probe(0, (1, 3, 32, 32), "ab", [[1.0, 1e-300]], [[0.1, -2.5]])
    assert Probe.from_json(probe.to_json(), "file") == probe


@pytest.mark.slow
def test_the_command_prints_a_row_for_each_backend_and_tells_by_its_status(path):
    good = CliRunner().invoke(app, ["verify", str(path), "--backends", "torch,numpy"])
    assert good.exit_code == 0
    assert good.output.count("agrees") == 3
    bias = read_weights(path).state["classifier.bias"]
    rewritten(path, **{"classifier.bias": bias + 1})
    bad = CliRunner().invoke(app, ["verify", str(path), "--backends", "torch"])
    assert bad.exit_code == 1
    assert bad.output.count("differs") == 2
