"""The ONNX file computes what the backends do, in float32 rounding and not a bit beyond.

ONNX Runtime is held to level 1 of the ladder as a backend would be: every activation, its distance
from the float64 oracle against torch's measured noise floor.
"""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.architecture import activation_names
from pymobilenet.doors.onnx_export import export_onnx, onnx_model, write_onnx
from pymobilenet.errors import BackendUnavailable, ConfigError, WeightsError
from pymobilenet.parity.floors import (
    Program,
    draw_order,
    floors,
    move_parameters,
    move_ulps,
    unpermuted,
)
from pymobilenet.parity.judge import Verdict, compare, doubtful
from pymobilenet.parity.observe import Key
from pymobilenet.parity.scenario import start_state
from pymobilenet.weights import state_shapes

SMALL = {"width_mult": 0.25, "resolution": 32, "num_classes": 10}
CONFIGS = {
    "v1": MobileNetConfig(**SMALL),
    "v1-keras": MobileNetConfig(**SMALL, padding="keras", norm_eps=1e-3, dropout=0.5),
    "v1-relu-grey": MobileNetConfig(**SMALL, activation="relu", in_channels=1, stem_stride=1),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", **SMALL, softmax=True),
    "v2": MobileNetConfig("v2", **SMALL, stem_stride=1),
    "v2-keras": MobileNetConfig("v2", **SMALL, padding="keras", norm_eps=1e-3, softmax=True),
}
SIZES = [(5, 32, 32), (1, 45, 37)]
"""(N, H, W): several and one; even; odd and not square."""

NAMES = ["torch", pytest.param("julia", marks=pytest.mark.julia)]


def images_of(config, size=SIZES[0]):
    count, *area = size
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, config.in_channels, *area)).astype(np.float32)


def run(graph, images):
    """Output name -> values of a graph, as ONNX Runtime runs it by default."""
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def observed(graph, images):
    """Every activation, for which the graph has to be cut open, and the output of it uncut."""
    opened = onnx.ModelProto()
    opened.CopyFrom(graph)
    outputs = {output.name for output in graph.graph.output}
    for node in graph.graph.node:
        if node.output[0] not in outputs:
            opened.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    seen = run(opened, images)
    del seen["pool.mean"]
    return keyed(seen, *run(graph, images).values())


def keyed(activations, predicted):
    seen = {Key(1, "eval", name): values for name, values in activations.items()}
    return seen | {Key(1, "predict", "output"): predicted}


def of_model(model, images):
    return keyed(model.activations(images), model.predict(images))


def judged(graph, config, state, images, leader="torch"):
    """ONNX Runtime and `leader` against the oracle, in the leader's floors."""
    model = backend(leader).from_state(config, state)
    exact = {name: tensor.astype(np.float64) for name, tensor in state.items()}
    oracle = of_model(backend("numpy").from_state(config, exact), images.astype(np.float64))
    seen = {leader: of_model(model, images), "onnxruntime": observed(graph, images)}

    def draw(number):
        order = draw_order(number, 0, len(images))
        moved = backend(leader).from_state(config, move_parameters(state, number))
        return unpermuted(of_model(moved, move_ulps(images[order], number, 1000)), order)

    found = floors(
        Program(seen[leader], draw),
        (),
        "float32",
        lambda floor: doubtful(compare(oracle, seen, floor)),
    )
    rows = tuple(compare(oracle, seen, found))
    return Verdict("ONNX", 1, "outputs", rows)


# What it computes


@pytest.mark.parametrize("leader", NAMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_activation_is_within_the_noise_of_float32(name, size, leader):
    config = CONFIGS[name]
    state = start_state(config, 1, "float32")
    verdict = judged(onnx_model(config, state), config, state, images_of(config, size), leader)
    assert verdict.passed, verdict.first_divergence
    assert len(verdict.rows) == len(activation_names(config)) + 1


def test_another_reader_of_the_format_computes_the_same():
    config = CONFIGS["v2-keras"]
    graph, images = onnx_model(config, start_state(config, 1, "float32")), images_of(config)
    (found,) = ReferenceEvaluator(graph).run(None, {"images": images})
    np.testing.assert_allclose(found, run(graph, images)["probabilities"], rtol=1e-4)


# Faults that the comparison has to find, and where


def of_type(graph, operator):
    return [node for node in graph.graph.node if node.op_type == operator]


def change_kernels(graph, change):
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("conv.weight"):
            values = np.ascontiguousarray(change(onnx.numpy_helper.to_array(tensor)))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def change_attribute(graph, operator, name, change):
    for node in of_type(graph, operator):
        for attribute in node.attribute:
            if attribute.name == name:
                value = change(onnx.helper.get_attribute_value(attribute))
                attribute.CopyFrom(onnx.helper.make_attribute(name, value))


def flip_kernels(graph):
    change_kernels(graph, lambda kernel: kernel[..., ::-1, ::-1])


def transpose_kernels(graph):
    change_kernels(graph, lambda kernel: kernel.swapaxes(2, 3))


def set_eps(graph):
    change_attribute(graph, "BatchNormalization", "epsilon", lambda _: 1e-4)


def swap_pads(graph):
    change_attribute(graph, "Conv", "pads", lambda pads: [*pads[2:], *pads[:2]])


def pad_symmetrically(graph):
    change_attribute(graph, "Conv", "pads", lambda pads: [max(pads)] * 4)


def drop_residuals(graph):
    for node in of_type(graph, "Add"):
        node.op_type = "Identity"
        del node.input[0]


def drop_clipping(graph):
    for node in of_type(graph, "Clip"):
        node.op_type = "Relu"
        del node.input[1:]


def swap_bias_and_mean(graph):
    for node in of_type(graph, "BatchNormalization"):
        node.input[2], node.input[3] = node.input[3], node.input[2]


def take_the_maximum(graph):
    (node,) = of_type(graph, "GlobalAveragePool")
    node.op_type = "GlobalMaxPool"


FAULTS = {
    flip_kernels: "stem.conv",
    transpose_kernels: "stem.conv",
    set_eps: "stem.norm",
    swap_pads: "stem.conv",
    pad_symmetrically: "stem.conv",
    drop_residuals: "blocks.0.add",
    drop_clipping: "stem.act",
    swap_bias_and_mean: "stem.norm",
    take_the_maximum: "pool",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_where_it_is(fault):
    config = CONFIGS["v2-keras"]
    state = start_state(config, 1, "float32")
    graph = onnx_model(config, state)
    fault(graph)
    images = images_of(
        config, (2, 64, 64)
    )  # whose last map is 2x2, so that its mean means something
    found = judged(graph, config, state, images).first_divergence
    assert found is not None
    assert (found.backend, found.name) == ("onnxruntime", FAULTS[fault])


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
def test_the_file_says_what_it_takes_gives_and_holds(name, tmp_path):
    config = CONFIGS[name]
    state, given = start_state(config, 1, "float32"), {"preprocessing": "keras"}
    write_onnx(tmp_path / "m.onnx", config, state, metadata=given)
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
    found = run(onnx_model(config, model.get_state(), opset), images)["logits"]
    np.testing.assert_array_equal(found, expected)


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


def test_importing_the_door_imports_no_onnx():
    code = (
        "import sys, pymobilenet.doors.onnx_export; print({'onnx', 'onnxruntime'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
