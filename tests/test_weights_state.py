"""Errors for invalid states name the tensor, before anything is copied."""

from collections import Counter

import numpy as np
import pytest
from small_models import OPTIMIZERS, SMALL, assert_same_bits

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.weights import (
    OPTIMIZER_STEP,
    averaged,
    check_state,
    initial_state,
    optimizer_shapes,
)
from pymobilenet.weights import state as weights_state
from pymobilenet.weights.state import slots_of


def renamed(state):
    return {name.replace("stem.", "first."): tensor for name, tensor in state.items()}


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


def changed(name, change):
    return lambda state: {**state, name: change(state[name])}


def with_value(value, *position):
    def change(tensor):
        tensor = tensor.copy()
        tensor[position] = value
        return tensor

    return change


BLOCK = "blocks.7.depthwise"
REFUSED = {
    "missing": (
        lambda state: without(state, f"{BLOCK}.conv.weight", "classifier.bias"),
        rf"missing {BLOCK}\.conv\.weight, classifier\.bias, left over none",
    ),
    "left over": (
        lambda state: {**state, "stem.norm.num_batches_tracked": np.array(3)},
        r"missing none, left over stem\.norm\.num_batches_tracked",
    ),
    "other names": (
        renamed,
        r"missing stem\.conv\.weight.*, left over first\.conv\.weight, first\.norm\.bias",
    ),
    "wrong shape": (
        changed("classifier.weight", np.transpose),
        r"classifier\.weight must have shape \(7, 102\)\. Received: \(102, 7\)",
    ),
    "extra axis": (
        changed("classifier.bias", lambda tensor: tensor[None]),
        r"classifier\.bias must have shape \(7,\)\. Received: \(1, 7\)",
    ),
    "wrong dtype": (
        changed(f"{BLOCK}.norm.bias", lambda tensor: tensor.astype(np.float32)),
        rf"{BLOCK}\.norm\.bias must be float64\. Received: float32",
    ),
    "wrong byte order": (
        changed(f"{BLOCK}.norm.bias", lambda tensor: tensor.astype(">f8")),
        rf"{BLOCK}\.norm\.bias must be float64\. Received: >f8",
    ),
    "not a number": (
        changed("classifier.weight", with_value(np.nan, 6, 3)),
        r"classifier\.weight must be finite\. Received: nan at \[6, 3\]",
    ),
    "infinite": (
        changed("blocks.12.pointwise.norm.running_mean", with_value(-np.inf, 5)),
        r"running_mean must be finite\. Received: -inf at \[5\]",
    ),
    "negative variance": (
        changed(f"{BLOCK}.norm.running_var", with_value(-1e-9, 2)),
        rf"{BLOCK}\.norm\.running_var must not be negative\. Received: -1e-09",
    ),
}


@pytest.fixture
def state():
    return initial_state(SMALL, 0, "float64")


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_state_is_refused_by_name(state, case):
    corrupt, message = REFUSED[case]
    with pytest.raises(WeightsError, match=rf"^my file: .*{message}"):
        check_state(SMALL, corrupt(state), "float64", source="my file")


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_state_leaves_the_model_unchanged(state, case):
    model = backend("torch").from_state(SMALL, state)
    other = {name: tensor + 1 for name, tensor in state.items()}
    with pytest.raises(WeightsError):
        model.set_state(REFUSED[case][0](other))
    assert_same_bits(model.get_state(), state)


def test_a_complete_state_with_zero_variances_is_valid(state):
    check_state(SMALL, changed("stem.norm.running_var", np.zeros_like)(state), np.float64)


def test_a_state_of_another_config_is_refused_with_the_config(state):
    other = MobileNetConfig(width_mult=0.1, num_classes=8)
    with pytest.raises(WeightsError, match=r"classifier\.weight must have shape \(8, 102\)"):
        check_state(other, state, "float64")


def test_only_the_first_of_many_names_are_listed():
    with pytest.raises(WeightsError, match=r"missing (\S+, ){4}\S+ and 132 more, left over none$"):
        check_state(SMALL, {}, "float64")


