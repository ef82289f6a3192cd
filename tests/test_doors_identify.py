"""A file is known by its bytes, a layout by its names, and what neither tells is refused."""

import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from door_models import (
    BOTTLENECK,
    KERAS_V1,
    METADATA,
    V1,
    V2,
    assert_same_state,
    layout_named,
    peer_tensors,
    random_state,
)
from safetensors.torch import save_file

from pymobilenet import MobileNetConfig
from pymobilenet.doors import LAYOUTS, load_any, npz, save_as
from pymobilenet.doors.identify import identify_container, identify_layout
from pymobilenet.doors.layout import Layout
from pymobilenet.errors import ConfigError, WeightsError


def npz_file(path, tensors, metadata=None):
    npz.write(path, tensors, metadata or {})
    return path


# Containers


@pytest.mark.parametrize(
    ("door", "container"), [("safetensors", "safetensors"), ("npz", "npz"), ("pt", "pt")]
)
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt", "h5", "anything"])
def test_a_container_is_known_by_its_bytes_whatever_its_suffix(tmp_path, door, container, suffix):
    path = tmp_path / f"model.{suffix}"
    save_as(path, V1, random_state(V1), door)
    assert identify_container(path) == container
    assert load_any(path).config == V1


def test_a_legacy_torch_file_is_known(tmp_path):
    torch.save({}, tmp_path / "a", _use_new_zipfile_serialization=False)
    assert identify_container(tmp_path / "a") == "pt"


@pytest.mark.parametrize(
    ("content", "container"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "keras"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n", "keras"),
        (bytes(1024) + b"\x89HDF\r\n\x1a\n", "keras"),
        (
            b"HDF5-based Julia Data Format, version 0.1.1\0".ljust(512) + b"\x89HDF\r\n\x1a\n",
            "jld2",
        ),
        (struct.pack("<i", 20) + b"\x03state\0" + bytes(9), "bson"),
        (struct.pack("<Q", 2) + b"{}", "safetensors"),
    ],
)
def test_a_container_of_others_is_known_by_how_it_begins(tmp_path, content, container):
    (tmp_path / "a").write_bytes(content)
    assert identify_container(tmp_path / "a") == container


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"\(0 bytes\): must be safetensors, npz, torch's, HDF5"),
        (b"hello", "Received: a file that begins with b'hello'"),
        (struct.pack("<Q", 99) + b"{}", "a header of 99 bytes does not fit in the file"),
        (b"\x08\x0a\x12\x0bpymobilenet:\x00", "an ONNX graph, which is an export"),
        (b"\x80\x04\x95abc", "a pickle that torch.save did not write"),
        (b"PK\x03\x04abc", "a truncated or malformed zip"),
    ],
)
def test_other_bytes_are_refused(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_any(tmp_path / "a")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["model.weights.h5", "config.json"], r"a Keras archive.*model.save_weights\("),
        (["b.txt", "a.npy"], r"neither npz .* Received: b.txt, a.npy"),
        ([], "neither npz .* Received: none"),
    ],
)
def test_other_zips_are_refused(tmp_path, members, message):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    with pytest.raises(WeightsError, match=message):
        load_any(tmp_path / "a")


def test_no_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="nowhere: no such file"):
        load_any(tmp_path / "nowhere")


def test_a_container_that_is_asked_for_is_not_looked_for(tmp_path):
    path = npz_file(tmp_path / "a", random_state(V1))
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        load_any(path, container="safetensors")


def test_a_container_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"container must be one of safetensors, npz.*'zip'"):
        load_any(tmp_path, container="zip")


# Layouts


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        ("torchvision", replace(V2, dropout=0.2)),
        ("timm", V2),
        ("timm", V1),
        ("keras", replace(KERAS_V1, norm_momentum=0.01)),
    ],
)
def test_a_layout_is_known_by_its_names_and_the_config_by_the_shapes(tmp_path, layout, config):
    state = random_state(config)
    loaded = load_any(npz_file(tmp_path / "a", peer_tensors(config, layout, state)))
    fixed = layout_named(layout, config.family).fixed
    assert loaded.config == replace(config, rounding=fixed["rounding"], resolution=224)
    assert_same_state(loaded.state, state)
    assert loaded.report.fits
    assert loaded.report.layout == f"{layout} {config.family}"


@pytest.mark.parametrize("config", [V1, V2, BOTTLENECK])
def test_this_projects_names_without_a_config_are_refused(tmp_path, config):
    path = npz_file(tmp_path / "a", random_state(config))
    with pytest.raises(WeightsError, match="do not show stem_stride, padding, activation, norm_"):
        load_any(path)
    assert load_any(path, config=config).config == config


