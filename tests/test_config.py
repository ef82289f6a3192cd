"""Valid and invalid values of configurations."""

import warnings

import numpy as np
import pytest

from pymobilenet import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError

NAN, INFINITY = float("nan"), float("inf")


def test_defaults_are_those_of_the_paper():
    assert MobileNetConfig().to_json() == (
        '{"activation":"relu6","bottleneck_ratio":null,"dropout":0.0,'
        '"family":"v1","in_channels":3,"norm_eps":1e-05,'
        '"norm_momentum":0.1,"num_classes":1000,"padding":"symmetric","resolution":224,'
        '"rounding":"floor","softmax":false,"stem_stride":2,"width_mult":1.0}'
    )
    assert TrainConfig().to_json() == (
        '{"accumulate":1,"alpha":0.99,"batch_size":128,"beta1":0.9,"beta2":0.999,"clip_norm":0.0,'
        '"crop_padding":4,"cutout":0,"decay_all":true,"div_factor":25.0,"ema_decay":0.0,"eps":1e-08,'
        '"final_div_factor":10000.0,"final_rate":0.0,"flip":true,"gamma":0.1,'
        '"initial_square_avg":0.0,"label_smoothing":0.0,"milestones":[],"mixup":0.0,'
        '"momentum":0.9,"nesterov":false,"optimizer":"sgd","pct_start":0.3,'
        '"preprocessing":"standard","rate":0.1,"rotation":0,"schedule":"constant","seed":0,'
        '"step_size":0,"steps":200,"warmup_steps":0,"weight_decay":0.0}'
    )


def test_a_recipe_from_before_schedules_existed_is_read():
    text = (
        '{"batch_size":128,"beta1":0.9,"beta2":0.999,"crop_padding":4,"eps":1e-08,"flip":true,'
        '"momentum":0.9,"optimizer":"sgd","rate":0.1,"seed":0,"steps":200}'
    )
    assert TrainConfig.from_json(text) == TrainConfig()


