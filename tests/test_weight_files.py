"""A model's file: its content, errors, and atomic writing."""

import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import OPTIMIZERS, SMALL, assert_same_bits, batch

from pymobilenet import MobileNetConfig, backend
from pymobilenet.errors import WeightsError
from pymobilenet.formats import load_any, safetensors_file
from pymobilenet.formats.exchange import read_weights, write_weights
from pymobilenet.metadata_keys import DIGEST
from pymobilenet.weights import initial_state

VERSIONS = {"torch": "2.13.0", "numpy": "2.0"}
STATE = initial_state(SMALL, 0)
GOOD = {"format_version": "1", "config": SMALL.to_json(), "versions": "{}"}


@pytest.fixture
def path(tmp_path):
    write_weights(tmp_path / "m.safetensors", SMALL, STATE, VERSIONS, {"train_state": '{"step":3}'})
    return tmp_path / "m.safetensors"


def assert_error(path, content, message):
    """Reading raises an error with the file's name, and the file is unchanged."""
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as raised:
        read_weights(path)
    assert str(path) in str(raised.value)
    assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_config_state_versions_and_other_metadata_come_back(path):
    file = read_weights(path)
    assert (file.config, file.versions, file.dtype) == (SMALL, VERSIONS, np.float32)
    assert file.metadata == {"train_state": '{"step":3}'}
    assert_same_bits({name: file.state[name] for name in STATE}, STATE)


def test_metadata_are_json_texts_with_sorted_keys(path):
    assert safetensors_file.read(path)[1] == {
        "config": SMALL.to_json(),
        "format_version": "1",
        "train_state": '{"step":3}',
        "versions": '{"numpy":"2.0","torch":"2.13.0"}',
    }


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: config.optimizer)
def test_slots_are_written_to_the_file(tmp_path, config):
    model = backend("numpy").build(SMALL, dtype="float64")
    model.set_optimizer(config)
    model.step(*batch(), 0.1)
    model.save(tmp_path / "m.safetensors")
    state = read_weights(tmp_path / "m.safetensors").state
    assert state["optimizer.step"] == 1
    assert_same_bits({name: state[name] for name in model.get_state()}, model.get_state())


@pytest.mark.parametrize(
    ("part", "offset"),
    [
        *[("start", offset) for offset in (0, 1, 7, 8, 9)],
        *[("data", offset) for offset in (-1, 0, 1, 4)],
        *[("end", offset) for offset in (-1, -4)],
    ],
)
def test_a_truncated_file_is_refused(path, part, offset):
    content = path.read_bytes()
    (header,) = struct.unpack("<Q", content[:8])
    size = {"start": 0, "data": 8 + header, "end": len(content)}[part] + offset
    assert_error(path, content[:size], rf"\({size} bytes\) is not a safetensors file")


def test_bytes_after_the_end_are_refused(path):
    assert_error(path, path.read_bytes() + b"\0", "is not a safetensors file")


DATA_BITS = 8 * sum(tensor.nbytes for tensor in STATE.values())


