"""Recordings: writing, reading, replaying, and errors for recordings that do not fit."""

import dataclasses

import faults
import numpy as np
import pytest

from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable, WeightsError
from pymobilenet.parity import Recording, Scenario, read_recordings, record
from pymobilenet.parity.compare_scenario import compare_models
from pymobilenet.parity.observe import Key, observe
from pymobilenet.parity.recording import _write, read_recording, subsample
from pymobilenet.parity.reference import compute_reference
from pymobilenet.parity.run import replay

VERSIONS = {"julia": "1.10.9", "Flux": "0.16.11"}
"""What a live Julia would have written; torch stands in for it in these tests."""


@pytest.fixture(scope="module")
def recorded(config):
    from pymobilenet.parity.recording import recording_images

    config = dataclasses.replace(config, num_classes=100)
    scenario = Scenario(config, "float64", batch_size=9, image_size=(17, 33))
    reference = compute_reference(scenario, recording_images())
    model = backend("torch").build(config, dtype="float64", memory_format="channels_last")
    observations, digest = subsample(observe(model, reference.inputs)), reference.inputs.digest()
    losses = {"calm": np.array([4.6, 4.5])}
    return Recording(
        "julia", reference.scenario, VERSIONS, "Linux x86_64", digest, observations, losses
    )


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
    assert [one.digest for one in read_recordings(golden.parent)] == [recorded.digest]


def test_a_changed_bit_of_a_recording_is_noticed(golden):
    content = bytearray(golden.read_bytes())
    content[-1000] ^= 1
    golden.write_bytes(content)
    with pytest.raises(WeightsError, match="the SHA-256 of its tensors must be that of the meta"):
        read_recording(golden)


def test_a_recording_is_replayed_against_torch(recorded):
    report = replay([dataclasses.replace(recorded, curves={})])
    assert report.to_dict()["verdict"] == "agree"
    assert report.to_dict()["julia"] == "recorded, Julia 1.10.9, Flux 0.16.11"
    assert report.to_dict()["versions"]["julia (recorded)"] == VERSIONS


@pytest.mark.slow
def test_a_fault_in_a_recording_is_named(recorded):
    key = Key(1, "train", "blocks.3.pointwise.norm")
    wrong = recorded.observations | {key: recorded.observations[key] * (1 + 1e-9)}
    report = replay([dataclasses.replace(recorded, observations=wrong, curves={})])
    first = report.first_divergence
    assert (first.backend, first.level, first.quantity) == ("julia", 1, "train")
    assert first.name == "blocks.3.pointwise.norm"


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 12}, {"dtype": "float32"}])
def test_a_replay_on_another_input_is_refused(recorded, change):
    scenario = dataclasses.replace(recorded.scenario, **change)
    with pytest.raises(WeightsError, match=f"digest {recorded.digest[:16]}"):
        replay([dataclasses.replace(recorded, scenario=scenario)])


def test_a_truncated_recording_is_refused(golden):
    content = golden.read_bytes()
    for length in (0, 7, len(content) // 2, len(content) - 1):
        golden.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"golden\.safetensors"):
            read_recording(golden)


def test_a_weight_file_is_no_recording(config, tmp_path):
    backend("torch").build(config).save(tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="not a recording"):
        read_recording(tmp_path / "m.safetensors")


def test_only_a_live_julia_is_recorded(references, tmp_path):
    reference = references["float64"]
    path = tmp_path / "golden.safetensors"
    with pytest.raises(BackendUnavailable, match=r"only the Julia backend.*torch"):
        record(backend("torch"), reference.scenario, reference.inputs, path)
    assert not path.exists()


def test_a_folder_without_recordings_is_an_error(tmp_path):
    with pytest.raises(BackendUnavailable, match="has no recordings"):
        read_recordings(tmp_path)


def test_models_are_compared_under_any_names(config, references):
    """The figures of each name are those of its model: "b" alone has another classifier bias."""
    reference = references["float64"]
    models = {name: backend("torch").build(config, dtype="float64") for name in ("a", "b")}
    changed = faults.OtherBias(models["b"])
    result = compare_models(reference, {"a": models["a"], "b": changed})
    assert set(result.flips) == {"a", "b"}
    pair = "b against a"
    assert set(result.logits) == set(result.activations) == {"a", "b", pair}
    assert result.logits["a"] < 1e-11
    assert result.logits["b"] > 1e-3
    assert result.logits[pair] == pytest.approx(result.logits["b"], rel=1e-9)
    differing = {name for name, error in result.activations[pair].items() if error > 0}
    assert differing == {"logits", "probabilities"}
    divergence = next(one for one in map(_divergence, result.verdicts) if one)
    assert (divergence.backend, divergence.level, divergence.name) == ("b", 1, "logits")


def _divergence(verdict):
    return verdict.first_divergence
