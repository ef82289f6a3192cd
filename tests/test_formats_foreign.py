"""Import of ONNX graphs, Hugging Face folders and Keras archives."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from format_models import (
    BOTTLENECK,
    KERAS_V1,
    METADATA,
    V1,
    V2,
    assert_same_state,
    peer_tensors,
    random_state,
)
from peer_nets import HuggingFaceV1, HuggingFaceV2, images, net, outputs
from safetensors import safe_open
from safetensors.torch import save_file

from pymobilenet import backend
from pymobilenet.architecture import layers
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import convert, keras_archive, keras_h5, load_any, save_as

ROUNDING = 1e-5


def predictions(loaded, x):
    return backend("torch").from_state(loaded.config, loaded.state).predict(x)


def distance(values, expected):
    return np.linalg.norm(values - expected) / np.linalg.norm(expected)


# ONNX


@pytest.mark.parametrize("name", ["weiaicunzai", "d-li14", "huggingface v2"])
def test_the_settings_of_an_onnx_file_are_read_from_its_graph(tmp_path, name):
    pytest.importorskip("onnx")
    module, x = net(name), images()
    torch.save(module.state_dict(), tmp_path / "a.pt")
    config = convert(tmp_path / "a.pt", tmp_path / "a.onnx").config
    loaded = load_any(tmp_path / "a.onnx")
    assert loaded.config == config
    assert not loaded.report.assumed
    assert distance(predictions(loaded, x.numpy()), outputs(module, x)) < ROUNDING


def test_folded_norms_are_unfolded(tmp_path):
    onnx = pytest.importorskip("onnx")
    module, x = net("marvis"), images()
    torch.save(module.state_dict(), tmp_path / "a.pt")
    loaded = load_any(tmp_path / "a.pt")
    graph = folded_graph(onnx, loaded)
    onnx.save(graph, tmp_path / "a.onnx")
    from_onnx = load_any(tmp_path / "a.onnx")
    assert "the norms of 27 convolutions are folded into them" in str(from_onnx.report)
    assert "norm_eps" not in from_onnx.report.assumed
    assert from_onnx.config.activation == "relu"
    assert distance(predictions(from_onnx, x.numpy()), outputs(module, x)) < 1e-4


def folded_graph(onnx, loaded):
    """A graph of convolutions with biases, as runtimes and exporters fold norms into them."""
    nodes, tensors, value = [], [], "x"
    state = {name: tensor.astype(np.float64) for name, tensor in loaded.state.items()}
    for number, row in enumerate(layers(loaded.config)):
        norm = {
            leaf: state[f"{row.name}.norm.{leaf}"]
            for leaf in ("weight", "bias", "running_mean", "running_var")
        }
        factor = norm["weight"] / np.sqrt(norm["running_var"] + loaded.config.norm_eps)
        weight = state[f"{row.name}.conv.weight"] * factor[:, None, None, None]
        bias = norm["bias"] - norm["running_mean"] * factor
        for name, tensor in ((f"w{number}", weight), (f"b{number}", bias)):
            tensors.append(onnx.numpy_helper.from_array(tensor.astype(np.float32), name))
        pad, out = list(row.padding), f"c{number}"
        settings = {"strides": [row.stride] * 2, "pads": [pad[0]] * 2 + [pad[1]] * 2}
        inputs = [value, f"w{number}", f"b{number}"]
        nodes.append(onnx.helper.make_node("Conv", inputs, [out], group=row.groups, **settings))
        value = f"a{number}"
        nodes.append(onnx.helper.make_node("Relu", [out], [value]))
    nodes.append(onnx.helper.make_node("GlobalAveragePool", [value], ["p"]))
    nodes.append(onnx.helper.make_node("Flatten", ["p"], ["f"]))
    nodes.append(onnx.helper.make_node("MatMul", ["f", "w"], ["m"]))
    nodes.append(onnx.helper.make_node("Add", ["m", "b"], ["y"]))
    classifier = loaded.state["classifier.weight"].T.copy()
    tensors.append(onnx.numpy_helper.from_array(classifier, "w"))
    tensors.append(onnx.numpy_helper.from_array(loaded.state["classifier.bias"], "b"))
    value_info = onnx.helper.make_tensor_value_info
    ends = [value_info("x", 1, ["N", 3, 64, 64])], [value_info("y", 1, ["N", 7])]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "folded", *ends, tensors))


@pytest.mark.parametrize(
    ("operator", "message"),
    [("HardSwish", "the operator HardSwish"), ("Sigmoid", "the operator Sigmoid")],
)
def test_a_graph_of_another_net_is_an_error_that_names_the_operator(tmp_path, operator, message):
    onnx = pytest.importorskip("onnx")
    torch.save(net("marvis").state_dict(), tmp_path / "a.pt")
    graph = folded_graph(onnx, load_any(tmp_path / "a.pt"))
    graph.graph.node[5].op_type = operator
    onnx.save(graph, tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match=message):
        load_any(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("attribute", "values", "message"),
    [("strides", [2, 2], "depthwise must have stride 1"), ("pads", [2, 2, 2, 2], "padded by 1")],
)
def test_a_graph_with_other_strides_or_paddings_is_refused(tmp_path, attribute, values, message):
    onnx = pytest.importorskip("onnx")
    torch.save(net("marvis").state_dict(), tmp_path / "a.pt")
    graph = folded_graph(onnx, load_any(tmp_path / "a.pt"))
    index = 2 if attribute == "strides" else 0
    for entry in graph.graph.node[index].attribute:
        if entry.name == attribute:
            entry.ints[:] = values
    onnx.save(graph, tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match=message):
        load_any(tmp_path / "a.onnx")


# Hugging Face


@pytest.mark.parametrize("name", ["huggingface v1", "huggingface v2"])
def test_a_folder_of_hugging_face_is_written_and_read(tmp_path, name):
    module, x = net(name), images()
    torch.save(module.state_dict(), tmp_path / "a.pt")
    loaded = load_any(tmp_path / "a.pt")
    save_as(tmp_path / "hf", loaded.config, loaded.state, "huggingface", loaded.metadata)
    with safe_open(tmp_path / "hf" / "model.safetensors", "np") as file:
        assert file.metadata()["format"] == "pt"
        assert set(file.keys()) == set(module.state_dict())
    from_folder = load_any(tmp_path / "hf")
    assert from_folder.config == loaded.config
    assert_same_state(from_folder.state, loaded.state)
    assert not from_folder.report.assumed
    assert distance(predictions(from_folder, x.numpy()), outputs(module, x)) < ROUNDING


def test_the_config_json_of_a_folder_is_used_instead_of_defaults(tmp_path):
    tensors = HuggingFaceV1(classes=1001).state_dict()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    config = {
        "model_type": "mobilenet_v1",
        "tf_padding": False,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-4,
        "image_size": 192,
        "id2label": {str(index): f"name {index}" for index in range(1001)},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    images_config = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(images_config))
    loaded = load_any(tmp_path / "model.safetensors")
    fields = ("padding", "activation", "norm_eps", "resolution", "num_classes")
    assert [getattr(loaded.config, field) for field in fields] == [
        "symmetric",
        "relu",
        1e-4,
        192,
        1001,
    ]
    assert loaded.metadata["mean"] == "[0.1,0.2,0.3]"
    assert json.loads(loaded.metadata["classes"])[7] == "name 7"
    assert "class 0 of 1001 is the background" in str(loaded.report)
    with pytest.raises(WeightsError, match=r"config\.json states norm_eps 0\.0001\. Received"):
        load_any(tmp_path, settings={"norm_eps": 1e-3})


def test_a_model_in_several_files_is_read_by_its_index(tmp_path):
    tensors = HuggingFaceV2().state_dict()
    table = {}
    for number, names in enumerate(np.array_split(sorted(tensors), 3)):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in names}, tmp_path / file)
        table |= dict.fromkeys(map(str, names), file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    assert load_any(tmp_path).report.layout == "huggingface v2"
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(WeightsError, match="its files must be beside it"):
        load_any(tmp_path)


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "hf").write_bytes(b"x")
    config = replace(KERAS_V1, rounding="floor")
    with pytest.raises(ConfigError, match="It is a file"):
        save_as(tmp_path / "hf", config, random_state(config), "huggingface")
    assert (tmp_path / "hf").read_bytes() == b"x"


# Keras


def keras_description(config):
    """Keras' description of a model, as far as it is read: layers with their settings."""
    rows = [{"class_name": "InputLayer", "config": {"batch_shape": [None, 96, 96, 3]}}]
    for row in layers(config):
        pad = {"class_name": "ZeroPadding2D", "config": {"padding": [[0, 1], [0, 1]]}}
        rows += [pad] if row.stride == 2 else []
        kind = "DepthwiseConv2D" if row.groups > 1 else "Conv2D"
        padding = "valid" if row.stride == 2 else "same"
        rows.append(
            {"class_name": kind, "config": {"strides": [row.stride] * 2, "padding": padding}}
        )
        rows.append({"class_name": "BatchNormalization", "config": {"epsilon": config.norm_eps}})
        rows.append({"class_name": "ReLU", "config": {"max_value": 6.0}})
    return {"class_name": "Functional", "config": {"name": "m", "layers": rows}}


