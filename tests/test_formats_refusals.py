"""Errors of export: models that a format cannot hold. An existing target is not changed."""

from dataclasses import replace

import numpy as np
import pytest
from format_models import BOTTLENECK, KERAS_V1, OWN, V1, V2, random_state

from pymobilenet.errors import BackendUnavailable, ConfigError, WeightsError
from pymobilenet.formats import convert, load_any, registry, save_as

CONTENT = b"an existing file"


def existing(path):
    """Write a file that must not be changed."""
    path.write_bytes(CONTENT)
    return path


def assert_unchanged(path):
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("file_format", "config", "message"),
    [
        ("torchvision", V1, r"torchvision has the families v2\. Received: v1"),
        ("timm", BOTTLENECK, r"timm has the families v1, v2\. Received: v1_bottleneck"),
        ("keras", BOTTLENECK, r"keras has the families v1, v2\. Received: v1_bottleneck"),
        ("timm", replace(V2, norm_eps=1e-3), "timm's nets have norm_eps 1e-05.*Received: 0.001"),
        ("timm", replace(V2, padding="keras"), "nets have padding 'symmetric'.*'keras'"),
        ("timm", replace(V2, stem_stride=1), "nets have stem_stride 2.*Received: 1"),
        ("torchvision", replace(V2, activation="relu"), "nets have activation 'relu6'.*'relu'"),
        ("torchvision", replace(V2, softmax=True), "nets have softmax False.*Received: True"),
        ("keras", V1, "keras's nets have padding 'keras'.*'symmetric'"),
        (
            "timm",
            replace(V1, width_mult=0.3),
            r"timm cannot build these widths: stem has 9 channels, but 16 .*multiple_of_8",
        ),
        ("keras", replace(KERAS_V1, resolution=33), "resolution must be a multiple of 2"),
    ],
)
def test_a_net_that_the_project_cannot_build_is_an_error(tmp_path, file_format, config, message):
    target = existing(tmp_path / "target")
    with pytest.raises(WeightsError, match=message) as raised:
        save_as(target, config, random_state(config), file_format)
    assert str(target) in str(raised.value)
    assert_unchanged(target)


@pytest.mark.parametrize("file_format", [*OWN, "timm", "torchvision", "onnx"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("stem.conv.weight"), "missing stem.conv.weight"),
        (lambda s: s.update(extra=np.zeros(1, np.float32)), "left over extra"),
        (lambda s: s.update({"stem.norm.bias": np.zeros(3, np.float32)}), "stem.norm.bias must"),
        (lambda s: s["stem.norm.bias"].fill(np.inf), "stem.norm.bias must be finite"),
        (
            lambda s: s.update({"classifier.weight": np.zeros((7, 1280), np.int32)}),
            "must be float32 or float64. Received: int32",
        ),
    ],
)
def test_a_state_that_is_not_the_configs_is_refused(tmp_path, file_format, change, message):
    target, state = existing(tmp_path / "target"), random_state(V2)
    change(state)
    with pytest.raises(WeightsError, match=message):
        save_as(target, V2, state, file_format)
    assert_unchanged(target)


@pytest.mark.parametrize(
    ("file_format", "fails"),
    [
        ("safetensors", "numpy.ascontiguousarray"),
        ("npz", "pymobilenet.formats.npz._header"),
        ("pt", "torch.save"),
        ("torchvision", "torch.save"),
        ("timm", "torch.save"),
    ],
)
def test_the_target_is_unchanged_if_writing_fails(tmp_path, monkeypatch, file_format, fails):
    target, state = existing(tmp_path / "target"), random_state(V2)

    def fail(*_arguments, **_options):
        raise OSError("disk full")

    monkeypatch.setattr(fails, fail)
    with pytest.raises(OSError, match="disk full"):
        save_as(target, V2, state, file_format)
    monkeypatch.undo()
    assert_unchanged(target)


def test_the_target_is_unchanged_if_reading_fails(tmp_path):
    target = existing(tmp_path / "target.npz")
    with pytest.raises(WeightsError, match="no such file"):
        convert(tmp_path / "nowhere", target)
    assert_unchanged(target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dst": "a"}, r"a: target must name the format, one of safetensors, .*\.npz"),
        ({"dst": "a.npz", "target": "x"}, r"target must be one of safetensors, .*Received: 'x'"),
        ({"dst": "a.npz", "source": "x"}, r"source must be one of safetensors, .*Received: 'x'"),
        ({"dst": "a.npz", "source": "zip"}, r"source must be one of .*Received: 'zip'"),
    ],
)
def test_an_unknown_format_is_an_error_before_the_source_is_read(arguments, message):
    with pytest.raises(ConfigError, match=message):
        convert("nowhere", **arguments)


def test_the_error_names_the_argument_of_the_called_function(tmp_path):
    with pytest.raises(ConfigError, match=r"^to must be one of safetensors, .*Received: 'x'"):
        save_as(tmp_path / "a.npz", V1, random_state(V1), to="x")
    with pytest.raises(ConfigError, match=r"a: to must name the format, one of safetensors"):
        save_as(tmp_path / "a", V1, random_state(V1))


def test_a_missing_framework_of_a_container_is_named(tmp_path, monkeypatch):
    missing = registry.Container("pymobilenet.nowhere")
    monkeypatch.setitem(registry.CONTAINERS, "npz", missing)
    with pytest.raises(BackendUnavailable, match=r"requires pymobilenet\.nowhere\.read: No module"):
        load_any(saved_npz(tmp_path / "a"))


def saved_npz(path):
    np.savez(path.with_suffix(".npz"), a=np.zeros(1))
    return path.with_suffix(".npz")
