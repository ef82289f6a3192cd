"""Levels 0 to 2 for every family and option, at odd sizes; the faults that only V2 can have."""

import dataclasses

import faults
import numpy as np
import pytest
from lab import FAULTY, PLANTED, Lab, Place, assert_agree, assert_divergence

from pymobilenet import MobileNetConfig, backend
from pymobilenet.architecture import last_map_size
from pymobilenet.backends.batch import Batch
from pymobilenet.parity import Scenario
from pymobilenet.parity.compare_scenario import compare_models
from pymobilenet.parity.reference import compute_reference_for
from pymobilenet.parity.scenario import Inputs, start_state

pytestmark = pytest.mark.slow

SIZE = (33, 65)
"""Rows and columns: odd, and not square down to the last maps, so that a swap of the two shows."""

HALF_SIZE = (17, 33)
"""For a stem of stride 1, and for faults of which many nets are searched."""

NET = {"width_mult": 0.35, "resolution": 33, "num_classes": 7}
CONFIGS = {
    "v1": MobileNetConfig("v1", **NET),
    "v1, nearest, keras padding": MobileNetConfig(
        "v1", **NET, rounding="nearest", padding="keras", stem_stride=1
    ),
    "v1, multiples of 8, relu": MobileNetConfig(
        "v1", **NET, rounding="multiple_of_8", activation="relu", stem_stride=1
    ),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", 0.1, 33, 7, softmax=True),
    "v2": MobileNetConfig("v2", **NET),
    "v1, head": MobileNetConfig("v1", **NET, head_conv=True),
    "v2, deeper": MobileNetConfig("v2", **NET, depth_mult=1.2),
    "v2, CIFAR form, keras padding": MobileNetConfig("v2", **NET, stem_stride=1, padding="keras"),
}


def size_for(config):
    """Return the image size with which the last maps are 2x3."""
    return HALF_SIZE if config.stem_stride == 1 else SIZE


@pytest.mark.parametrize("name", CONFIGS)
def test_the_last_maps_are_not_square(name):
    rows, columns = last_map_size(CONFIGS[name], *size_for(CONFIGS[name]))
    assert rows != columns


OTHERS = ["numpy", pytest.param("julia", marks=pytest.mark.julia)]


def random_reference(config, dtype, batch_size, size=SIZE):
    """Run the oracle on random images."""
    rng = np.random.default_rng(0)
    shape = (batch_size, config.in_channels, *size)
    images = rng.standard_normal(shape).astype(np.float32).astype(dtype)
    labels = rng.integers(0, config.num_classes, batch_size)
    inputs = Inputs(
        config=config,
        state=start_state(config, 0, dtype),
        batches={"sgd": (Batch(images, labels, {}),), "adam": ()},
    )
    return compute_reference_for(Scenario(config, dtype, batch_size), inputs)


def levels(of, config, dtype, batch_size, size=SIZE, **models):
    """Return the verdicts on levels 0 to 2 of torch and another model.

    After a step at a working rate on one or five images, runs diverge chaotically: level 3 is for
    larger batches.
    """
    torch = backend("torch").build(config, dtype=dtype)
    result = compare_models(of(config, dtype, batch_size, size), {"torch": torch, **models})
    return result.verdicts[:3]


@pytest.fixture(scope="session")
def known():
    """Return `random_reference`, computed once for the same arguments."""
    references = {}

    def of(*arguments):
        if arguments not in references:
            references[arguments] = random_reference(*arguments)
        return references[arguments]

    return of


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_agrees_in_float64(known, name, batch_size, other):
    config = CONFIGS[name]
    model = backend(other).build(config, dtype="float64")
    size = size_for(config)
    verdicts = levels(known, config, "float64", batch_size, size, other=model)
    assert [verdict.passed for verdict in verdicts] == [True] * 3, verdicts


@pytest.mark.julia
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_agrees_in_float32(known, name, batch_size):
    """A single image requires a stem of stride 1: see the next test."""
    config = CONFIGS[name]
    if batch_size == 1:
        config = dataclasses.replace(config, stem_stride=1)
    model = backend("julia").build(config, dtype="float32")
    verdicts = levels(known, config, "float32", batch_size, other=model)
    assert [verdict.passed for verdict in verdicts] == [True] * 3, verdicts


@pytest.mark.parametrize("name", ["v1_bottleneck", "v2"])
def test_gradients_behind_norms_of_four_values_are_lost_in_float32(known, name):
    """After a stem of stride 2 the last maps of one image are 2x2. Rounding alone then moves some
    gradients by more than 1/30: they are lost, and even torch does not agree with itself."""
    config = CONFIGS[name]
    same = backend("torch").build(config)
    *others, gradients = levels(known, config, "float32", 1, size=(33, 47), other=same)
    assert [verdict.passed for verdict in others] == [True] * 2
    assert not gradients.passed
    assert gradients.worst.floor == float("inf")


# Faults in V2

V2 = MobileNetConfig("v2", 0.35, resolution=32, num_classes=20)
DTYPES = ["float64", "float32"]
SECOND = {  # planted in block 5, the third of 32 channels
    "misplaced residual": (faults.misplaced_residual, Place(1, "forward", "eval", "blocks.5.add")),
    "missing residual": (faults.missing_residual, Place(1, "forward", "eval", "blocks.5.add")),
    "activated bottleneck": (
        faults.activated_bottleneck,
        Place(1, "forward", "eval", "blocks.5.project.norm"),
    ),
}


@pytest.fixture(scope="session")
def v2(images):
    return Lab(V2, images, image_size=HALF_SIZE)


@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_correct_v2_agrees_on_all_levels(v2, dtype, name):
    assert_agree(v2.levels(dtype, other=faults.Wrapper(v2.build(name, dtype))))


@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.parametrize("fault", PLANTED.values(), ids=PLANTED)
def test_every_fault_is_found_in_v2_too(v2, name, fault):
    faulty = fault.plant(v2.build(name, "float64"))
    report = v2.levels("float64", faulty=faulty)
    assert_divergence(report, fault.levels, "faulty")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", SECOND)
def test_a_fault_that_only_v2_can_have_is_found(v2, dtype, fault):
    plant, index = SECOND[fault]
    faulty = plant(v2.build("torch", dtype), 5)
    assert_divergence(v2.levels(dtype, faulty=faulty), index, "faulty")


@pytest.mark.julia
@pytest.mark.parametrize("name", ["missing_residual", "activated_bottleneck"])
def test_a_fault_that_only_v2_can_have_is_found_in_julia(v2, name):
    """A model reports the activations of its config: one too many shows in the sum after it."""
    faulty = faults.julia_fault(name)(v2.build("julia", "float64"), 5)
    report = v2.levels("float64", faulty=faulty)
    first = report.first_divergence
    assert (first.level, first.name, first.backend) == (1, "blocks.5.add", "faulty")
