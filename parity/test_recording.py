"""Recordings: written, read, replayed, and refused where they do not fit."""

import dataclasses

import numpy as np
import pytest

from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable, WeightsError
from pymobilenet.parity import Recording, Scenario, read_goldens, record
from pymobilenet.parity.observe import Key, observe
from pymobilenet.parity.recording import _write, inputs_digest, read_recording, thin
from pymobilenet.parity.reference import reference
from pymobilenet.parity.run import compare_models, replay

VERSIONS = {"julia": "1.10.9", "Flux": "0.16.11"}
"""What a live Julia would have written; torch stands in for it in these tests."""


@pytest.fixture(scope="module")
def recorded(config):
    from pymobilenet.parity.recording import recording_images

    config = dataclasses.replace(config, num_classes=100)
    truth = reference(Scenario(config, "float64", batch_size=8), recording_images())
    model = backend("torch").build(config, dtype="float64", memory_format="channels_last")
    seen = thin(observe(model, truth.inputs, truth.masks))
    digest = inputs_digest(truth.inputs, truth.masks)
    losses = {"calm": np.array([4.6, 4.5])}
    return Recording("julia", truth.scenario, VERSIONS, "Linux x86_64", digest, seen, losses)


@pytest.fixture
def golden(recorded, tmp_path):
    path = tmp_path / "golden.safetensors"
    _write(path, recorded)
    return path


def test_a_recording_is_read_as_it_was_written(recorded, golden):
    read = read_recording(golden)
    assert (read.backend, read.scenario) == ("julia", recorded.scenario)
    assert (read.versions, read.machine) == (VERSIONS, "Linux x86_64")
    assert list(read.observations) == list(recorded.observations)
    for key, value in recorded.observations.items():
        assert np.array_equal(read.observations[key], value), key
    assert np.array_equal(read.curves["calm"], recorded.curves["calm"])
    assert golden.stat().st_size < 2e6
    assert [one.digest for one in read_goldens(golden.parent)] == [recorded.digest]


def test_a_recording_is_replayed_against_torch(recorded):
    report = replay([dataclasses.replace(recorded, curves={})])
    assert report.to_dict()["verdict"] == "agree"
    assert report.to_dict()["julia"] == "recorded, Julia 1.10.9, Flux 0.16.11"
    assert report.to_dict()["versions"]["julia (recorded)"] == VERSIONS


def test_a_fault_in_a_recording_is_named(recorded):
    key = Key(1, "train", "blocks.3.pointwise.norm")
    wrong = recorded.observations | {key: recorded.observations[key] * (1 + 1e-9)}
    report = replay([dataclasses.replace(recorded, observations=wrong, curves={})])
    first = report.first_divergence
    assert (first.backend, first.level, first.quantity) == ("julia", 1, "train")
    assert first.name == "blocks.3.pointwise.norm"


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 9}, {"dtype": "float32"}])
def test_a_replay_on_another_input_is_refused(recorded, change):
    scenario = dataclasses.replace(recorded.scenario, **change)
    with pytest.raises(WeightsError, match=f"digest {recorded.digest[:16]}"):
        replay([dataclasses.replace(recorded, scenario=scenario)])


def test_a_truncated_recording_is_refused(golden):
    whole = golden.read_bytes()
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        golden.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"golden\.safetensors"):
            read_recording(golden)


def test_a_weight_file_is_no_recording(config, tmp_path):
    backend("torch").build(config).save(tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="no recording"):
        read_recording(tmp_path / "m.safetensors")


def test_only_a_live_julia_is_recorded(truths, tmp_path):
    truth = truths["float64"]
    path = tmp_path / "golden.safetensors"
    with pytest.raises(BackendUnavailable, match=r"only a live Julia.*torch"):
        record(backend("torch"), truth.scenario, truth.inputs, truth.masks, path)
    assert not path.exists()


def test_a_folder_without_recordings_says_so(tmp_path):
    with pytest.raises(BackendUnavailable, match="no recordings"):
        read_goldens(tmp_path)


def test_models_are_compared_under_any_names(config, truths):
    truth = truths["float64"]
    models = {name: backend("torch").build(config, dtype="float64") for name in ("a", "b")}
    result = compare_models(truth, models)
    assert set(result.flips) == {"a", "b"}
    assert all(error == 0 for error in result.activations["b against a"].values())