@pytest.mark.parametrize(
    ("kind", "name", "rule", "values"),
    [
        (MobileNetConfig, "family", "one of v1", ["v3", "V1", None, 1, ["v1"]]),
        (MobileNetConfig, "activation", "one of relu6, relu", ["relu7", None]),
        (MobileNetConfig, "width_mult", r"in \(0, 2\]", [0, -1, 2.01, NAN, INFINITY, "1", True]),
        (MobileNetConfig, "resolution", r"in \[32, 4096\] pixels", [31, 4097, NAN, None, True]),
        (MobileNetConfig, "num_classes", r"in \[1, 1000000\]", [0, 10**6 + 1, 10**400, True, "5"]),
        (MobileNetConfig, "in_channels", r"in \[1, 4096\]", [0, 4097, -3]),
        (MobileNetConfig, "stem_stride", "1 or 2", [0, 3, False]),
        (MobileNetConfig, "norm_eps", r"in \[1e-12, 1\]", [0, 1e-13, 1.1, -1e-5, NAN]),
        (MobileNetConfig, "norm_momentum", r"in \[0, 1\]", [-0.1, 1.1, NAN, True]),
        (MobileNetConfig, "dropout", r"in \[0, 0\.999\]", [-0.1, 1, 0.9991, NAN]),
        (
            TrainConfig,
            "optimizer",
            "one of sgd, adam, adamw, rmsprop, rmsprop_tf",
            ["lion", "SGD", None],
        ),
        (TrainConfig, "rate", r"in \[0, 1e6\]", [-0.1, 1.1e6, NAN, INFINITY, "0.1", True]),
        (TrainConfig, "momentum", r"in \[0, 1\]", [-0.1, 1.1]),
        (TrainConfig, "beta1", r"in \[0, 1\)", [-0.1, 1]),
        (TrainConfig, "beta2", r"in \[0, 1\)", [-0.1, 1]),
        (TrainConfig, "eps", r"in \[0, 1\]", [-1e-8, 2]),
        (TrainConfig, "nesterov", "true or false", [1, None]),
        (TrainConfig, "alpha", r"in \[0, 1\]", [-0.1, 1.1]),
        (TrainConfig, "initial_square_avg", r"in \[0, 1e6\]", [-1, NAN]),
        (TrainConfig, "weight_decay", r"in \[0, 1\]", [-1e-4, 2, NAN]),
        (TrainConfig, "decay_all", "true or false", [0, "no"]),
        (TrainConfig, "clip_norm", r"in \[0, 1e12\]", [-1, INFINITY]),
        (TrainConfig, "ema_decay", r"in \[0, 1\)", [-0.1, 1]),
        (TrainConfig, "label_smoothing", r"in \[0, 1\]", [-0.1, 1.1]),
        (TrainConfig, "schedule", "one of constant, step, milestones,", ["exponential", None]),
        (TrainConfig, "warmup_steps", "at least 0", [-1]),
        (TrainConfig, "step_size", "at least 0", [-1]),
        (
            TrainConfig,
            "milestones",
            "increasing whole numbers",
            [3, (0,), [2, 2], [3, 2], (1.5,), [True]],
        ),
        (TrainConfig, "gamma", r"in \[0, 1\]", [-0.1, 1.1]),
        (TrainConfig, "final_rate", r"in \[0, 1e6\]", [-0.1]),
        (TrainConfig, "pct_start", r"in \[0, 1\]", [-0.1, 1.1]),
        (TrainConfig, "div_factor", r"in \[1, 1e12\]", [0.5]),
        (TrainConfig, "final_div_factor", r"in \[1, 1e12\]", [0]),
        (TrainConfig, "batch_size", "at least 1", [0, -1]),
        (TrainConfig, "steps", "at least 0", [-1]),
        (TrainConfig, "seed", r"in \[0, 2\*\*63\)", [-1, 2**63]),
        (TrainConfig, "crop_padding", r"in \[0, 1024\] pixels", [-1, 1025]),
        (TrainConfig, "flip", "true or false", [1, 0, None, "true"]),
        (TrainConfig, "rotation", r"in \[0, 180\] degrees", [-1, 181, True]),
        (TrainConfig, "rotation", "a whole number", [7.5]),
        (TrainConfig, "cutout", r"in \[0, 4096\] pixels", [-1, 4097]),
        (TrainConfig, "mixup", r"0 \(off\) or 1 \(uniform weights\)", [0.2, -1, 2, "1"]),
        (TrainConfig, "preprocessing", "one of unit, standard, keras", ["tf", None, 1]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_value_outside_its_range_is_refused_with_name_rule_and_value(kind, name, rule, values):
    for value in values:
        with pytest.raises(ConfigError, match=f"^{name} must be {rule}") as info:
            kind(**{name: value})
        assert str(info.value).endswith(f"Received: {value!r}")


@pytest.mark.parametrize("name", ["resolution", "num_classes", "in_channels", "stem_stride"])
def test_a_fraction_is_refused_for_a_count(name):
    value = {"resolution": 32.5}.get(name, 1.5)
    with pytest.raises(ConfigError, match=f"{name} must be a whole number.*Received: {value}"):
        MobileNetConfig(**{name: value})


@pytest.mark.parametrize("width_mult", [1 / 33, 0.01, 1e-7, 5e-324])
def test_a_width_that_leaves_no_channel_is_refused(width_mult):
    with pytest.raises(ConfigError, match=f"stem at least one.*Received: {width_mult}"):
        MobileNetConfig(width_mult=width_mult)


@pytest.mark.parametrize("width_mult", [1 / 32, 2, np.float64(0.5)])
def test_widths_at_the_ends_of_the_range_are_accepted(width_mult):
    assert MobileNetConfig(width_mult=width_mult).width_mult == width_mult


def test_numbers_are_stored_as_their_fields_type():
    config = MobileNetConfig(width_mult=1, num_classes=5.0, norm_momentum=0, dropout=-0.0)
    assert config == MobileNetConfig(width_mult=1.0, num_classes=5, norm_momentum=0.0)
    assert (type(config.width_mult), type(config.num_classes)) == (float, int)
    as_floats = MobileNetConfig(width_mult=1.0, num_classes=5, norm_momentum=0.0, dropout=0.0)
    assert config.to_json() == as_floats.to_json()  # equal configurations give equal text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_classes": np.int64(5), "dropout": np.float32(0.5)}, {"num_classes": 5}),
        ({"resolution": np.uint8(64), "width_mult": np.float16(0.5)}, {"resolution": 64}),
    ],
)
def test_numpy_scalars_are_numbers(fields, expected):
    config = MobileNetConfig(**fields)
    assert {name: getattr(config, name) for name in expected} == expected
    assert {type(getattr(config, name)) for name in fields} == {int, float}
    assert MobileNetConfig.from_json(config.to_json()) == config


def test_numpy_integers_may_be_milestones():
    config = TrainConfig(schedule="milestones", milestones=list(np.array([3, 5])))
    assert config.milestones == (3, 5)
    assert TrainConfig.from_json(config.to_json()) == config


def test_a_numpy_boolean_is_not_a_number():
    with pytest.raises(ConfigError, match="num_classes must be in"):
        MobileNetConfig(num_classes=np.bool_(True))


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        MobileNetConfig().num_classes = 3


@pytest.mark.parametrize(
    ("rho", "resolution"), [(1, 224), (6 / 7, 192), (5 / 7, 160), (4 / 7, 128)]
)
def test_multipliers_of_the_paper_give_no_warning(rho, resolution):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = MobileNetConfig.from_multipliers(0.5, rho, num_classes=10)
    assert config == MobileNetConfig(width_mult=0.5, resolution=resolution, num_classes=10)


@pytest.mark.parametrize(
    ("rho", "exact", "resolution"),
    [(0.57, "127.68", 128), (0.8, "179.20", 192), (0.1, "22.40", 128)],
)
def test_other_multipliers_give_the_nearest_resolution_and_a_warning(rho, exact, resolution):
    with pytest.warns(UserWarning, match=rf"{exact} pixels.*resolution {resolution}$") as warned:
        assert MobileNetConfig.from_multipliers(1, rho).resolution == resolution
    assert warned[0].filename == __file__


@pytest.mark.parametrize("rho", [0, -1, 1.01, NAN, "1", True, None])
def test_a_resolution_multiplier_outside_its_range_is_refused(rho):
    with pytest.raises(ConfigError, match=rf"rho must be in \(0, 1\]\. Received: {rho!r}"):
        MobileNetConfig.from_multipliers(1, rho)


@pytest.mark.parametrize(
    ("optimizer", "momentum", "slots"),
    [
        ("sgd", 0.9, ("momentum",)),
        ("sgd", 0, ()),
        ("adam", 0, ("exp_avg", "exp_avg_sq")),
        ("adamw", 0.9, ("exp_avg", "exp_avg_sq")),
        ("rmsprop", 0, ("square_avg",)),
        ("rmsprop", 0.9, ("momentum", "square_avg")),
        ("rmsprop_tf", 0.9, ("momentum", "square_avg")),
    ],
)
def test_slots_are_the_moments_of_the_optimizer(optimizer, momentum, slots):
    assert TrainConfig(optimizer=optimizer, momentum=momentum).slots == slots


def test_an_average_of_the_parameters_is_the_first_slot():
    config = TrainConfig(optimizer="adam", ema_decay=0.9)
    assert config.slots == ("ema", "exp_avg", "exp_avg_sq")
    assert TrainConfig(momentum=0, ema_decay=0.9).slots == ("ema",)


def test_moments_start_at_zero_except_tensorflows_square_average():
    config = TrainConfig(optimizer="rmsprop_tf", initial_square_avg=1)
    assert (config.start_of("momentum"), config.start_of("square_avg")) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nesterov": True, "optimizer": "adam"}, "nesterov requires.* adam with momentum 0.9"),
        ({"nesterov": True, "momentum": 0}, "nesterov requires.* sgd with momentum 0.0"),
        (
            {"optimizer": "rmsprop", "initial_square_avg": 1},
            "initial_square_avg requires the optimizer rmsprop_tf. Received: 1.0 with rmsprop",
        ),
        ({"schedule": "step"}, "step_size must be at least 1 for the schedule step. Received: 0"),
        ({"schedule": "milestones"}, r"milestones must not be empty.* Received: \(\)"),
    ],
)
def test_fields_of_other_optimizers_or_schedules_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**fields)


def test_milestones_may_be_a_list():
    fields = {"schedule": "milestones", "milestones": [3, 5]}
    assert TrainConfig.from_dict(fields) == TrainConfig("sgd", **{**fields, "milestones": (3, 5)})
