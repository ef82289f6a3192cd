"""Conversion between formats: the same bytes after any sequence of formats."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from format_models import (
    BOTTLENECK,
    KERAS_V1,
    METADATA,
    OWN,
    V1,
    V2,
    assert_same_state,
    random_state,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.architecture import layers
from pymobilenet.config import ROUNDINGS
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import FORMATS, convert, load_any, registry, save_as
from pymobilenet.formats.exchange import read_weights

FORMATS_OF = {
    "v1": (*OWN, "timm"),
    "v2": (*OWN, "timm", "torchvision"),
    "v1_bottleneck": OWN,
}
KERAS = {"padding": "keras", "norm_eps": 1e-3, "rounding": "floor"}


@st.composite
def conversions(draw):
    """A config, and formats that can hold it, to convert it to one after the other."""
    family = draw(st.sampled_from(["v1", "v2", "v1_bottleneck"]))
    fields = {
        "width_mult": draw(st.sampled_from([0.1, 0.25, 0.35, 0.4375])),
        "num_classes": draw(st.integers(1, 12)),
        "in_channels": draw(st.integers(1, 4)),
        "dropout": draw(st.sampled_from([0.0, 0.2])),
        "resolution": draw(st.sampled_from([32, 64])),
    }
    formats = FORMATS_OF[family]
    if family == "v1" and draw(st.booleans()):
        fields |= KERAS
        formats = (*OWN, "keras")
    elif family != "v1_bottleneck":
        fields["rounding"] = "multiple_of_8"
    if draw(st.booleans()):
        formats = OWN
        fields |= {
            "rounding": draw(st.sampled_from(ROUNDINGS)),
            "stem_stride": draw(st.sampled_from([1, 2])),
            "activation": draw(st.sampled_from(["relu", "relu6"])),
            "softmax": draw(st.booleans()),
        }
    config = MobileNetConfig(family, **fields)
    try:
        layers(config)
    except ConfigError:  # no channel left
        config = replace(config, width_mult=0.5)
    return config, draw(st.lists(st.sampled_from(formats), min_size=1, max_size=4))


@pytest.mark.slow
@settings(deadline=None, database=None, max_examples=40)
@given(conversion=conversions(), dtype=st.sampled_from(["float32", "float64"]))
def test_conversions_through_any_formats_give_the_same_bytes(tmp_path_factory, conversion, dtype):
    config, formats = conversion
    folder = tmp_path_factory.mktemp("conversion")
    save_as(folder / "start", config, random_state(config, dtype=dtype), "safetensors", METADATA)
    path = folder / "start"
    for number, file_format in enumerate([*formats, "safetensors"]):
        report = convert(path, folder / str(number), target=file_format)
        assert report.fits
        assert report.config == config
        path = folder / str(number)
    loaded = load_any(path)
    assert METADATA.items() <= loaded.metadata.items()
    if "keras" not in formats:  # which adds its own metadata
        assert path.read_bytes() == (folder / "start").read_bytes()
    assert_same_state(loaded.state, random_state(config, dtype=dtype))


@pytest.mark.parametrize("config", [V1, V2, BOTTLENECK], ids=lambda config: config.family)
def test_a_saved_model_is_unchanged_by_conversions(tmp_path, config):
    model = backend("torch").build(config)
    model.save(tmp_path / "a.safetensors")
    for file_format in FORMATS_OF[config.family]:
        convert(tmp_path / "a.safetensors", tmp_path / "b", target=file_format)
        convert(tmp_path / "b", tmp_path / "c.safetensors")
        assert (tmp_path / "c.safetensors").read_bytes() == (
            (tmp_path / "a.safetensors").read_bytes()
        )


@pytest.mark.parametrize("file_format", OWN)
def test_slots_are_written_to_files_of_this_package(tmp_path, file_format):
    model = backend("torch").build(V1)
    model.set_optimizer(TrainConfig(optimizer="adam"))
    rng = np.random.default_rng(0)
    model.step(rng.standard_normal((4, 3, 32, 32)).astype(np.float32), np.arange(4), 0.1)
    state = model.get_state()
    assert not save_as(tmp_path / "a", V1, state, file_format).notes
    assert_same_state(load_any(tmp_path / "a").state, state)


def test_slots_are_not_written_to_other_formats_and_the_report_states_it(tmp_path):
    model = backend("torch").build(replace(V1, rounding="multiple_of_8"))
    model.set_optimizer(TrainConfig(momentum=0.9))
    report = save_as(tmp_path / "a", model.config, model.get_state(), "timm")
    assert "the 84 optimizer slots are not written" in report.notes
    model.set_optimizer(TrainConfig(momentum=0))
    assert_same_state(load_any(tmp_path / "a").state, model.get_state())


@pytest.mark.parametrize("file_format", OWN)
def test_equal_models_give_equal_files(tmp_path, file_format):
    state = random_state(V2)
    reverse_order = dict(reversed(state.items())), dict(reversed(METADATA.items()))
    save_as(tmp_path / "a", V2, state, file_format, METADATA)
    save_as(tmp_path / "b", V2, reverse_order[0], file_format, reverse_order[1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_this_projects_torch_file_is_its_modules_state_dict(tmp_path):
    state = random_state(V2)
    save_as(tmp_path / "a.pt", V2, state)
    module = backend("torch").build(V2).module
    module.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True), strict=True)
    torch.save(module.state_dict(), tmp_path / "b.pt")
    assert_same_state(load_any(tmp_path / "b.pt", config=V2).state, state)


def test_this_projects_safetensors_file_is_the_exchange_file(tmp_path):
    convert(saved(tmp_path / "a.npz"), tmp_path / "b.safetensors")
    file = read_weights(tmp_path / "b.safetensors")
    assert file.config == V1
    assert set(file.versions) == {"pymobilenet"}


def saved(path, config=V1):
    save_as(path, config, random_state(config))
    return path


def test_a_file_can_be_converted_onto_itself(tmp_path):
    path = saved(tmp_path / "a.npz")
    convert(path, path, target="pt")
    assert load_any(path).report.container == "pt"


@pytest.mark.parametrize(
    ("name", "container"),
    [("a.safetensors", "safetensors"), ("a.npz", "npz"), ("a.pt", "pt"), ("a.pth", "pt")],
)
def test_the_suffix_of_a_new_file_selects_its_format(tmp_path, name, container):
    assert save_as(tmp_path / name, V1, random_state(V1)).container == container
    assert load_any(tmp_path / name).report.container == container


@pytest.mark.parametrize(
    ("name", "container"), [("a.safetensors", "safetensors"), ("a.pth", "pt"), ("a", "pt")]
)
def test_a_file_for_timm_may_be_a_safetensors_file(tmp_path, name, container):
    assert save_as(tmp_path / name, V2, random_state(V2), "timm").container == container
    assert load_any(tmp_path / name).report.container == container


def test_the_report_of_a_conversion(tmp_path):
    config = replace(V2, dropout=0.5)
    save_as(tmp_path / "a.pt", config, random_state(config), "timm")
    text = str(convert(tmp_path / "a.pt", tmp_path / "b.pt", target="torchvision"))
    assert text.splitlines() == [
        "pt, layout timm v2: 262 tensors matched, 52 ignored "
        "(blocks.0.0.bn1.num_batches_tracked and 51 more)",
        f"config: {config.to_json()}",
        "other than timm's: dropout 0.5 (0.0)",
        f"written: {tmp_path / 'b.pt'} (pt, layout torchvision v2)",
        "torchvision has dropout 0.2 by default; this model has 0.5",
    ]


@pytest.mark.parametrize("source", ["npz", "canonical"])
def test_a_source_is_a_container_or_a_layout(tmp_path, source):
    convert(saved(tmp_path / "a.npz"), tmp_path / "b.pt", source=source)
    assert load_any(tmp_path / "b.pt").config == V1


def test_a_config_is_required_if_the_file_has_none(tmp_path):
    torch.save(backend("torch").build(V1).module.state_dict(), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"neither its tensors nor the file state stem_stride"):
        convert(tmp_path / "a.pt", tmp_path / "b.npz")
    assert convert(tmp_path / "a.pt", tmp_path / "b.npz", config=V1).config == V1


@pytest.mark.parametrize("config", [V1, V2, BOTTLENECK, KERAS_V1])
def test_predictions_are_bit_identical_after_export_and_import(tmp_path, config):
    state = random_state(config)
    formats = (*OWN, "keras") if config is KERAS_V1 else FORMATS_OF[config.family]
    images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    expected = backend("torch").from_state(config, state).predict(images)
    for file_format in formats:
        save_as(tmp_path / "a", config, state, file_format)
        loaded = load_any(tmp_path / "a")
        logits = backend("torch").from_state(loaded.config, loaded.state).predict(images)
        assert logits.tobytes() == expected.tobytes()


def test_every_suffix_has_a_format():
    assert set(registry.SUFFIXES.values()) <= set(FORMATS)
    assert {file_format.container for file_format in FORMATS.values()} - {""} <= set(
        registry.CONTAINERS
    )