def with_moments(state, slots, step=3):
    shapes = optimizer_shapes(SMALL, slots)
    return {**state, **{n: np.zeros(s) for n, s in shapes.items()}, OPTIMIZER_STEP: np.array(step)}


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: config.optimizer)
def test_moments_belong_to_the_state_of_their_optimizer(state, config):
    with_slots = with_moments(state, config.slots)
    assert slots_of(with_slots) == tuple(sorted(config.slots))
    check_state(SMALL, with_slots, "float64", config.slots)
    with pytest.raises(WeightsError, match=r"left over optimizer\."):
        check_state(SMALL, with_slots, "float64")
    with pytest.raises(WeightsError, match=r"missing optimizer\..*stem\.conv\.weight"):
        check_state(SMALL, state, "float64", config.slots)


def test_averaged_requires_a_state_with_averages(state):
    with pytest.raises(ConfigError, match=r"no averages.*Received: slots \('momentum',\)"):
        averaged(with_moments(state, ("momentum",)))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (np.array(3.0), "must be int64. Received: float64"),
        (np.array([3]), r"must have shape \(\)\. Received: \(1,\)"),
        (np.array(-1), "must not be negative. Received: -1"),
    ],
)
def test_an_invalid_step_count_is_refused(state, step, message):
    invalid = {**with_moments(state, ("momentum",)), OPTIMIZER_STEP: step}
    with pytest.raises(WeightsError, match=f"optimizer.step {message}"):
        check_state(SMALL, invalid, "float64", ("momentum",))


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("train", [None, TrainConfig(momentum=0), OPTIMIZERS[1]])
def test_moments_of_another_optimizer_are_refused_and_change_nothing(state, name, train):
    model = backend(name).from_state(SMALL, state)
    if train is not None:
        model.set_optimizer(train)
    before = model.get_state()
    other = {key: tensor + 1 for key, tensor in state.items()}
    message = r"slots of a state must be those of the model's.*Received: \('momentum',\)"
    with pytest.raises(ConfigError, match=message):
        model.set_state(with_moments(other, ("momentum",)))
    assert_same_bits(model.get_state(), before)


def test_from_state_ignores_moments(state):
    model = backend("torch").from_state(SMALL, with_moments(state, ("momentum",)))
    assert_same_bits(model.get_state(), state)


def test_from_state_refuses_an_unsupported_dtype(state):
    halves = {name: tensor.astype(np.float16) for name, tensor in state.items()}
    with pytest.raises(ConfigError, match=r"dtype must be one of float32, float64.*float16"):
        backend("torch").from_state(SMALL, halves)


DTYPES = {"numpy": "float64", "torch": "float32"}


@pytest.fixture
def checked(monkeypatch):
    """The configs of the states that are checked in full."""
    configs = []

    def counted(config, shapes=weights_state.state_shapes):
        configs.append(config)
        return shapes(config)

    monkeypatch.setattr(weights_state, "state_shapes", counted)
    return configs


@pytest.mark.parametrize("name", DTYPES)
def test_a_state_is_checked_once_on_every_way(tmp_path, checked, name):
    model = backend(name).build(SMALL, dtype=DTYPES[name])
    assert len(checked) == 1
    model.save(tmp_path / "m.safetensors")
    assert len(checked) == 2
    loaded = backend(name).load(tmp_path / "m.safetensors")
    assert len(checked) == 3
    loaded.set_state(model.get_state())
    assert len(checked) == 4


@pytest.mark.parametrize(("name", "built"), [("numpy", 0), ("torch", 1)])
def test_saving_reads_the_state_once_and_builds_a_model_for_another_dtype_alone(
    tmp_path, monkeypatch, name, built
):
    calls = Counter()
    one = backend(name)
    model = one.build(SMALL, dtype=DTYPES[name])

    def count(owner, method):
        original = getattr(owner, method)

        def counted(*args, **options):
            calls[method] += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, method, counted)

    count(model, "get_state")
    count(one, "_new")
    model.save(tmp_path / "m.safetensors")
    assert calls == Counter(get_state=1, _new=built)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    model = backend("torch").build(SMALL)
    model._set_state({**model.get_state(), "classifier.bias": np.full(7, np.nan, np.float32)})
    with pytest.raises(WeightsError, match=r"classifier\.bias must be finite"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
