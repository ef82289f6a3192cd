"""Every unit of a scenario passes both kinks, and a ReLU in place of a ReLU6 is found anywhere."""

import faults
import numpy as np
import pytest
from lab import Place, assert_divergence

from pymobilenet import MobileNetConfig, backend
from pymobilenet.architecture import layers
from pymobilenet.parity.kinks import Exercised, exercised_kinks, past_kinks
from pymobilenet.parity.recording import recording_images
from pymobilenet.parity.scenario import STANDARD_CONFIGS, Scenario


def kinks(reference):
    values = {key.name: v for key, v in reference.observations.items() if key.quantity == "train"}
    return exercised_kinks(values, reference.scenario.config.activation)


@pytest.mark.parametrize("config", STANDARD_CONFIGS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_unit_of_a_standard_scenario_passes_both_kinks(config, seed):
    scenario = Scenario(config, "float64", batch_size=3, steps=1, seed=seed)
    inputs = scenario.inputs(recording_images())
    oracle = backend("numpy").build(config, dtype="float64")
    inputs.load_into(oracle)
    values = oracle.activations(inputs.first.images, train=True)
    exercised = exercised_kinks(values, config.activation)
    assert len(exercised) == sum(layer.activation for layer in layers(config))
    assert [one.name for one in exercised if not one.fully] == []


def test_the_report_has_the_units_that_were_exercised(lab, references):
    (scenario,) = lab.levels("float64", other=lab.build("numpy", "float64")).scenarios
    assert scenario.kinks == kinks(references["float64"])
    assert all(one.fully for one in scenario.kinks)


def test_a_channel_counts_where_its_values_are_on_both_sides():
    norm = np.zeros((2, 4, 1, 1))
    norm[0, :, 0, 0] = [-1.0, 1.0, 5.0, -1.0]
    norm[1, :, 0, 0] = [1.0, 2.0, 7.0, 8.0]
    values = {"stem.norm": norm, "stem.act": norm}
    assert exercised_kinks(values, "relu6") == [Exercised("stem.act", 4, 2, 2)]
    (relu,) = exercised_kinks(values, "relu")
    assert (relu.at_six, relu.fully) == (None, True)
    assert not exercised_kinks({**values, "stem.norm": norm[:1]}, "relu6")[0].fully


def test_only_units_with_an_activation_function_are_changed():
    config = MobileNetConfig("v2", width_mult=0.35, resolution=32, num_classes=10)
    names = [f"{layer.name}.norm.{kind}" for layer in layers(config) for kind in ("weight", "bias")]
    state = {name: np.ones(8, np.float32) for name in names}
    changed = past_kinks(state, config)
    for layer in layers(config):
        expected = [4, 1, 1, 1, 4, 1, 1, 1] if layer.activation else [1] * 8
        assert changed[f"{layer.name}.norm.weight"].tolist() == expected
    assert all((tensor == 1).all() for tensor in state.values())


UNCLIPPED = [
    pytest.param("torch", faults.unclipped_unit, id="torch"),
    pytest.param(
        "julia", faults.julia_fault("unclipped_unit"), id="julia", marks=pytest.mark.julia
    ),
]


@pytest.mark.parametrize(("name", "plant"), UNCLIPPED)
@pytest.mark.parametrize(
    ("block", "unit"), [(0, "depthwise"), (12, "depthwise"), (12, "pointwise")]
)
def test_a_relu_in_place_of_relu6_is_found_in_the_first_and_the_last_units(
    lab, block, unit, name, plant
):
    faulty = plant(lab.build(name, "float64"), block, unit)
    report = lab.levels("float64", faulty=faulty)
    place = Place(1, "forward", "eval", f"blocks.{block}.{unit}.act")
    assert_divergence(report, place, "faulty")
