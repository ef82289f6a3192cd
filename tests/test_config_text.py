"""Configurations as JSON and TOML: canonical text, strict parsing."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pymobilenet import MobileNetConfig, TrainConfig
from pymobilenet.config import RunConfig
from pymobilenet.errors import ConfigError

MODEL = {
    "family": st.just("v1"),
    "width_mult": st.floats(1 / 32, 2),
    "resolution": st.integers(32, 4096),
    "num_classes": st.integers(1, 10**6),
    "in_channels": st.integers(1, 4096),
    "stem_stride": st.sampled_from([1, 2]),
    "activation": st.sampled_from(["relu6", "relu"]),
    "norm_eps": st.floats(1e-12, 1),
    "norm_momentum": st.floats(0, 1),
    "dropout": st.floats(0, 0.999),
}
TRAIN = {
    "optimizer": st.sampled_from(["sgd", "adam", "adamw", "rmsprop", "rmsprop_tf"]),
    "rate": st.floats(0, 1e6),
    "momentum": st.floats(0, 1),
    "beta1": st.floats(0, 1 - 1e-12),
    "beta2": st.floats(0, 1 - 1e-12),
    "alpha": st.floats(0, 1),
    "eps": st.floats(0, 1),
    "weight_decay": st.floats(0, 1),
    "decay_all": st.booleans(),
    "clip_norm": st.floats(0, 1e12),
    "ema_decay": st.floats(0, 1 - 1e-12),
    "label_smoothing": st.floats(0, 1),
    "schedule": st.sampled_from(["constant", "step", "milestones", "cosine", "one_cycle"]),
    "warmup_steps": st.integers(0, 10**9),
    "step_size": st.integers(1, 10**9),
    "milestones": st.sets(st.integers(1, 10**9), min_size=1).map(sorted),
    "gamma": st.floats(0, 1),
    "final_rate": st.floats(0, 1e6),
    "pct_start": st.floats(0, 1),
    "div_factor": st.floats(1, 1e12),
    "final_div_factor": st.floats(1, 1e12),
    "batch_size": st.integers(1, 10**7),
    "steps": st.integers(0, 10**9),
    "seed": st.integers(0, 2**63 - 1),
    "crop_padding": st.integers(0, 1024),
    "flip": st.booleans(),
    "rotation": st.integers(0, 180),
    "cutout": st.integers(0, 4096),
    "mixup": st.sampled_from([0.0, 1.0]),
    "preprocessing": st.sampled_from(["unit", "standard", "keras"]),
}
CONFIGS = st.builds(MobileNetConfig, **MODEL) | st.builds(TrainConfig, **TRAIN)


@settings(deadline=None, database=None)
@given(config=CONFIGS)
def test_a_config_survives_json_and_gives_the_same_text(config):
    parsed = type(config).from_json(config.to_json())
    assert parsed == config
    assert parsed.to_json() == config.to_json()


@settings(deadline=None, database=None)
@given(config=CONFIGS)
def test_a_config_survives_toml(config, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert type(config).from_toml(path) == config


@settings(deadline=None, database=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@example(text="/data/\U0001f600")
@example(text='"\\\x7f\x00\u2028\r\n')
def test_any_text_survives_toml(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "run.toml"
    path.write_text(RunConfig(data=text).to_toml(), encoding="utf-8", newline="")
    assert RunConfig.from_toml(path) == RunConfig(data=text)


def test_half_a_surrogate_pair_cannot_be_written_as_toml():
    with pytest.raises(ConfigError, match=r"data must be valid Unicode.*Received: '\\udcff'"):
        RunConfig(data="\udcff").to_toml()


def test_one_toml_file_holds_several_tables_and_missing_fields_take_defaults(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[model]\nwidth_mult = 1\nnum_classes = 100\n[train]\nrate = 1\n")
    assert MobileNetConfig.from_toml(path) == MobileNetConfig(num_classes=100)
    assert TrainConfig.from_toml(path) == TrainConfig(rate=1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nfamily = ", "not TOML"),
        ("[train]\nrate = 0.1\n", r"no table \[model\]; it has \['train'\]"),
        ("model = 3\n", r"no table \[model\]"),
        (b"[model]\nfamily = '\xff'\n", "not TOML"),
    ],
)
def test_an_invalid_toml_file_is_refused_with_its_name(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=f"recipe.toml: {message}"):
        MobileNetConfig.from_toml(path)


@pytest.mark.parametrize(
    "text", ["", "{", "nonsense", "[" * 10**5, '{"num_classes":' + "9" * 5000 + "}"]
)
def test_invalid_json_is_refused(text):
    with pytest.raises(ConfigError, match="MobileNetConfig: not JSON"):
        MobileNetConfig.from_json(text)


def test_json_other_than_an_object_is_refused():
    with pytest.raises(ConfigError, match=r"Config: not a JSON object\. Received: \[1\]"):
        MobileNetConfig.from_json("[1]")


@pytest.mark.parametrize("kind", [MobileNetConfig, TrainConfig])
def test_an_unknown_field_is_refused_by_name(kind):
    with pytest.raises(ConfigError, match="no field 'depth_multiplier'; its fields are"):
        kind.from_dict({"depth_multiplier": 1})


def test_a_missing_toml_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read \(No such file"):
        MobileNetConfig.from_toml(tmp_path / "none.toml")
