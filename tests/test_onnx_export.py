"""The content of an exported ONNX file, and errors before one is written."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_graphs import CONFIGS, images_of, run

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.architecture import activation_names
from pymobilenet.errors import BackendUnavailable, ConfigError, WeightsError
from pymobilenet.formats.onnx_export import export_onnx, onnx_model, write_onnx
from pymobilenet.parity.scenario import start_state
from pymobilenet.weights import state_shapes

NAMES = ["torch", pytest.param("julia", marks=pytest.mark.julia)]


# What the file is


@pytest.fixture
def config():
    return CONFIGS["v2"]


@pytest.fixture
def model(config):
    return backend("torch").from_state(config, start_state(config, 1, "float32"))


def test_nodes_and_initializers_have_the_canonical_names(config, model):
    graph = onnx_model(config, model.get_state()).graph
    names = [node.name for node in graph.node]
    assert [name for name in names if name != "pool.mean"] == list(activation_names(config))
    assert [node.output[0] for node in graph.node] == names
    bounds = ["relu6.min", "relu6.max"]
    assert [tensor.name for tensor in graph.initializer] == [*state_shapes(config), *bounds]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_file_has_the_right_inputs_outputs_and_metadata(name, tmp_path):
    config = CONFIGS[name]
    state, metadata = start_state(config, 1, "float32"), {"preprocessing": "keras"}
    write_onnx(tmp_path / "m.onnx", config, state, metadata=metadata)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (images,), (output,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape) == ("images", ["N", config.in_channels, "H", "W"])
    assert output.name == ("probabilities" if config.softmax else "logits")
    assert output.shape == ["N", config.num_classes]
    metadata = session.get_modelmeta().custom_metadata_map
    assert MobileNetConfig.from_json(metadata["config"]) == config
    assert json.loads(metadata["versions"])["onnx"] == onnx.__version__
    assert metadata["preprocessing"] == "keras"


@pytest.mark.parametrize("leader", NAMES)
def test_every_backend_writes_the_same_bytes_again_and_again(leader, config, model, tmp_path):
    write_onnx(tmp_path / "first.onnx", config, model.get_state())
    other = backend(leader).from_state(config, model.get_state())
    other.set_optimizer(TrainConfig())  # whose moments are no part of the file
    export_onnx(tmp_path / "second.onnx", other)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


@pytest.mark.parametrize("opset", [13, 17, 26])
def test_every_opset_gives_the_same_values(opset, config, model):
    images = images_of(config)
    expected = run(onnx_model(config, model.get_state()), images)["logits"]
    logits = run(onnx_model(config, model.get_state(), opset), images)["logits"]
    np.testing.assert_array_equal(logits, expected)


# What is refused


def test_what_is_no_state_of_the_config_is_refused_and_nothing_is_written(config, model, tmp_path):
    state = model.get_state()
    bad = {
        "finite": state | {"stem.conv.weight": np.full_like(state["stem.conv.weight"], np.nan)},
        "float32": {name: tensor.astype(np.float64) for name, tensor in state.items()},
        "missing head.conv.weight": {k: v for k, v in state.items() if k != "head.conv.weight"},
        "negative": state | {"stem.norm.running_var": -state["stem.norm.running_var"]},
        "left over head.extra": state | {"head.extra": state["head.norm.bias"]},
    }
    (tmp_path / "m.onnx").write_bytes(b"before")
    for rule, wrong in bad.items():
        with pytest.raises(WeightsError, match=rf"m\.onnx: .*{rule}"):
            write_onnx(tmp_path / "m.onnx", config, wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"before"


@pytest.mark.parametrize("opset", [12, onnx.defs.onnx_opset_version() + 1, True, 22.0])
def test_an_opset_that_cannot_be_written_is_refused(opset, config, model):
    with pytest.raises(ConfigError, match="opset must be"):
        onnx_model(config, model.get_state(), opset)


def test_more_than_a_file_can_hold_is_refused(tmp_path):
    config = replace(CONFIGS["v1"], width_mult=2, num_classes=300_000)
    with pytest.raises(WeightsError, match="at most"):
        write_onnx(tmp_path / "m.onnx", config, {})


def test_a_graph_the_checker_refuses_never_appears(model, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise onnx.checker.ValidationError("no such graph")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        export_onnx(tmp_path / "m.onnx", model)
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_message_says_how_to_get_it(config, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnx.helper", None)
    with pytest.raises(BackendUnavailable, match=r"pip install pymobilenet\[onnx\]"):
        onnx_model(config, model.get_state())


def test_importing_the_module_does_not_import_onnx():
    module = "pymobilenet.formats.onnx_export"
    code = f"import sys, {module}; print({{'onnx', 'onnxruntime'}} & {{*sys.modules}})"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "set()"
