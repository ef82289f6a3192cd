"""Nets for the tests of formats, and their tensors by other projects' names."""

import numpy as np

from pymobilenet import MobileNetConfig
from pymobilenet.formats import LAYOUTS, npz
from pymobilenet.weights import state_shapes

V1 = MobileNetConfig("v1", width_mult=0.25, num_classes=7, resolution=32)
V2 = MobileNetConfig("v2", width_mult=0.35, num_classes=7, resolution=32)
BOTTLENECK = MobileNetConfig("v1_bottleneck", num_classes=7, resolution=32)
KERAS_V1 = MobileNetConfig(
    "v1", width_mult=0.25, num_classes=7, resolution=32, padding="keras", norm_eps=1e-3
)
OWN = ("safetensors", "npz", "pt")
"""Doors that hold every net, moments and all."""

METADATA = {"preprocessing": "keras", "probe": '{"seed":0}', "note": "ü"}


def random_state(config, seed=0, dtype="float32"):
    """Values as training leaves them: nothing is 1, nothing 0, no variance below zero."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in state_shapes(config).items():
        values = rng.standard_normal(shape)
        state[name] = (np.abs(values) if name.endswith("var") else values).astype(dtype)
    return state


def layout_named(name, family):
    (layout,) = [each for each in LAYOUTS if each.name == name and family in each.families]
    return layout


def peer_tensors(config, layout, state=None):
    """The state by the peer's names and axes, with the extra tensors of its files."""
    layout = layout_named(layout, config.family)
    state = random_state(config) if state is None else state
    names = layout.rename(config)
    tensors = {
        peer: layout.to_peer(canonical, state[canonical]) for canonical, peer in names.items()
    }
    return tensors | layout.extra_tensors(config)


def assert_same_state(state, expected):
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype, name
        assert state[name].shape == tensor.shape, name
        assert state[name].tobytes() == tensor.tobytes(), name


def npz_file(path, tensors, metadata=None):
    npz.write(path, tensors, metadata or {})
    return path