def archive(path, config, description):
    """A .keras file."""
    weights = path.parent / "w.weights.h5"
    keras_h5.write(weights, peer_tensors(config, "keras"))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(description))
        file.write(weights, "model.weights.h5")
    return path


def test_strides_epsilon_and_size_of_a_keras_archive_are_read(tmp_path):
    pytest.importorskip("h5py")
    config = replace(KERAS_V1, stem_stride=1, norm_eps=1e-4, resolution=96)
    loaded = load_any(archive(tmp_path / "a.keras", config, keras_description(config)))
    fields = ("stem_stride", "norm_eps", "padding", "activation", "resolution")
    assert [getattr(loaded.config, f) for f in fields] == [1, 1e-4, "keras", "relu6", 96]
    assert_same_state(loaded.state, random_state(config))
    assert not loaded.report.assumed


def test_strides_of_a_compiled_keras_model_in_h5_are_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    config = replace(KERAS_V1, stem_stride=1, norm_eps=1e-4, resolution=96)
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
    optimizer = {"class_name": "Adam", "config": {"learning_rate": 0.001, "dtype": policy}}
    keras_h5.write(tmp_path / "a.h5", peer_tensors(config, "keras"))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["training_config"] = json.dumps({"optimizer_config": optimizer})
        file.attrs["model_config"] = json.dumps(keras_description(config))
    loaded = load_any(tmp_path / "a.h5")
    assert (loaded.config.stem_stride, loaded.config.norm_eps) == (1, 1e-4)
    assert not loaded.report.assumed