@settings(max_examples=60, deadline=None)
@given(bit=st.integers(0, DATA_BITS - 1))
def test_a_flipped_bit_in_any_tensor_is_refused(tmp_path_factory, bit):
    path = tmp_path_factory.mktemp("bit") / "m.safetensors"
    write_weights(path, SMALL, STATE, VERSIONS)
    content = bytearray(path.read_bytes())
    content[bit // 8 - DATA_BITS // 8] ^= 1 << bit % 8
    assert_error(path, bytes(content), "the SHA-256 of its tensors must be")
    for load in (load_any, lambda damaged: safetensors_file.read(damaged, mmap=True)):
        with pytest.raises(WeightsError, match="the SHA-256 of its tensors must be"):
            load(path)


def test_a_file_without_a_digest_is_read(path, tmp_path):
    tensors, metadata = safetensors_file.read(path)
    size = sum(tensor.nbytes for tensor in STATE.values())
    older = safetensors_file.encode(tensors, metadata) + path.read_bytes()[-size:]
    (tmp_path / "older.safetensors").write_bytes(older)
    assert_same_bits(read_weights(tmp_path / "older.safetensors").state, read_weights(path).state)


def test_another_projects_metadata_of_that_name_are_left_alone(tmp_path):
    metadata = {DIGEST: "its own", "format_version": "pt"}
    safetensors_file.write(tmp_path / "a.safetensors", STATE, metadata)
    assert safetensors_file.read(tmp_path / "a.safetensors")[1] == metadata


FOREIGN = {
    "text": b"<html>404 Not Found</html>" * 10,
    "zip": b"PK\x03\x04" + bytes(200),
    "a header longer than any file": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": struct.pack("<Q", 8) + b"{broken}",
    "names that are no text": struct.pack("<Q", 8) + b'{"\xff":1}',
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_refused(path, name):
    assert_error(path, FOREIGN[name], "is not a safetensors file")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for missing in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(WeightsError, match="no such file") as raised:
            read_weights(missing)
        assert str(missing) in str(raised.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "format_version must be '1'.*Received: None"),
        ({**GOOD, "format_version": "2"}, "format_version must be '1'.*Received: '2'"),
        ({**GOOD, "config": "{"}, "metadata: MobileNetConfig: not JSON"),
        ({**GOOD, "config": '{"family":"v9"}'}, "metadata: family must be one of v1.*'v9'"),
        ({**GOOD, "config": '{"depth":1}'}, "metadata: MobileNetConfig has no field 'depth'"),
        ({**GOOD, "versions": "["}, "metadata: "),
        ({"format_version": "1"}, "metadata: MobileNetConfig: not JSON"),
    ],
)
def test_wrong_metadata_are_refused(path, metadata, message):
    safetensors_file.write(path, STATE, metadata)
    assert_error(path, path.read_bytes(), message)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "missing stem.conv.weight"),
        ({**STATE, "extra": np.zeros(1)}, "left over extra"),
        (
            {name: tensor.astype(np.float64) for name, tensor in STATE.items() if "bias" in name}
            | {name: tensor for name, tensor in STATE.items() if "bias" not in name},
            r"stem\.norm\.bias must be float32\. Received: float64",
        ),
        (
            {**STATE, "classifier.weight": np.zeros((7, 102), np.int64)},
            r"classifier\.weight must be float32 or float64\. Received: int64",
        ),
        (
            {**STATE, "classifier.bias": np.full(7, np.nan, np.float32)},
            r"classifier\.bias must be finite",
        ),
    ],
)
def test_wrong_tensors_are_refused_by_name(path, tensors, message):
    safetensors_file.write(path, tensors, GOOD)
    assert_error(path, path.read_bytes(), message)


def test_a_file_of_another_config_is_refused(path):
    other = MobileNetConfig(width_mult=0.2, num_classes=7)
    safetensors_file.write(path, STATE, {**GOOD, "config": other.to_json()})
    assert_error(path, path.read_bytes(), r"stem\.conv\.weight must have shape \(6, 3, 3, 3\)")


def test_a_state_that_does_not_fit_is_not_written_over_a_good_file(path):
    before = path.read_bytes()
    bad = {**STATE, "classifier.bias": np.full(7, np.inf, np.float32)}
    with pytest.raises(WeightsError, match=r"m\.safetensors: classifier\.bias must be finite"):
        write_weights(path, SMALL, bad, VERSIONS)
    with pytest.raises(WeightsError, match="left over none"):
        write_weights(path, SMALL, {}, VERSIONS)
    assert path.read_bytes() == before


def test_a_disk_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    def fail(_):
        raise OSError("no luck")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no luck"):
        write_weights(path, SMALL, STATE, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_header_names_every_tensor_of_the_state_once(path):
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) == {"__metadata__", *STATE}
