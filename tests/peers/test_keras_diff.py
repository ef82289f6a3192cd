"""Keras models compared with torch modules, layer by layer."""

import os

import numpy as np
import pytest
import torch
from torch import nn

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


def small_net(seed=0, momentum=0.99):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Conv2D(4, 3, strides=2, use_bias=False),
        keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5, name="norm"),
        keras.layers.ReLU(),
        keras.layers.DepthwiseConv2D(3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(5),
    ]
    return randomised(keras.Sequential([keras.Input((None, None, 3)), *layers]))


def torch_twin(model):
    """The same net in torch."""
    conv, norm, _, depthwise, _, _, dense = model.layers
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 5),
    )
    arrays = {
        "0.weight": np.transpose(conv.kernel, (3, 2, 0, 1)),
        "1.weight": norm.gamma,
        "1.bias": norm.beta,
        "1.running_mean": norm.moving_mean,
        "1.running_var": norm.moving_variance,
        "3.weight": np.transpose(depthwise.kernel, (2, 3, 0, 1)),
        "3.bias": depthwise.bias,
        "8.weight": np.transpose(dense.kernel),
        "8.bias": dense.bias,
    }
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    net.load_state_dict(state, strict=False)
    return net


LABELS = np.array([3, 0, 4])


@pytest.mark.parametrize(
    ("momentum", "differences"),
    [
        (0.99, ["momentum of a norm", "biased running variance"]),
        (0.9, ["biased running variance"]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_training_step_is_that_of_torch_but_for_the_statistics(images, momentum, differences):
    model = small_net(momentum=momentum)
    few_pixels = 10 * images[..., :16, :16]  # of many, both variances are the same in float32
    report = compare(torch_twin(model), model, inputs=few_pixels, labels=LABELS)
    comparison = report.comparisons[0]
    assert comparison.passed_evaluation, str(report)
    training = comparison.training
    far = {row.name for row in training.rows if row.ratio > 30}
    statistics = {f"1 / norm: running_{name}" for name in ("mean", "var")}
    assert far == {name for name in statistics if momentum == 0.99 or "var" in name}
    gradients = [row.name for row in training.rows if row.quantity == "gradient"]
    assert len(gradients) == 1 + 7
    assert [fault.name for fault in training.faults] == differences
    assert "the running variance is of the biased variance of the batch" in str(report)


@pytest.mark.filterwarnings("ignore")
def test_keras_agrees_with_itself_in_training_and_stays_as_it_is(images):
    model = small_net()
    before = model.get_weights()
    model.trainable_variables[0].value.grad = None
    report = compare(model, small_net(), inputs=images, labels=LABELS)
    assert report.passed, str(report)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert model.trainable_variables[0].value.grad is None
    losses = [None, lambda outputs, labels: 2 * sparse(outputs, labels)]
    report = compare(model, small_net(), inputs=images, labels=LABELS, losses=losses)
    assert not report.passed
    assert "loss" in [row.name for row in report.comparisons[0].training.rows if row.ratio > 30]


def sparse(outputs, labels):
    losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)
    return keras.ops.mean(losses)
