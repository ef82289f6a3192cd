"""Import and export of Keras' MobileNet and MobileNetV2: the same weights, the same logits.

Keras computes its norms in float32 whatever the policy (layers/normalization/batch_normalization.py
takes ``result_type(inputs.dtype, "float32")``), so its logits are held against the float64 oracle's
within ten of its own float32 floors.
"""

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data.preprocessing import preprocess
from pymobilenet.errors import WeightsError
from pymobilenet.formats import load_any, save_as
from pymobilenet.formats.keras_file import read_keras
from pymobilenet.parity.floors import min_floor
from pymobilenet.parity.tolerances import DRAWS, MAX_RATIO, USUAL_RATIO
from pymobilenet.weights import initial_state
from pymobilenet.weights.perturb import distance, draw_order, move_ulps

os.environ["KERAS_BACKEND"] = "torch"

keras = pytest.importorskip("keras")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras"),
]

CLASSES = 11
SIZE = 64
MODELS = {"v1": keras.applications.MobileNet, "v2": keras.applications.MobileNetV2}
KERAS = {"padding": "keras", "norm_eps": 1e-3}

each_width = pytest.mark.parametrize(
    ("family", "width"),
    [
        *(("v1", width) for width in (0.25, 0.5, 0.75, 1.0)),
        *(("v2", width) for width in (0.35, 0.5, 1.0, 1.4)),
    ],
)
each_family = pytest.mark.parametrize(("family", "width"), [("v1", 0.25), ("v2", 0.35)])


def peer(family, width, size=SIZE, classes=CLASSES, weights=None):
    return MODELS[family](
        input_shape=(size, size, 3),
        alpha=width,
        weights=None if weights is None else str(weights),
        classes=classes,
        classifier_activation=None,
    )


def random_peer(family, width, seed=0, size=SIZE):
    """A model with norms as training would leave them, and maps that neither fade nor saturate."""
    model, rng = peer(family, width, size), np.random.default_rng(seed)
    for variable in model.weights:
        *fan_in, count = shape = variable.shape
        spread = np.sqrt(6 / (9 if count == 1 else np.prod(fan_in)))  # 1: a depthwise kernel
        values = {
            "kernel": rng.uniform(-spread, spread, shape),
            "gamma": rng.uniform(0.7, 1.6, shape),
            "beta": rng.uniform(-0.3, 0.6, shape),
            "bias": rng.uniform(-0.3, 0.6, shape),
            "moving_mean": rng.normal(0, 0.2, shape),
            "moving_variance": rng.uniform(0.5, 2, shape),
        }
        variable.assign(values[variable.name])
    return model


def pictures(size=SIZE, count=2):
    """(N, 3, H, W), as preprocessing leaves them."""
    return np.random.default_rng(5).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)


def logits(model, images):
    with torch.no_grad():
        outputs = model(images.transpose(0, 2, 3, 1), training=False).numpy()
    assert outputs.dtype == images.dtype
    return outputs


def floor(model, images):
    """How far the peer's own logits move with the order of the images and an ulp here and there."""
    base, weights, moves = logits(model, images), model.get_weights(), []
    for draw in range(DRAWS):
        order = draw_order(draw, 0, len(images))
        model.set_weights([move_ulps(value, draw, index) for index, value in enumerate(weights)])
        moves.append(distance(logits(model, move_ulps(images[order], draw, 1000)), base[order]))
    model.set_weights(weights)
    return max(*moves, min_floor(images.dtype))


def oracle(config, state, images):
    wide = {name: tensor.astype(np.float64) for name, tensor in state.items()}
    return backend("numpy").from_state(config, wide).predict(images.astype(np.float64))


@each_width
def test_the_oracle_gives_keras_logits(family, width, tmp_path):
    model, images = random_peer(family, width), pictures()
    model.save(tmp_path / "whole.h5")
    model.save_weights(tmp_path / "only.weights.h5")
    loaded, other = load_any(tmp_path / "only.weights.h5"), load_any(tmp_path / "whole.h5")
    for name, tensor in loaded.state.items():
        assert tensor.tobytes() == other.state[name].tobytes(), name
    assert replace(loaded.config, resolution=SIZE) == other.config  # a whole model states its size
    assert loaded.report.layout == f"keras {family}"
    assert (loaded.config.family, loaded.config.width_mult) == (family, width)
    expected, noise = logits(model, images), floor(model, images)
    oracle_logits = oracle(loaded.config, loaded.state, images)
    assert distance(expected, oracle_logits) <= USUAL_RATIO * noise


