"""Settings that neither names nor shapes determine are found with a sample of the original net."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from format_models import random_state
from peer_nets import Marvis, images, outputs, randomized

from pymobilenet import MobileNetConfig, backend
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import Sample, load_any, parse_settings, rounding
from pymobilenet.formats.npz import write
from pymobilenet.formats.sample import sample_floor
from pymobilenet.parity import tolerances
from pymobilenet.parity.verify import verify_sample

CHANGES = {
    "stem_stride": 1,
    "padding": "keras",
    "activation": "relu",
    "norm_eps": 1e-3,
}
BASE = MobileNetConfig("v1", width_mult=0.25, num_classes=5, resolution=32)


def original(changes):
    """The config and the state of a net with changed settings."""
    config = MobileNetConfig(**{**BASE.to_dict(), **changes})
    state = random_state(config)
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            tensor *= np.sqrt(2 / np.prod(tensor.shape[1:])).astype(np.float32)
        elif name.endswith("running_var"):
            tensor += np.float32(0.01)
    return config, state


def write_sample(tmp_path, config, state, **more):
    x = np.random.default_rng(1).standard_normal((3, 3, 32, 32)).astype(np.float32) * 3
    model = backend("torch").from_state(config, state)
    write(tmp_path / "s.npz", {"inputs": x, "outputs": model.predict(x), **more}, {})
    torch.save({n: torch.from_numpy(t) for n, t in state.items()}, tmp_path / "a.pt")
    return tmp_path / "a.pt", tmp_path / "s.npz"


@pytest.mark.parametrize("changed", [(), *itertools.combinations(CHANGES, 1), tuple(CHANGES)])
def test_the_one_combination_that_reproduces_the_outputs_is_found(tmp_path, changed):
    config, state = original({name: CHANGES[name] for name in changed})
    path, sample = write_sample(tmp_path, config, state)
    with pytest.raises(WeightsError, match="neither its tensors nor the file state stem_stride"):
        load_any(path)
    loaded = load_any(path, sample=sample)
    for name in CHANGES:
        assert getattr(loaded.config, name) == getattr(config, name), name
        assert name not in loaded.report.assumed
    assert re.search(
        r"relative error \S+, where rounding accounts for \S+; the runner-up, stem_stride",
        str(loaded.report),
    )


def test_the_bound_follows_from_the_measured_floor(tmp_path):
    config, state = original({})
    path, sample = write_sample(tmp_path, config, state)
    floor = sample_floor(config, state, Sample.read(sample))
    assert 1e-7 < floor < 1e-4
    with np.load(sample) as file:
        x, y = file["inputs"], file["outputs"]
    noise = np.random.default_rng(2).standard_normal(y.shape)
    noise *= np.linalg.norm(y) / np.linalg.norm(noise)
    write(sample, {"inputs": x, "outputs": (y + 5 * floor * noise).astype(np.float32)}, {})
    assert load_any(path, sample=sample).config.stem_stride == 2
    write(sample, {"inputs": x, "outputs": (y + 100 * floor * noise).astype(np.float32)}, {})
    with pytest.raises(
        WeightsError, match=r"relative error of .*where rounding accounts for .*runner-up"
    ):
        load_any(path, sample=sample)


def test_the_bound_is_that_of_parity():
    assert (rounding.DRAWS, rounding.ALLOWED) == (tolerances.DRAWS, tolerances.MAX_RATIO)
    assert rounding.MIN_ULPS == tolerances.MIN_FLOOR_ULPS


@pytest.mark.parametrize("field", CHANGES)
def test_assumed_settings_are_reported_and_can_be_overridden(tmp_path, field):
    torch.manual_seed(0)
    net = randomized(Marvis())
    torch.save(net.state_dict(), tmp_path / "a.pt")
    loaded = load_any(tmp_path / "a.pt")
    assert f"{field} {getattr(loaded.config, field)}" in loaded.report.assumption
    assert "resolution 224" in loaded.report.assumption
    assert "images are scaled as there (--mean, --std)" in loaded.report.assumption
    other = {**CHANGES, "activation": "relu6"}[field]
    overridden = load_any(tmp_path / "a.pt", settings={field: other})
    assert getattr(overridden.config, field) == other
    assert field not in overridden.report.assumed


def test_a_sample_that_no_settings_reproduce_is_an_error_that_names_the_first_difference(tmp_path):
    config, state = original({})
    x = np.random.default_rng(1).standard_normal((3, 3, 32, 32)).astype(np.float32)
    wrong = dict(state)
    wrong["blocks.4.depthwise.conv.weight"] = -wrong["blocks.4.depthwise.conv.weight"]
    model = backend("torch").from_state(config, wrong)
    activations = model.activations(x)
    names = (
        "stem.conv",
        "blocks.3.pointwise.act",
        "blocks.4.depthwise.conv",
        "blocks.5.pointwise.conv",
    )
    arrays = {name: activations[name] for name in names}
    write(tmp_path / "s.npz", {"inputs": x, "outputs": activations["logits"], **arrays}, {})
    torch.save({n: torch.from_numpy(t) for n, t in state.items()}, tmp_path / "a.pt")
    with pytest.raises(
        WeightsError,
        match=r"no combination of stem_stride.*the closest, stem_stride 2.*first that differs is "
        r"blocks\.4\.depthwise\.conv",
    ):
        load_any(tmp_path / "a.pt", sample=tmp_path / "s.npz")


def test_settings_that_a_sample_does_not_determine_are_assumed_and_reported(tmp_path):
    net, x = randomized(Marvis()), images(size=32) * 0.01
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.mul_(0.2)  # so that nothing exceeds 6
    torch.save(net.state_dict(), tmp_path / "a.pt")
    write(tmp_path / "s.npz", {"inputs": x.numpy(), "outputs": outputs(net, x)}, {})
    loaded = load_any(tmp_path / "a.pt", sample=tmp_path / "s.npz")
    assert loaded.report.assumed == {"activation": "relu", "resolution": 224}
    assert "the sample does not decide activation" in str(loaded.report)


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (3, 2, 1, 0)], ids=["keras", "flux"])
def test_axes_of_keras_and_flux_inputs_are_converted(tmp_path, axes):
    config, state = original({})
    path, sample = write_sample(tmp_path, config, state)
    with np.load(sample) as file:
        x, y = file["inputs"], file["outputs"]
    write(sample, {"inputs": np.ascontiguousarray(x.transpose(axes)), "outputs": y}, {})
    assert load_any(path, sample=sample).config.stem_stride == 2


def test_settings_are_read_from_texts_and_from_a_partial_config(tmp_path):
    (tmp_path / "c.toml").write_text('[model]\nstem_stride = 1\npadding = "keras"\n')
    settings = parse_settings(["norm_eps=1e-3", "activation=relu"], tmp_path / "c.toml")
    expected = {"stem_stride": 1, "padding": "keras", "norm_eps": 1e-3, "activation": "relu"}
    assert settings == expected
    for change, message in (
        ("stem_stride=3", "stem_stride must be 1 or 2"),
        ("stem_stride", "must be field=value"),
        ("stride=1", "a setting must be one of"),
        ("stem_stride=2", r"states stem_stride = 1\. Received"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_settings([change], tmp_path / "c.toml")


def test_verify_compares_backends_with_a_sample(tmp_path):
    config, state = original({"stem_stride": 1})
    path, sample = write_sample(tmp_path, config, state)
    loaded = load_any(path, sample=sample)
    checks = verify_sample(loaded, Sample.read(sample), ["numpy", "torch"])
    assert [(check.backend, check.dtype) for check in checks] == [
        ("numpy", "float64"),
        ("torch", "float64"),
        ("torch", "float32"),
    ]
    assert all(check.passed for check in checks)
    wrong = replace(loaded, config=replace(loaded.config, norm_eps=1e-3))
    assert not any(check.passed for check in verify_sample(wrong, Sample.read(sample), ["torch"]))
