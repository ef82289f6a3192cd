"""Small models and batches for the tests."""

import numpy as np

from pymobilenet import MobileNetConfig, TrainConfig, backend

SMALL = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=7, stem_stride=1)
OPTIMIZERS = [
    TrainConfig(optimizer="sgd", momentum=0.75),
    TrainConfig(optimizer="adam", beta1=0.5, eps=1e-3),
]


def random_model(config, seed=0):
    """A model without the special values of an initial state: no norm weight is 1, no bias is 0."""
    model = backend("numpy").build(config, seed, dtype="float64")
    rng = np.random.default_rng(seed)
    state = model.get_state()
    for name, tensor in state.items():
        if "norm" in name or name == "classifier.bias":
            state[name] = tensor + rng.uniform(-0.4, 0.8, tensor.shape)
    model.set_state(state)
    return model


def batch(count=3, size=(7, 11), config=SMALL, seed=1):
    """Images and labels; the images are read-only, so that writing into them fails."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, config.in_channels, *size))
    images.flags.writeable = False
    return images, rng.integers(0, config.num_classes, count)


def assert_same_bits(arrays, expected):
    assert list(arrays) == list(expected)
    for name, tensor in expected.items():
        assert arrays[name].tobytes() == tensor.tobytes(), name