def test_a_keras_net_with_other_strides_is_refused(tmp_path):
    pytest.importorskip("h5py")
    description = keras_description(KERAS_V1)
    rows = [r for r in description["config"]["layers"] if r["class_name"] == "DepthwiseConv2D"]
    rows[1]["config"]["strides"] = [1, 1]
    with pytest.raises(WeightsError, match=r"blocks\.1\.depthwise must have the stride of these"):
        load_any(archive(tmp_path / "a.keras", KERAS_V1, description))


@pytest.mark.parametrize("config", [V1, replace(V2, resolution=65, dropout=0.2), KERAS_V1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_from_a_keras_archive_as_it_was(tmp_path, config, dtype):
    pytest.importorskip("h5py")
    state = random_state(config, dtype=dtype)
    save_as(tmp_path / "a.keras", config, state, metadata=METADATA)
    loaded = load_any(tmp_path / "a.keras")
    assert loaded.config == config
    assert_same_state(loaded.state, state)
    assert METADATA.items() <= loaded.metadata.items()
    save_as(tmp_path / "b.keras", config, state, metadata=METADATA)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_an_archive_says_how_its_net_pads_without_this_projects_own_metadata(tmp_path):
    description = keras_archive.describe(replace(V2, stem_stride=1, norm_eps=1e-4), "float32")
    config = replace(V2, stem_stride=1, norm_eps=1e-4)
    loaded = load_any(archive(tmp_path / "a.keras", config, description))
    fields = ("stem_stride", "norm_eps", "padding", "activation")
    assert [getattr(loaded.config, f) for f in fields] == [1, 1e-4, "symmetric", "relu6"]
    assert not loaded.report.assumed


def test_an_archive_is_not_written_for_a_family_that_keras_does_not_have(tmp_path):
    pytest.importorskip("h5py")
    with pytest.raises(WeightsError, match=r"families v1, v2\. Received: v1_bottleneck"):
        save_as(tmp_path / "a.keras", BOTTLENECK, random_state(BOTTLENECK))
    assert not list(tmp_path.iterdir())


# Files that are not models


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit.trace
def test_the_error_for_a_torch_program_states_how_to_convert_it(tmp_path):
    module, x = net("kuangliu"), images()
    torch.jit.save(torch.jit.trace(module, x), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"a TorchScript model.*torch\.jit\.load\(path\)"):
        load_any(tmp_path / "a.pt")
    torch.save(module, tmp_path / "b.pt")
    with pytest.raises(WeightsError, match=r"whole pickled model|torch\.load raises"):
        load_any(tmp_path / "b.pt")
