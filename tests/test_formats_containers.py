"""Containers are detected by the bytes of a file, not by its name."""

import struct
import zipfile

import pytest
import torch
from format_models import (
    V1,
    npz_file,
    random_state,
)

from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import load_any, save_as
from pymobilenet.formats.detect import detect_container


@pytest.mark.parametrize(
    ("file_format", "container"), [("safetensors", "safetensors"), ("npz", "npz"), ("pt", "pt")]
)
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt", "h5", "anything"])
def test_a_container_is_detected_by_its_bytes_and_not_by_its_suffix(
    tmp_path, file_format, container, suffix
):
    path = tmp_path / f"model.{suffix}"
    save_as(path, V1, random_state(V1), file_format)
    assert detect_container(path) == container
    assert load_any(path).config == V1


def test_a_legacy_torch_file_is_known(tmp_path):
    torch.save({}, tmp_path / "a", _use_new_zipfile_serialization=False)
    assert detect_container(tmp_path / "a") == "pt"


@pytest.mark.parametrize(
    ("content", "container"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "keras"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n", "keras"),
        (bytes(1024) + b"\x89HDF\r\n\x1a\n", "keras"),
        (
            b"HDF5-based Julia Data Format, version 0.1.1\0".ljust(512) + b"\x89HDF\r\n\x1a\n",
            "jld2",
        ),
        (struct.pack("<i", 20) + b"\x03state\0" + bytes(9), "bson"),
        (struct.pack("<Q", 2) + b"{}", "safetensors"),
    ],
)
def test_a_container_of_others_is_known_by_how_it_begins(tmp_path, content, container):
    (tmp_path / "a").write_bytes(content)
    assert detect_container(tmp_path / "a") == container


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"\(0 bytes\): must be safetensors, npz, torch's, HDF5"),
        (b"hello", "Received: a file that begins with b'hello'"),
        (struct.pack("<Q", 99) + b"{}", "is not a safetensors file: .*header"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page, not a model"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "a TensorFlow Lite model"),
        (b"\x08\x01\x12\x05\x0a\x03abc", "a TensorFlow SavedModel"),
        (b'{"a": 1}', "JSON, not a model"),
        (b"\x1f\x8b\x08\0", "compressed: unpack it first"),
        (b"\x80\x04\x95abc", "a pickle that torch.save did not write"),
        (b"PK\x03\x04abc", "a truncated or malformed zip"),
    ],
)
def test_other_bytes_are_refused(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_any(tmp_path / "a")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["b.txt", "a.npy"], r"neither npz .* Received: b.txt, a.npy"),
        ([], "neither npz .* Received: none"),
    ],
)
def test_other_zips_are_refused(tmp_path, members, message):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    with pytest.raises(WeightsError, match=message):
        load_any(tmp_path / "a")


def test_no_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="nowhere: no such file"):
        load_any(tmp_path / "nowhere")


def test_a_named_container_is_not_detected(tmp_path):
    path = npz_file(tmp_path / "a", random_state(V1))
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_any(path, container="safetensors")


@pytest.mark.parametrize("suffix", [".NPZ", ".Safetensors", ".PT"])
def test_a_suffix_names_its_format_in_any_case(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    save_as(path, V1, random_state(V1))
    assert detect_container(path) == suffix.lower().removeprefix(".")


def test_a_container_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"container must be one of safetensors, npz.*'zip'"):
        load_any(tmp_path, container="zip")