def test_names_that_are_nearly_a_layouts_are_reported(tmp_path):
    tensors = peer_tensors(V2, "torchvision")
    del tensors["features.3.conv.2.weight"]
    tensors["extra"] = np.zeros(1, np.float32)
    with pytest.raises(
        WeightsError,
        match=r"fit no layout; the nearest is torchvision v2: missing features.3.conv.2.weight; "
        "left over extra$",
    ):
        load_any(npz_file(tmp_path / "a", tensors))


def test_many_missing_names_are_counted(tmp_path):
    tensors = {k: v for k, v in peer_tensors(V2, "timm").items() if "blocks.6" not in k}
    with pytest.raises(WeightsError, match=r"nearest is timm v2: missing .*and 10 more; left over"):
        load_any(npz_file(tmp_path / "a", tensors))


def test_a_headless_model_of_timm_is_refused(tmp_path):
    tensors = peer_tensors(V2, "timm")
    del tensors["classifier.weight"], tensors["classifier.bias"]
    with pytest.raises(WeightsError, match=r"missing classifier.weight, classifier.bias; left"):
        load_any(npz_file(tmp_path / "a", tensors))


def test_names_of_nobody_are_refused(tmp_path):
    path = npz_file(tmp_path / "a", {"layer1.weight": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"no name is one of canonical or torchvision or timm"):
        load_any(path)


def test_a_layout_that_is_asked_for_is_the_only_one_tried(tmp_path):
    path = npz_file(tmp_path / "a", peer_tensors(V2, "timm"))
    with pytest.raises(WeightsError, match=r"no name is one of torchvision\. Received"):
        load_any(path, layout="torchvision")
    assert load_any(path, layout="timm").config.family == "v2"


def test_a_layout_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"layout must be one of canonical, torchvision.*'x'"):
        load_any(tmp_path, layout="x")


def test_names_of_two_layouts_are_refused_with_both():
    twin = replace(layout_named("timm", "v1"), name="twin", families=("v1",))
    names = layout_named("timm", "v1").rename(V1).values()
    with pytest.raises(WeightsError, match="file: its names are those of timm v1 and twin v1; say"):
        identify_layout(names, [*LAYOUTS, twin], "npz", "file")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_names_every_tensor_once(layout):
    for family in layout.families:
        config = MobileNetConfig(family)
        names = layout.rename(config)
        assert set(names) == set(random_state(config))
        assert len(set(names.values())) == len(names)
        assert set(layout.fixed) <= set(config.to_dict())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_axes_there_and_back_are_a_view_of_the_same_values(layout):
    for family in layout.families:
        state = random_state(MobileNetConfig(family, width_mult=0.1, num_classes=3))
        for name, tensor in state.items():
            back = layout.from_peer(name, layout.to_peer(name, tensor))
            assert np.shares_memory(back, tensor)
            np.testing.assert_array_equal(back, tensor)


# Configs


def test_a_config_that_the_names_contradict_is_refused(tmp_path):
    path = npz_file(tmp_path / "a", peer_tensors(V2, "timm"))
    with pytest.raises(WeightsError, match=r"its names are v2's\. Received: v1"):
        load_any(path, config=V1)


def test_a_config_that_the_shapes_contradict_is_refused(tmp_path):
    path = npz_file(tmp_path / "a", peer_tensors(V2, "timm"))
    with pytest.raises(WeightsError, match=r"classifier.weight must have shape \(9, 1280\)"):
        load_any(path, config=replace(V2, num_classes=9))


def test_a_config_other_than_the_files_own_is_refused(tmp_path):
    save_as(tmp_path / "a.npz", V1, random_state(V1))
    with pytest.raises(WeightsError, match=r"its own config is \{.*1e-05.* Received: \{.*0\.001"):
        load_any(tmp_path / "a.npz", config=replace(V1, norm_eps=1e-3))
    assert load_any(tmp_path / "a.npz", config=V1).config == V1


def test_a_config_other_than_the_layouts_is_taken_and_reported(tmp_path):
    path = npz_file(tmp_path / "a", peer_tensors(V2, "timm"))
    loaded = load_any(path, config=replace(V2, norm_eps=1e-3))
    assert loaded.config.norm_eps == 1e-3
    assert "other than timm's: norm_eps 0.001 (1e-05)" in str(loaded.report)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": "9"}, "format_version must be '1', as .* Received: '9'"),
        ({"format_version": "1"}, "metadata: MobileNetConfig: not JSON"),
        ({"format_version": "1", "config": '{"width":1}'}, "has no field 'width'"),
    ],
)
def test_metadata_of_another_version_is_refused(tmp_path, metadata, message):
    path = npz_file(tmp_path / "a", random_state(V1), metadata)
    with pytest.raises(WeightsError, match=message):
        load_any(path)


