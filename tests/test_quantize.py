"""The int8 file: its content, its loss of accuracy, and errors."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import synthetic
from pymobilenet.errors import BackendUnavailable, DataError, WeightsError
from pymobilenet.formats.onnx_export import export_onnx, onnx_model, write_onnx
from pymobilenet.parity.floors import distance, min_floor
from pymobilenet.parity.scenario import start_state
from pymobilenet.parity.tolerances import USUAL_RATIO
from pymobilenet.quantization import quantize as quantize_module
from pymobilenet.quantization.graph import fold_norms
from pymobilenet.quantization.quantize import (
    BATCH_SIZE,
    labelled_batches,
    predictor,
    quantization_loss,
    quantize,
)
from pymobilenet.training.metrics import accuracy

SMALL = {"width_mult": 0.25, "resolution": 32, "num_classes": 10, "stem_stride": 1}
CONFIGS = {
    "v1": MobileNetConfig(**SMALL),
    "v1-relu": MobileNetConfig(**SMALL, activation="relu", padding="keras"),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", **SMALL),
    "v2": MobileNetConfig("v2", **SMALL, softmax=True),
}


def images_of(config, count=40, seed=0):
    shape = (count, config.in_channels, 32, 32)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module", params=CONFIGS)
def files(request, tmp_path_factory):
    """A config, its float32 file and its int8 file."""
    config, folder = CONFIGS[request.param], tmp_path_factory.mktemp(request.param)
    write_onnx(folder / "m.onnx", config, start_state(config, 1, "float32"))
    quantize(folder / "m.onnx", folder / "int8.onnx", images_of(config))
    return config, folder / "m.onnx", folder / "int8.onnx"


@pytest.fixture
def path(tmp_path):
    config = CONFIGS["v1"]
    write_onnx(tmp_path / "m.onnx", config, start_state(config, 1, "float32"))
    return tmp_path / "m.onnx"


def constants(graph):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


# What the file is


def test_every_weight_is_int8_with_a_scale_for_each_channel(files):
    config, _, path = files
    values = constants(onnx.load(path))
    state = start_state(config, 1, "float32")
    for name in (name for name in state if name.endswith("conv.weight")):
        tensor = values[f"{name}_quantized"]
        assert (tensor.dtype, tensor.shape) == (np.int8, state[name].shape)
        assert values[f"{name}_scale"].shape == (len(tensor),)
    floats = [name for name, value in values.items() if value.dtype == np.float32]
    assert all(name.endswith("_scale") for name in floats)


def test_no_sum_of_two_products_overflows_16_bits(files):
    """Else the result depends on whether the processor has VNNI."""
    values = constants(onnx.load(files[2]))
    weights = [value for name, value in values.items() if name.endswith("weight_quantized")]
    assert 2 * 255 * max(np.abs(value.astype(int)).max() for value in weights) < 2**15


def test_no_norm_is_left_and_only_the_softmax_is_in_float32(files):
    config, _, path = files
    graph = onnx.load(path).graph
    producers = {node.output[0]: node.op_type for node in graph.node}
    kinds = {node.op_type for node in graph.node}
    assert "BatchNormalization" not in kinds
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "Add", "GlobalAveragePool"):
            assert {producers.get(name, "") for name in node.input} <= {"DequantizeLinear"}
    assert ("Softmax" in kinds) == config.softmax


def test_the_logits_are_not_rounded_to_8_bits(files):
    config, _, path = files
    outputs = predictor(path)(images_of(config, 64, seed=1))
    assert len(np.unique(outputs)) > 256


def test_the_file_keeps_the_config_and_the_names_of_input_and_output(files):
    config, path, int8_path = files
    sessions = [onnxruntime.InferenceSession(file) for file in (path, int8_path)]
    for get in ("get_inputs", "get_outputs"):
        (first,), (second,) = (getattr(session, get)() for session in sessions)
        assert (first.name, first.shape, first.type) == (second.name, second.shape, second.type)
    metadata = sessions[1].get_modelmeta().custom_metadata_map
    assert MobileNetConfig.from_json(metadata.pop("config")) == config
    versions = json.loads(metadata.pop("versions"))
    assert versions["onnxruntime"] == onnxruntime.__version__
    assert not metadata


@pytest.mark.slow
def test_the_same_file_and_images_give_the_same_bytes(tmp_path):
    config = CONFIGS["v2"]
    write_onnx(tmp_path / "m.onnx", config, start_state(config, 1, "float32"))
    images = images_of(config, BATCH_SIZE + 3)
    quantize(tmp_path / "m.onnx", tmp_path / "whole.onnx", images)
    quantize(tmp_path / "m.onnx", tmp_path / "batches.onnx", np.array_split(images, 5))
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "batches.onnx").read_bytes()


# What it computes


@pytest.mark.parametrize("name", CONFIGS)
def test_folding_the_norms_changes_no_more_than_rounding(name, tmp_path):
    config, state = CONFIGS[name], start_state(CONFIGS[name], 1, "float32")
    images = images_of(config, 4)
    graph = onnx_model(config, state)
    fold_norms(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, tmp_path / "folded.onnx")
    exact = {name: tensor.astype(np.float64) for name, tensor in state.items()}
    oracle = backend("numpy").from_state(config, exact).predict(images.astype(np.float64))
    logits = predictor(tmp_path / "folded.onnx")(images)
    assert distance(logits, oracle) <= USUAL_RATIO * min_floor("float32")


FAR = 0.2
"""Relative distance of int8 from float32 outputs: 0.008 to 0.086 measured for these four nets."""


def test_the_int8_outputs_are_near_the_float32_ones(files):
    config, path, int8_path = files
    images = images_of(config)
    assert distance(predictor(int8_path)(images), predictor(path)(images)) < FAR


def test_corrected_biases_bring_the_outputs_nearer(path, monkeypatch):
    images = images_of(CONFIGS["v1"])
    exact = predictor(path)(images)
    errors = {}
    for name in ("corrected", "as they were"):
        quantize(path, path.with_name("int8.onnx"), images)
        errors[name] = distance(predictor(path.with_name("int8.onnx"))(images), exact)
        monkeypatch.setattr(quantize_module, "correct_biases", lambda *_: None)
    assert errors["corrected"] < 0.75 * errors["as they were"]  # 0.56 times measured


@pytest.mark.parametrize("lost", [2, 3], ids=["bias", "mean"])
def test_a_norm_folded_wrongly_is_found(lost, tmp_path, monkeypatch):
    def fold_without(graph):
        zeroed = {node.input[lost] for node in graph.graph.node if len(node.input) == 5}
        for tensor in graph.graph.initializer:
            if tensor.name in zeroed:
                zeros = np.zeros(tuple(tensor.dims), np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
        fold_norms(graph)

    monkeypatch.setattr(quantize_module, "fold_norms", fold_without)
    config = CONFIGS["v1"]
    write_onnx(tmp_path / "m.onnx", config, start_state(config, 1, "float32"))
    quantize(tmp_path / "m.onnx", tmp_path / "int8.onnx", images_of(config))
    images = images_of(config)
    outputs = [predictor(tmp_path / name)(images) for name in ("m.onnx", "int8.onnx")]
    assert distance(outputs[1], outputs[0]) > FAR


def test_the_loss_is_that_of_the_labelled_images(tmp_path):
    data = synthetic(256)
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=data.num_classes)
    model = backend("torch").build(config)
    model.fit(data, TrainConfig(optimizer="adam", rate=3e-3, batch_size=32, steps=6))
    export_onnx(tmp_path / "m.onnx", model)
    quantize(tmp_path / "m.onnx", tmp_path / "int8.onnx", (x for x, _ in labelled_batches(data)))
    loss = quantization_loss(tmp_path / "m.onnx", tmp_path / "int8.onnx", labelled_batches(data))
    assert loss.images == len(data)
    assert loss.top1 == pytest.approx(accuracy(model, data).top1, abs=1 / len(data))
    assert abs(loss.top1 - loss.top1_int8) <= 1 - loss.agreement < 1
    assert loss.size == (tmp_path / "m.onnx").stat().st_size
    assert loss.size_int8 == (tmp_path / "int8.onnx").stat().st_size < loss.size / 2


def test_a_file_against_itself_loses_nothing_and_against_another_model_agrees_by_chance(tmp_path):
    data, config = synthetic(256), CONFIGS["v1"]
    for seed in (0, 1):
        write_onnx(tmp_path / f"{seed}.onnx", config, start_state(config, seed, "float32"))
    same, other = (
        quantization_loss(tmp_path / "0.onnx", tmp_path / name, labelled_batches(data))
        for name in ("0.onnx", "1.onnx")
    )
    assert same.agreement == 1
    assert same.top1 == same.top1_int8
    assert other.agreement < 0.5


# What is refused


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        (np.zeros((0, 3, 32, 32), np.float32), "at least one"),
        ([], "at least one"),
        (np.zeros((2, 1, 32, 32), np.float32), r"\(N, 3, H, W\)"),
        (np.zeros((2, 3, 32, 32)), "float32"),
        (np.full((2, 3, 32, 32), np.nan, np.float32), "finite"),
        (np.zeros((3, 32, 32), np.float32), r"\(N, 3, H, W\)"),
        ([np.zeros((2, 3, 32, 32), np.float32), np.zeros((2, 3, 32, 32))], "float32"),
    ],
)
def test_images_a_model_cannot_take_are_refused_and_nothing_is_written(images, rule, path):
    with pytest.raises(DataError, match=rule):
        quantize(path, path.with_name("int8.onnx"), images)
    assert [file.name for file in path.parent.iterdir()] == ["m.onnx"]


def test_a_file_that_is_no_float32_export_is_refused(path):
    images, config = images_of(CONFIGS["v1"], 2), CONFIGS["v1"]
    quantize(path, path.with_name("int8.onnx"), images)
    path.with_name("text.onnx").write_text("no ONNX at all")
    path.with_name("empty.onnx").write_bytes(b"")
    foreign = onnx_model(config, start_state(config, 1, "float32"))
    del foreign.metadata_props[:]
    onnx.save(foreign, path.with_name("foreign.onnx"))
    rules = {
        "int8": "quantized already",
        "text": "a damaged or missing ONNX file",
        "empty": "without a config",
        "foreign": "without a config",
        "missing": "a damaged or missing ONNX file",
    }
    for name, rule in rules.items():
        with pytest.raises(WeightsError, match=rf"{name}\.onnx.*{rule}"):
            quantize(path.with_name(f"{name}.onnx"), path.with_name("new.onnx"), images)
    assert not path.with_name("new.onnx").exists()


def test_the_loss_of_no_images_is_refused(path):
    with pytest.raises(DataError, match="at least one"):
        quantization_loss(path, path, [])


def test_without_onnxruntime_the_message_says_how_to_get_it(path, monkeypatch):
    for name in ("onnxruntime", "onnxruntime.quantization"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable, match=r"pip install pymobilenet\[onnx\]"):
        predictor(path)
    with pytest.raises(BackendUnavailable, match=r"pip install pymobilenet\[onnx\]"):
        quantize(path, path.with_name("int8.onnx"), images_of(CONFIGS["v1"], 2))
