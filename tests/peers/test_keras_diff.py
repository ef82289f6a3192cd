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


def randomised(model):
    """The model with other weights, statistics and biases, none of which is 0 or 1."""
    random = np.random.default_rng(1)
    weights = [
        random.normal(0, 0.5 / np.sqrt(w[..., 0].size), w.shape) for w in model.get_weights()
    ]
    names = [variable.path.rpartition("/")[2] for variable in model.weights]
    for name, weight in zip(names, weights, strict=True):
        if name in ("gamma", "moving_variance", "beta", "moving_mean", "bias"):
            weight[...] = random.uniform(0.5, 1.5, weight.shape)
    model.set_weights(weights)
    return model


def exported(model, path):
    """The file that Keras itself writes, in which norms are sums and products of (N, H, W, C)."""
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    model.export(path, format="onnx", verbose=False)
    return path


@pytest.mark.parametrize("family", ["MobileNet", "MobileNetV2"])
@pytest.mark.filterwarnings("ignore")
def test_keras_agrees_with_its_own_onnx_export(family, images, tmp_path):
    model = getattr(keras.applications, family)(
        input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, classes=7
    )
    path = exported(randomised(model), tmp_path / "net.onnx")
    report = compare(model, str(path), inputs=images)
    assert report.passed, str(report)
    rows = report.comparisons[0].rows
    assert len(rows) > 80
    assert not [row.name for row in rows if row.is_unmatched]
    kinds = {row.second.kind for row in rows}
    assert {"conv", "batch_norm", "activation", "mean_pool", "softmax"} <= kinds


@pytest.mark.filterwarnings("ignore")
def test_a_layer_with_bias_and_dense_layers_of_an_export_agree(images, tmp_path):
    layers = [
        keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(6, activation="tanh"),
        keras.layers.Dense(5),
    ]
    model = randomised(keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers]))
    path = exported(model, tmp_path / "net.onnx")
    report = compare(model, str(path), inputs=images)
    assert report.passed, str(report)
    kinds = [row.second.kind for row in report.comparisons[0].rows]
    assert kinds == ["conv", "activation", "max_pool", "flatten", "dense", "activation", "dense"]


@pytest.mark.filterwarnings("ignore")
def test_a_fault_in_an_export_is_diagnosed(images, tmp_path):
    model = randomised(
        keras.applications.MobileNet(
            input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, classes=7
        )
    )
    path = exported(model, tmp_path / "net.onnx")
    layer = model.get_layer("conv_dw_2_bn")
    layer.epsilon = 1e-5
    model.get_layer("conv_preds").bias.assign(np.zeros(7))
    faults = compare(model, str(path), inputs=images).comparisons[0].faults
    found = [(fault.first.name, fault.name) for fault in faults]
    assert found == [("conv_dw_2_bn", "eps of a norm"), ("conv_preds", "other weights")]
