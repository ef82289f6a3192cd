"""A frozen model predicts the model's logits with folded norms, unaffected by later changes."""

import numpy as np
import pytest
from small_models import batch

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.errors import DataError
from pymobilenet.parity.floors import distance, min_floor, move_parameters, move_ulps
from pymobilenet.parity.scenario import start_state
from pymobilenet.parity.tolerances import DRAWS, USUAL_RATIO

SHARED = {"resolution": 33, "num_classes": 7}
CONFIGS = {
    "v1": MobileNetConfig("v1", 0.35, **SHARED),
    "v1, keras": MobileNetConfig("v1", 0.35, **SHARED, padding="keras", activation="relu"),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", 0.1, **SHARED, softmax=True),
    "v2": MobileNetConfig("v2", 0.35, **SHARED, stem_stride=1, padding="keras"),
}
BACKENDS = ["torch", "numpy", pytest.param("julia", marks=pytest.mark.julia)]

BACKENDS_AND_DTYPES = [
    ("torch", "float64"),
    ("torch", "float32"),
    ("numpy", "float64"),
    *(pytest.param("julia", dtype, marks=pytest.mark.julia) for dtype in ("float64", "float32")),
]

by_backend = pytest.mark.parametrize("name", BACKENDS)
by_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def images_of(config, dtype):
    return batch(count=3, size=(33, 47), config=config)[0].astype(dtype)


def floor(model, images):
    """The noise floor: how much perturbations of some ulps change the model's own logits."""
    base, state = model.predict(images), model.get_state()
    perturbed = (
        model.backend.from_state(model.config, move_parameters(state, draw)).predict(
            move_ulps(images, draw, 1000)
        )
        for draw in range(DRAWS)
    )
    return max(min_floor(images.dtype), *(distance(logits, base) for logits in perturbed))


@by_config
@pytest.mark.parametrize(("name", "dtype"), BACKENDS_AND_DTYPES)
def test_frozen_logits_equal_the_oracles(name, config, dtype):
    images, start = images_of(config, dtype), start_state(config, 0, dtype)
    model = backend(name).from_state(config, start)
    float64_state = {key: tensor.astype("float64") for key, tensor in start.items()}
    expected = backend("numpy").from_state(config, float64_state).predict(images.astype("float64"))
    logits = model.freeze()(images)
    assert logits.dtype == images.dtype
    assert distance(logits, expected) <= USUAL_RATIO * floor(model, images)


@by_backend
def test_training_does_not_change_a_frozen_model(name):
    config = CONFIGS["v1"]
    model = backend(name).build(config, dtype="float64")
    images, labels = batch(config=config, size=(33, 47))
    frozen = model.freeze()
    before = frozen(images)
    model.set_optimizer(TrainConfig())
    model.step(images, labels, 0.1)
    assert not np.array_equal(model.predict(images), before)
    assert frozen(images).tobytes() == before.tobytes()


@by_backend
def test_images_of_a_frozen_model_are_checked_and_not_modified(name):
    config = CONFIGS["v1"]
    frozen = backend(name).build(config, dtype="float64").freeze()
    with pytest.raises(DataError, match="Received"):
        frozen(np.zeros((2, 4, 33, 33)))
    images, _ = batch(config=config, size=(33, 47))
    copy = images.copy()
    frozen(images)
    assert images.tobytes() == copy.tobytes()