def test_metadata_comes_along(tmp_path):
    save_as(tmp_path / "a.npz", V1, random_state(V1), metadata=METADATA)
    found = load_any(tmp_path / "a.npz").metadata
    assert METADATA.items() <= found.items()
    assert set(found) == {*METADATA, "versions"}


# Tensors


def test_widths_of_no_net_are_refused_by_layer(tmp_path):
    tensors = peer_tensors(V2, "torchvision")
    tensors["features.0.0.weight"] = np.zeros((24, 3, 3, 3), np.float32)
    with pytest.raises(
        WeightsError,
        match=r"no torchvision v2: blocks.0.depthwise has 16 channels, but 24 or more wherever "
        r"width_mult gives stem its 24 \(rounding multiple_of_8\)",
    ):
        load_any(npz_file(tmp_path / "a", tensors))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv_stem.weight", (8, 3, 3), "stem.conv.weight must have 4 axes"),
        ("classifier.weight", (), "classifier.weight must have 2 axes"),
        ("bn1.bias", (9,), r"stem.norm.bias must have shape \(8,\)"),
        ("conv_stem.weight", (0, 3, 3, 3), "stem"),
        ("classifier.weight", (0, 1024), r"num_classes must be in \[1, 1000000\]. Received: 0"),
    ],
)
def test_a_tensor_of_another_shape_is_refused(tmp_path, name, shape, message):
    config = replace(V1, rounding="multiple_of_8")
    tensors = peer_tensors(config, "timm") | {name: np.zeros(shape, np.float32)}
    with pytest.raises(WeightsError, match=message):
        load_any(npz_file(tmp_path / "a", tensors))


def test_axes_a_layout_cannot_turn_are_refused_by_tensor(tmp_path):
    def turn(_name, tensor):
        return tensor.transpose(3, 2, 0, 1)

    broken = Layout("turned", ("v1",), {}, layout_named("canonical", "v1").rename, turn)
    from pymobilenet.doors.load import _canonical_axes

    with pytest.raises(WeightsError, match=r"a: stem has not turned's axes: .*Received: \(3,\)"):
        _canonical_axes(tmp_path / "a", broken, "stem", np.zeros(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.astype(np.int32), "stem.conv.weight must be float32. Received: int32"),
        (lambda t: t.astype(np.float64), "stem.conv.weight must be float32. Received: float64"),
        (lambda t: t * np.float32("nan"), "stem.conv.weight must be finite"),
    ],
)
def test_values_that_are_not_weights_are_refused(tmp_path, change, message):
    tensors = peer_tensors(V2, "timm")
    tensors["conv_stem.weight"] = change(tensors["conv_stem.weight"])
    with pytest.raises(WeightsError, match=message):
        load_any(npz_file(tmp_path / "a", tensors))


def test_a_whole_model_of_integers_is_refused(tmp_path):
    tensors = {k: v.astype(np.int8) for k, v in peer_tensors(V2, "timm").items()}
    with pytest.raises(WeightsError, match=r"must be float32 or float64. Received: int8"):
        load_any(npz_file(tmp_path / "a", tensors))


def test_float16_is_widened_and_reported(tmp_path):
    half = {k: v.astype(np.float16) for k, v in peer_tensors(V2, "timm").items()}
    loaded = load_any(npz_file(tmp_path / "a", half))
    assert loaded.state["stem.conv.weight"].dtype == np.float32
    np.testing.assert_array_equal(loaded.state["stem.conv.weight"], half["conv_stem.weight"])
    assert "262 tensors were float16 and are float32" in str(loaded.report)


def test_bfloat16_is_widened_from_safetensors_as_from_torch_files(tmp_path):
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in peer_tensors(V2, "timm").items()}
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(half, tmp_path / "a")
    torch.save(half, tmp_path / "b")
    found = load_any(tmp_path / "a")
    assert found.state["stem.conv.weight"].dtype == np.float32
    assert_same_state(found.state, load_any(tmp_path / "b").state)


def test_a_dtype_numpy_has_not_is_refused_by_tensor(tmp_path):
    save_file({"a": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "a")
    with pytest.raises(WeightsError, match=r"a: dtype must be one of BOOL, .*F64.*F8_E4M3"):
        load_any(tmp_path / "a")


def test_moments_in_another_projects_file_are_refused(tmp_path):
    moments = {"optimizer.step": np.array(3, np.int64)}
    with pytest.raises(WeightsError, match=r"timm has no moments\. Received: optimizer\.step"):
        load_any(npz_file(tmp_path / "a", peer_tensors(V2, "timm") | moments))
