"""Initial weights: recorded bits, and the distribution of the default scheme."""

import hashlib
import json
import math

import initial_reference
import numpy as np
import pytest

from pymobilenet import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import initial_state, state_shapes

CASES = json.loads(initial_reference.VECTORS.read_text(encoding="utf-8"))["cases"]
SMALL = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['init']}-{case['seed']}")
def test_the_weights_equal_the_recorded_bits(case):
    config = MobileNetConfig.from_json(case["config"])
    state = initial_state(config, int(case["seed"]), init=case["init"])
    for name, bits in case["first"].items():
        first = state[name].ravel()[:4].astype("<f4").view("<u4")
        assert [f"{value:08x}" for value in first] == bits, name
    content = b"".join(state[name].astype("<f4").tobytes() for name in sorted(state))
    assert hashlib.sha256(content).hexdigest() == case["sha256"]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_recorded_bits_follow_from_the_reference_implementation(case):
    assert initial_reference.record(initial_reference.CASES[case]) == CASES[case]


def test_names_and_shapes_are_those_of_the_architecture():
    state = initial_state(SMALL, seed=0)
    assert {name: tensor.shape for name, tensor in state.items()} == state_shapes(SMALL)
    assert {tensor.dtype for tensor in state.values()} == {np.dtype(np.float32)}


def test_both_dtypes_have_the_same_values():
    float32, float64 = initial_state(SMALL, 3, "float32"), initial_state(SMALL, 3, np.float64)
    for name in float32:
        assert float64[name].dtype == np.float64
        assert (float32[name] == float64[name]).all(), name


def test_a_seed_determines_the_model():
    first, same, other = (initial_state(SMALL, seed) for seed in (1, 1, 2))
    random_names = [
        name for name in first if name.endswith("conv.weight") or name == "classifier.weight"
    ]
    assert len(random_names) == 28
    for name in first:
        assert first[name].tobytes() == same[name].tobytes()
    for name in random_names:
        assert not (first[name] == other[name]).any(), name


def test_tensors_of_a_model_start_with_different_values():
    state = initial_state(SMALL, 0)
    signs = {
        np.sign(t.ravel()[:27]).tobytes() for n, t in state.items() if n.endswith("conv.weight")
    }
    assert len(signs) == sum(name.endswith("conv.weight") for name in state)


@pytest.mark.parametrize("name", ["stem.conv.weight", "blocks.12.pointwise.conv.weight"])
def test_convolutions_are_uniform_in_the_he_bound(name):
    """The standard deviation, bound / sqrt(3), is He's sqrt(2 / fan_in)."""
    values = initial_state(MobileNetConfig(width_mult=0.25), 0, "float64")[name]
    bound = math.sqrt(6 / math.prod(values.shape[1:]))
    assert 0.98 * bound < np.abs(values).max() <= bound * (1 + 2**-24)
    spread = 4 / math.sqrt(values.size)  # four standard errors
    assert abs(values.mean()) < spread * bound / math.sqrt(3)
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=spread)
    counts, _ = np.histogram(values, bins=4, range=(-bound, bound))
    np.testing.assert_allclose(counts, values.size / 4, rtol=2 * spread)


def test_the_classifier_is_uniform_in_its_bound_with_zero_bias():
    state = initial_state(MobileNetConfig(width_mult=0.25, num_classes=100), 0, "float64")
    bound = 1 / math.sqrt(256)
    assert 0.999 * bound < np.abs(state["classifier.weight"]).max() <= bound
    assert not state["classifier.bias"].any()


def test_norms_start_as_the_identity():
    for name, tensor in initial_state(SMALL, 0).items():
        if ".norm." in name:
            is_one = name.endswith(("norm.weight", "running_var"))
            assert (tensor == is_one).all(), name


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, True])
def test_an_invalid_seed_is_refused(seed):
    with pytest.raises(ConfigError, match=f"seed must be .*Received: {seed!r}"):
        initial_state(SMALL, seed)
