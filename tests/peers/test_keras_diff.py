"""Keras models compared with torch modules, layer by layer."""

import os

import numpy as np
import pytest

from pymobilenet import backend
from pymobilenet.formats import load_any
from pymobilenet.parity import compare

os.environ["KERAS_BACKEND"] = "torch"

keras = pytest.importorskip("keras")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras"),
]

SIZE = 64


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (3, 3, SIZE, SIZE))


def torch_model(model, tmp_path):
    """The same weights as a torch module of this package."""
    path = tmp_path / "model.h5"
    model.save(path)
    loaded = load_any(path)
    result = backend("torch").build(loaded.config)
    result.set_state(loaded.state)
    return result


@pytest.mark.parametrize("family", ["MobileNet", "MobileNetV2"])
@pytest.mark.filterwarnings("ignore")
def test_keras_and_torch_agree_layer_by_layer(family, images, tmp_path):
    model = getattr(keras.applications, family)(
        input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, classes=7, classifier_activation=None
    )
    report = compare(torch_model(model, tmp_path).module, model, inputs=images)
    assert report.passed, str(report)
    pairs = [row for row in report.comparisons[0].rows if row.chained is not None]
    assert len(pairs) > 80


@pytest.mark.filterwarnings("ignore")
def test_a_fault_in_a_keras_model_is_diagnosed(images, tmp_path):
    model = keras.applications.MobileNet(
        input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, classes=7, classifier_activation=None
    )
    module = torch_model(model, tmp_path).module
    layer = model.get_layer("conv_dw_3")
    layer.kernel.assign(keras.ops.flip(layer.kernel, (0, 1)))
    faults = compare(module, model, inputs=images).comparisons[0].faults
    assert [(fault.second.name, fault.name) for fault in faults] == [("conv_dw_3", "kernel flip")]


def test_padding_layers_and_activations_in_layers_are_taken_apart(images):
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.ZeroPadding2D(((0, 1), (0, 1))),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )
    report = compare(model, model, inputs=images)
    assert report.passed
    kinds = [row.first.kind for row in report.comparisons[0].rows]
    assert kinds == ["conv", "activation", "mean_pool", "dense", "softmax"]
    assert report.comparisons[0].rows[0].first.settings["padding"] == ((0, 1), (0, 1))
