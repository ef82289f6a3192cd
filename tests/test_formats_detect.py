"""Detection of layouts by names and inference of configs by shapes."""

from dataclasses import replace

import numpy as np
import pytest
from format_models import (
    BOTTLENECK,
    KERAS_V1,
    METADATA,
    V1,
    V2,
    assert_same_state,
    layout_named,
    npz_file,
    peer_tensors,
    random_state,
)

from pymobilenet import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import LAYOUTS, load_any, save_as
from pymobilenet.formats.match import match_layouts

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
def test_layouts_are_detected_by_names_and_configs_inferred_from_shapes(tmp_path, layout, config):
    state = random_state(config)
    loaded = load_any(npz_file(tmp_path / "a", peer_tensors(config, layout, state)))
    fixed = layout_named(layout, config.family).fixed
    assert loaded.config == replace(config, rounding=fixed["rounding"], resolution=224)
    assert_same_state(loaded.state, state)
    assert loaded.report.fits
    assert loaded.report.layout == f"{layout} {config.family}"


@pytest.mark.parametrize("config", [V1, V2, BOTTLENECK])
def test_canonical_names_without_a_config_are_an_error(tmp_path, config):
    path = npz_file(tmp_path / "a", random_state(config))
    with pytest.raises(
        WeightsError, match=r"state stem_stride \(2 or 1\); padding .*--set stem_stride=2"
    ):
        load_any(path)
    assert load_any(path, config=config).config == config


def test_the_error_for_nearly_known_names_states_the_nearest_layout(tmp_path):
    tensors = peer_tensors(V2, "torchvision")
    del tensors["features.3.conv.2.weight"]
    tensors["extra"] = np.zeros(1, np.float32)
    with pytest.raises(
        WeightsError,
        match=r"fit no layout; the nearest is torchvision v2: missing features.3.conv.2.weight; "
        "left over none",
    ):
        load_any(npz_file(tmp_path / "a", tensors))


def test_many_missing_names_are_counted(tmp_path):
    tensors = {k: v for k, v in peer_tensors(V2, "timm").items() if "blocks.6" not in k}
    with pytest.raises(WeightsError, match=r"nearest is timm v2: missing .*and 10 more; left over"):
        load_any(npz_file(tmp_path / "a", tensors))


def test_a_headless_model_of_timm_gets_a_new_classifier(tmp_path):
    tensors = peer_tensors(V2, "timm")
    del tensors["classifier.weight"], tensors["classifier.bias"]
    loaded = load_any(npz_file(tmp_path / "a", tensors), settings={"num_classes": 7})
    assert loaded.config.num_classes == 7
    assert loaded.metadata["classifier"] == "drawn anew"
    assert "no classifier: one for 7 classes is initialized at random" in str(loaded.report)
    trunk = {n: t for n, t in random_state(V2).items() if "classifier" not in n}
    assert_same_state({n: loaded.state[n] for n in trunk}, trunk)


def test_unknown_names_are_an_error(tmp_path):
    path = npz_file(tmp_path / "a", {"layer1.weight": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"names are none of canonical or torchvision or timm"):
        load_any(path)


def test_only_the_layout_that_the_user_names_is_tried(tmp_path):
    path = npz_file(tmp_path / "a", peer_tensors(V2, "timm"))
    with pytest.raises(
        WeightsError, match=r"names are none of torchvision, .*only torchvision was tried"
    ):
        load_any(path, layout="torchvision")
    assert load_any(path, layout="timm").config.family == "v2"


def test_a_layout_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"layout must be one of canonical, torchvision.*'x'"):
        load_any(tmp_path, layout="x")


def test_names_of_two_layouts_are_refused_with_both():
    replica = replace(layout_named("timm", "v1"), name="replica", families=("v1",))
    tensors = peer_tensors(replace(V1, rounding="multiple_of_8"), "timm")
    with pytest.raises(
        WeightsError, match="file: its names are those of timm v1 and replica v1; select one"
    ):
        match_layouts(tensors, [*LAYOUTS, replica], None, "file")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_names_every_tensor_once(layout):
    for family in layout.families:
        config = MobileNetConfig(family)
        names = layout.rename(config)
        assert set(names) == set(random_state(config))
        assert len(set(names.values())) == len(names)
        assert set(layout.fixed) <= set(config.to_dict())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_axes_converted_to_the_peer_and_back_are_a_view_of_the_same_values(layout):
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


def test_a_config_other_than_the_layouts_defaults_is_used_and_reported(tmp_path):
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


def test_metadata_is_read(tmp_path):
    save_as(tmp_path / "a.npz", V1, random_state(V1), metadata=METADATA)
    metadata = load_any(tmp_path / "a.npz").metadata
    assert METADATA.items() <= metadata.items()
    assert set(metadata) == {*METADATA, "versions"}
