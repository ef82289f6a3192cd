"""Import: errors that name invalid tensors, and conversion of float16 and bfloat16."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from format_models import (
    V1,
    V2,
    assert_same_state,
    layout_named,
    npz_file,
    peer_tensors,
)
from safetensors.torch import save_file

from pymobilenet.errors import WeightsError
from pymobilenet.formats import load_any, npz
from pymobilenet.formats.layout import Layout


def test_widths_of_no_net_are_refused_by_layer(tmp_path):
    tensors = peer_tensors(V2, "torchvision")
    tensors["features.0.0.weight"] = np.zeros((24, 3, 3, 3), np.float32)
    with pytest.raises(
        WeightsError,
        match=r"must be a torchvision v2: blocks.0.depthwise has 16 channels, but 24 or more "
        r"wherever width_mult gives stem its 24 \(rounding multiple_of_8\)",
    ):
        load_any(npz_file(tmp_path / "a", tensors))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv_stem.weight", (8, 3, 3), "stem.conv.weight must have 4 axes"),
        ("bn1.bias", (9,), r"stem.norm.bias must have shape \(8,\)"),
        ("conv_stem.weight", (0, 3, 3, 3), "stem"),
    ],
)
def test_a_tensor_of_another_shape_is_refused(tmp_path, name, shape, message):
    config = replace(V1, rounding="multiple_of_8")
    tensors = peer_tensors(config, "timm") | {name: np.zeros(shape, np.float32)}
    with pytest.raises(WeightsError, match=message):
        load_any(npz_file(tmp_path / "a", tensors))


def test_axes_that_a_layout_cannot_convert_are_an_error_that_names_the_tensor(tmp_path):
    def transpose(_name, tensor):
        return tensor.transpose(3, 2, 0, 1)

    broken = Layout("turned", ("v1",), {}, layout_named("canonical", "v1").rename, transpose)
    from pymobilenet.formats.canonical import _canonical_axes

    with pytest.raises(WeightsError, match=r"a: stem must have the axes of turned: .*: \(3,\)"):
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


def test_a_model_of_integers_is_an_error(tmp_path):
    tensors = {k: v.astype(np.int8) for k, v in peer_tensors(V2, "timm").items()}
    with pytest.raises(WeightsError, match=r"must be float32 or float64. Received: int8"):
        load_any(npz_file(tmp_path / "a", tensors))


def test_float16_is_widened_and_reported(tmp_path):
    half = {k: v.astype(np.float16) for k, v in peer_tensors(V2, "timm").items()}
    loaded = load_any(npz_file(tmp_path / "a", half))
    assert loaded.state["stem.conv.weight"].dtype == np.float32
    np.testing.assert_array_equal(loaded.state["stem.conv.weight"], half["conv_stem.weight"])
    assert "262 tensors were converted from float16 to float32" in str(loaded.report)


def test_bfloat16_is_widened_from_safetensors_as_from_torch_files(tmp_path):
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in peer_tensors(V2, "timm").items()}
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(half, tmp_path / "a")
    torch.save(half, tmp_path / "b")
    loaded = load_any(tmp_path / "a")
    assert loaded.state["stem.conv.weight"].dtype == np.float32
    assert_same_state(loaded.state, load_any(tmp_path / "b").state)


def test_a_dtype_numpy_has_not_is_refused_by_tensor(tmp_path):
    save_file({"a": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "a")
    with pytest.raises(WeightsError, match=r"a: dtype must be one of BOOL, .*F64.*F8_E4M3"):
        load_any(tmp_path / "a")


def test_moments_in_another_projects_file_are_refused(tmp_path):
    moments = {"optimizer.step": np.array(3, np.int64)}
    with pytest.raises(WeightsError, match=r"timm has no optimizer slots\. Received: opt"):
        load_any(npz_file(tmp_path / "a", peer_tensors(V2, "timm") | moments))


@pytest.mark.parametrize("shape", [(3,), (0, 1280), (5, 7)])
def test_a_head_that_is_no_linear_layer_is_not_used_and_is_reported(tmp_path, shape):
    tensors = peer_tensors(V2, "timm") | {"classifier.weight": np.zeros(shape, np.float32)}
    npz.write(tmp_path / "model.npz", tensors, {})
    report = load_any(tmp_path / "model.npz").report
    assert report.left_over == ("classifier.bias", "classifier.weight")
    assert any("is not used (classifier.bias, classifier.weight)" in note for note in report.notes)
    assert any("initialized at random" in note for note in report.notes)
