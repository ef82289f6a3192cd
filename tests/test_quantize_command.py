"""The commands `convert` to ONNX and `quantize` keep the metadata about images."""

import json

import numpy as np
import onnx
import pytest
from cifar_files import FINE_NAMES, write_binary_layout
from typed_commands import refused, run

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data import load_cifar100, normalise, scaling
from pymobilenet.data.decoding import resized
from pymobilenet.formats import convert
from pymobilenet.formats.exchange import read_weights, write_weights
from pymobilenet.quantization import quantize as quantize_module

METADATA = {
    "preprocessing": "standard",
    "mean": "[0.1,0.2,0.3]",
    "std": "[0.5,0.6,0.7]",
    "classes": json.dumps(FINE_NAMES[::-1]),
}


def exported(folder, count=100, resolution=32, **metadata):
    """An ONNX file of a saved model, which has a probe too."""
    model = backend("torch").build(
        MobileNetConfig(width_mult=0.1, resolution=resolution, num_classes=count)
    )
    model.save(folder / "plain.safetensors")
    file = read_weights(folder / "plain.safetensors")
    assert "probe" in file.metadata
    texts = file.metadata | metadata
    write_weights(folder / "m.safetensors", file.config, file.state, file.versions, texts)
    convert(folder / "m.safetensors", folder / "m.onnx")
    return folder / "m.onnx"


def metadata_of(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.fixture
def data(tmp_path):
    write_binary_layout(tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def evaluated(monkeypatch):
    """The images that both files are evaluated on, and their labels."""
    batches, loss = [], quantize_module.quantization_loss

    def recorded(path, int8_path, labelled):
        batches.extend(labelled)
        return loss(path, int8_path, iter(batches))

    monkeypatch.setattr(quantize_module, "quantization_loss", recorded)
    return batches


def test_only_the_metadata_about_images_is_copied(tmp_path):
    metadata = metadata_of(exported(tmp_path, **METADATA))
    assert metadata.items() >= METADATA.items()
    assert set(metadata) == {"config", "versions", *METADATA}


def test_quantize_uses_the_metadata_of_the_file(tmp_path, data, evaluated):
    path = exported(tmp_path, **METADATA)
    result = run("quantize", path, tmp_path / "int8.onnx", "--data", data)
    assert result.exit_code == 0, result.output
    test = load_cifar100(data, "test")
    ((images, labels),) = evaluated
    own = ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert images.tobytes() == normalise(test.images, *own).tobytes()
    assert labels.tolist() == (99 - test.labels).tolist()
    assert metadata_of(tmp_path / "int8.onnx").items() >= METADATA.items()


def test_images_have_the_resolution_of_the_model(tmp_path, data, evaluated):
    path = exported(tmp_path, resolution=48, preprocessing="keras")
    result = run("quantize", path, tmp_path / "int8.onnx", "--data", data)
    assert result.exit_code == 0, result.output
    test = resized(load_cifar100(data, "test"), 48)
    expected = normalise(test.images, *scaling("keras", test))
    assert evaluated[0][0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("metadata", "options", "expected"),
    [
        ({"preprocessing": "keras"}, (), "keras"),
        ({"preprocessing": "keras"}, ("--preprocessing", "unit"), "unit"),
        ({}, (), "standard"),
    ],
)
def test_images_are_scaled_as_the_file_or_the_user_says(
    tmp_path, data, evaluated, metadata, options, expected
):
    path = exported(tmp_path, **metadata)
    result = run("quantize", path, tmp_path / "int8.onnx", "--data", data, *options)
    assert result.exit_code == 0, result.output
    test = load_cifar100(data, "test")
    assert evaluated[0][0].tobytes() == normalise(test.images, *scaling(expected, test)).tobytes()
    assert np.array_equal(evaluated[0][1], test.labels)


def test_images_of_other_classes_are_refused(tmp_path, data):
    few = exported(tmp_path, 10)
    message = refused("quantize", few, tmp_path / "int8.onnx", "--data", data)
    assert "has 100 classes; the model must have as many. Received: num_classes 10" in message
    named = exported(tmp_path, 10, classes='"cifar-10"')
    message = refused("quantize", named, tmp_path / "int8.onnx", "--data", data)
    assert "Received: fine_" in message
    odd = exported(tmp_path, preprocessing="caffe")
    message = refused("quantize", odd, tmp_path / "int8.onnx", "--data", data)
    assert "m.onnx: metadata preprocessing must be" in message
    assert not (tmp_path / "int8.onnx").exists()


def test_a_path_that_cannot_be_written_is_an_error_before_reading(tmp_path, data):
    path = exported(tmp_path)
    for arguments in (
        ("convert", tmp_path / "absent", tmp_path / "nosuch" / "b.npz"),
        ("quantize", path, tmp_path / "nosuch" / "b.onnx", "--data", data),
    ):
        message = refused(*arguments).replace("\n", "")
        assert f"the folder {tmp_path / 'nosuch'} must exist" in message
    message = refused("convert", tmp_path / "absent", data, "--to", "npz")
    assert "images is a folder; name the file to write" in message