@each_family
def test_another_epsilon_or_padding_would_be_seen(family, width, tmp_path):
    model, images = random_peer(family, width), pictures()
    model.save_weights(tmp_path / "peer.weights.h5")
    loaded = load_any(tmp_path / "peer.weights.h5")
    expected, noise = logits(model, images), floor(model, images)
    for field, value in {"norm_eps": 1e-5, "padding": "symmetric"}.items():
        wrong = MobileNetConfig(**{**loaded.config.to_dict(), field: value})
        assert distance(expected, oracle(wrong, loaded.state, images)) > MAX_RATIO * noise


@each_width
def test_keras_loads_what_is_written_for_it(family, width, tmp_path):
    config = MobileNetConfig(family, width_mult=width, num_classes=CLASSES, **KERAS)
    first, images = random_peer(family, width), pictures()
    first.save_weights(tmp_path / "first.weights.h5")
    state = load_any(tmp_path / "first.weights.h5").state
    for form in ("ours.h5", "ours.weights.h5"):
        save_as(tmp_path / form, config, state, "keras")
        model = peer(family, width, weights=tmp_path / form)
        for variable, original in zip(model.weights, first.weights, strict=True):
            assert variable.numpy().tobytes() == original.numpy().tobytes(), variable.path
        assert logits(model, images).tobytes() == logits(first, images).tobytes()


@each_family
def test_keras_pairs_the_layers_of_the_official_form_by_name_too(family, width, tmp_path):
    config = MobileNetConfig(family, width_mult=width, num_classes=CLASSES, **KERAS)
    state = backend("torch").build(config, seed=3).get_state()
    save_as(tmp_path / "ours.h5", config, state, "keras")
    model, images = random_peer(family, width), pictures()
    model.load_weights(tmp_path / "ours.h5", by_name=True)
    bound = USUAL_RATIO * floor(model, images)
    assert distance(oracle(config, state, images), logits(model, images)) <= bound


SETTINGS = {
    "torchvision's padding": {"padding": "symmetric"},
    "an odd size": {"padding": "symmetric", "resolution": 65},
    "keras' padding, stem stride 1": {**KERAS, "stem_stride": 1},
    "relu": {"activation": "relu", "norm_eps": 1e-4},
}


@each_family
@pytest.mark.parametrize("settings", SETTINGS)
def test_keras_computes_the_same_from_an_archive(family, width, settings, tmp_path):
    fields = {"resolution": SIZE, "num_classes": CLASSES, **SETTINGS[settings]}
    config = MobileNetConfig(family, width_mult=width, **fields)
    random_peer(family, width).save_weights(tmp_path / "w.weights.h5")
    state = load_any(tmp_path / "w.weights.h5").state
    save_as(tmp_path / "ours.keras", config, state)
    model = keras.saving.load_model(tmp_path / "ours.keras")
    images = pictures(config.resolution)
    expected, bound = oracle(config, state, images), USUAL_RATIO * floor(model, images)
    assert distance(logits(model, images), expected) <= bound


@each_family
def test_weights_trained_further_in_keras_are_read(family, width, tmp_path):
    config = MobileNetConfig(family, width_mult=width, num_classes=CLASSES, **KERAS)
    state = backend("torch").build(config, seed=3).get_state()
    save_as(tmp_path / "ours.weights.h5", config, state, "keras")
    model = peer(family, width, weights=tmp_path / "ours.weights.h5")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(pictures().astype("float32").transpose(0, 2, 3, 1), np.ones((2, CLASSES)), verbose=0)
    model.save_weights(tmp_path / "trained.weights.h5")
    loaded = load_any(tmp_path / "trained.weights.h5")
    assert loaded.state["classifier.bias"].tobytes() == model.weights[-1].numpy().tobytes()
    assert not np.array_equal(loaded.state["stem.norm.running_mean"], np.zeros(1))


