"""Models of this package are compared layer by layer, whatever their backend."""

import numpy as np
import pytest

from pymobilenet import MobileNetConfig, backend
from pymobilenet.errors import ConfigError
from pymobilenet.parity import compare
from pymobilenet.parity.diff import RecordedOutputs, participant, record_outputs
from pymobilenet.parity.diff.measure import layer_floor
from pymobilenet.parity.diff.model_participant import ModelParticipant
from pymobilenet.parity.scenario import start_state

NET = {"width_mult": 0.125, "resolution": 32, "num_classes": 7}
CONFIGS = {
    "v1": MobileNetConfig("v1", **NET),
    "v1, keras padding, relu": MobileNetConfig("v1", **NET, padding="keras", activation="relu"),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", resolution=32, num_classes=7),
    "v2": MobileNetConfig("v2", **NET, dropout=0.2),
}
LABELS = np.array([3, 0, 6, 6])


def images(size=(32, 32)):
    return np.random.default_rng(0).standard_normal((4, 3, *size))


def model(name, config):
    return backend(name).from_state(config, start_state(config, 0, "float64"))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_oracle_agrees_with_torch_layer_by_layer(name):
    models = [model(each, CONFIGS[name]) for each in ("torch", "numpy")]
    check_agreement(compare(*models, inputs=images((33, 47)), labels=LABELS))


def test_torch_agrees_with_the_oracle_as_the_first():
    models = [model(each, CONFIGS["v1"]) for each in ("numpy", "torch")]
    check_agreement(compare(*models, inputs=images(), labels=LABELS))


def check_agreement(report):
    assert report.passed, str(report)
    comparison = report.comparisons[0]
    assert not any(row.is_unmatched for row in comparison.rows)
    assert len(comparison.rows) > 25
    quantities = {row.quantity for row in comparison.training.rows}
    assert quantities == {"output in training mode", "loss", "gradient", "running statistics"}


def test_a_layer_has_the_inputs_parameters_and_settings_of_torchs():
    config = CONFIGS["v2"]
    ours = participant(model("numpy", config)).trace(images(), "float64").layers
    torchs = participant(model("torch", config)).trace(images(), "float64").layers
    by_name = {layer.name.rpartition(".")[0]: layer for layer in torchs}  # functions in modules
    by_name |= {layer.name: layer for layer in torchs}
    for layer in ours:
        if layer.name == "pool":
            continue
        other = by_name[layer.name]
        assert layer.kind == other.kind
        assert {n: v for n, v in layer.settings.items() if n in other.settings} == other.settings
        for one, two in zip(layer.inputs, other.inputs, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)
        assert set(layer.params) == set(other.params)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_layer_has_a_floor_of_its_own_and_can_be_recorded(config, tmp_path):
    first = participant(model("numpy", config))
    for layer in first.trace(images(), "float64").layers:
        assert layer_floor(first, layer, "float64") < 1e-12, layer.name
    recorded = RecordedOutputs(record_outputs(first, images(), tmp_path / "r.npz"))
    assert compare(recorded, model("torch", config), inputs=recorded.inputs).passed


def test_the_models_own_gradient_of_the_output_is_found():
    step = participant(model("numpy", CONFIGS["v1"])).train_step(images(), LABELS, "float64")
    exponentials = np.exp(step.trace.output)
    expected = exponentials / exponentials.sum(1, keepdims=True) - np.eye(7)[LABELS]
    np.testing.assert_allclose(step.output_gradient, expected / 4, atol=1e-12)


def test_the_model_stays_as_it_is():
    numpy_model = model("numpy", CONFIGS["v1"])
    before = numpy_model.get_state()
    compare(numpy_model, numpy_model, inputs=images(), labels=LABELS)
    after = numpy_model.get_state()
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kernels", [pytest.param("fast"), pytest.param("reference")])
@pytest.mark.julia
def test_the_kernels_of_julia_agree(kernels):
    config = CONFIGS["v2"]
    julia = backend("julia").from_state(config, start_state(config, 0, "float64"), kernels=kernels)
    report = compare(
        model("numpy", config), ModelParticipant(julia, "Julia"), inputs=images(), labels=LABELS
    )
    assert report.passed, str(report)


def test_what_a_training_step_cannot_do_is_refused():
    numpy_model = model("numpy", CONFIGS["v1"])
    with pytest.raises(ConfigError, match="is its own"):
        compare(
            numpy_model,
            model("torch", CONFIGS["v1"]),
            inputs=images(),
            labels=LABELS,
            losses=[lambda o, _: o, None],
        )
    many = np.concatenate([images()] * 33)
    with pytest.raises(ConfigError, match=r"as there are features, 128\. Received: 132"):
        participant(numpy_model).train_step(many, np.zeros(132, np.int64), "float64")
