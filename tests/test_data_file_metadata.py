"""The metadata of a model's file about its images: exact values, and errors for invalid ones."""

import json
from dataclasses import replace

import pytest

from pymobilenet.data import (
    CIFAR100_MEAN,
    CIFAR100_STD,
    preprocessing_of,
    scaling,
    scaling_metadata,
    statistics_of,
    synthetic,
)
from pymobilenet.data.preprocessing import PREPROCESSING
from pymobilenet.errors import ConfigError, WeightsError

OWN = ((0.1, 1 / 3, 0.7), (0.2 + 2**-50, 5e-324, 1.0))
DATA = replace(synthetic(4, num_classes=2), statistics=OWN)


@pytest.mark.parametrize("name", PREPROCESSING)
def test_images_are_scaled_by_the_written_metadata(name):
    metadata = scaling_metadata(name, DATA)
    mean, std = scaling(name, DATA)
    assert list(metadata) == ["preprocessing", "mean", "std"]
    assert metadata["preprocessing"] == name
    assert (json.loads(metadata["mean"]), json.loads(metadata["std"])) == (list(mean), list(std))
    assert preprocessing_of(metadata, None, "m") == name


def test_standard_uses_the_statistics_of_the_file_exactly():
    assert statistics_of(scaling_metadata("standard", DATA), "standard", "m") == OWN
    cifar = scaling_metadata("standard", replace(DATA, statistics=None))
    assert statistics_of(cifar, "standard", "m") == (CIFAR100_MEAN, CIFAR100_STD)


def test_statistics_of_another_preprocessing_are_not_used():
    keras, standard = (scaling_metadata(name, DATA) for name in ("keras", "standard"))
    assert statistics_of(keras, "keras", "m") is None
    assert statistics_of(keras, "standard", "m") is None
    assert statistics_of(standard, "unit", "m") is None


def test_older_files_say_nothing():
    assert statistics_of({"preprocessing": "standard"}, "standard", "m") is None
    assert statistics_of({}, "standard", "m") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "mean and std must both be present, or neither. Received: std only"),
        ({"mean": "0.5"}, "mean must be JSON, three finite numbers. Received: "),
        ({"mean": "[0.5,0.5]"}, "mean must be JSON, three finite numbers"),
        ({"mean": "[0.5,0.5,true]"}, "mean must be JSON, three finite numbers"),
        ({"mean": "[0.5,0.5,NaN]"}, "mean must be JSON, three finite numbers"),
        ({"mean": "[0.5,0.5,Infinity]"}, "mean must be JSON, three finite numbers"),
        ({"mean": f"[0.5,0.5,{10**400}]"}, "mean must be JSON, three finite numbers"),
        ({"std": "[0.5,0.5,0]"}, "std must be JSON, three finite numbers above 0"),
        ({"std": "[" * 100_000}, "std must be JSON"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(change, message):
    changed = scaling_metadata("standard", DATA) | change
    metadata = {key: text for key, text in changed.items() if text is not None}
    with pytest.raises(WeightsError, match=f"m: metadata {message}"):
        statistics_of(metadata, "standard", "m")


def test_an_unknown_preprocessing_is_not_written():
    with pytest.raises(ConfigError, match="Received: 'caffe'"):
        scaling_metadata("caffe", DATA)