@pytest.mark.parametrize(
    ("family", "width", "size", "agrees"),
    [
        ("v1", 0.25, 98, True),  # 49 rows, odd, come to a depthwise convolution
        ("v1", 0.25, 97, False),
        ("v2", 0.35, 112, False),  # 7 rows come to the last of stride 2
        ("v2", 0.35, 98, False),
    ],
)
def test_sizes_at_which_keras_pads_otherwise_are_the_ones_refused(
    family, width, size, agrees, tmp_path
):
    model, images = random_peer(family, width, size=size), pictures(size)
    model.save_weights(tmp_path / "peer.weights.h5")
    loaded = load_any(tmp_path / "peer.weights.h5")
    error = distance(oracle(loaded.config, loaded.state, images), logits(model, images))
    noise = floor(model, images)
    assert error <= USUAL_RATIO * noise if agrees else error > MAX_RATIO * noise
    config = MobileNetConfig(**{**loaded.config.to_dict(), "resolution": size})
    if agrees:
        save_as(tmp_path / "again.h5", config, loaded.state)
    else:
        with pytest.raises(WeightsError, match=f"Received: {size}"):
            save_as(tmp_path / "again.h5", config, loaded.state)


@each_family
def test_the_config_has_keras_training_fields(family, width, tmp_path):
    model = peer(family, width)
    model.save_weights(tmp_path / "peer.weights.h5")
    config = load_any(tmp_path / "peer.weights.h5").config
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.epsilon for layer in norms} == {config.norm_eps}
    assert {round(1 - layer.momentum, 12) for layer in norms} == {config.norm_momentum}


@each_family
def test_initial_weights_are_spread_as_keras_spreads_them(family, width, tmp_path):
    peer(family, width).save_weights(tmp_path / "peer.weights.h5")
    loaded = load_any(tmp_path / "peer.weights.h5")
    for name, initial in initial_state(loaded.config, 0, init="keras").items():
        keras_weight = loaded.state[name]
        if initial.std() == 0:
            np.testing.assert_array_equal(keras_weight, initial, err_msg=name)
            continue
        sampling = 0.45 * np.sqrt(2 / initial.size)  # relative, of two uniform draws' deviations
        assert abs(keras_weight.std() / initial.std() - 1) < 6 * sampling, name
        assert abs(np.abs(keras_weight).max() / np.abs(initial).max() - 1) < 20 / initial.size, name


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v2"])
def test_preprocessing_is_keras_own(name):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
    module = getattr(keras.applications, name)
    expected = module.preprocess_input(images.astype(np.float64)).transpose(0, 3, 1, 2)
    np.testing.assert_array_max_ulp(preprocess(images, "keras", np.float64), expected, 2)


needs_official_weights = pytest.mark.skipif(
    "PYMOBILENET_TEST_DATA" not in os.environ,
    reason="PYMOBILENET_TEST_DATA names no folder with the official weights, which are not ours "
    "to ship",
)


@pytest.fixture
def official():
    return os.environ["PYMOBILENET_TEST_DATA"]


def real_images(folder, count=8):
    """CIFAR-10's, enlarged to the official size: (N, 3, 224, 224) float32."""
    from PIL import Image

    with tarfile.open(f"{folder}/cifar-10-subset.tar") as archive:
        names = sorted(name for name in archive.getnames() if "test/" in name and ".png" in name)
        chosen = names[:: len(names) // count][:count]
        files = [io.BytesIO(archive.extractfile(name).read()) for name in chosen]
    return preprocess([np.asarray(Image.open(file).resize((224, 224))) for file in files])


@needs_official_weights
@pytest.mark.parametrize("name", ["torch", pytest.param("julia", marks=pytest.mark.julia)])
def test_the_official_weights_give_keras_logits(name, official):
    path = f"{official}/mobilenet_2_5_224_tf.h5"
    loaded, images = load_any(path), real_images(official)
    model = peer("v1", 0.25, 224, 1000, path)
    expected, bound = logits(model, images), USUAL_RATIO * floor(model, images)
    truth = oracle(loaded.config, loaded.state, images)
    own_logits = backend(name).from_state(loaded.config, loaded.state).predict(images)
    assert own_logits.dtype == np.float32
    for one, other in ((expected, truth), (own_logits, truth), (own_logits, expected)):
        assert distance(one, other) <= bound


@needs_official_weights
def test_the_official_file_is_unchanged_by_reading_and_writing(official, tmp_path):
    path = f"{official}/mobilenet_2_5_224_tf.h5"
    loaded = load_any(path)
    save_as(tmp_path / "again.h5", loaded.config, loaded.state)
    first, second = (read_keras(each).tensors for each in (Path(path), tmp_path / "again.h5"))
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in second.items()
    }
