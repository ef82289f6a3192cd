"""The comparing engine held to its own rules, by values made by hand."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from pymobilenet import TrainConfig, backend
from pymobilenet.errors import BackendUnavailable, WeightsError
from pymobilenet.parity import Recording, Scenario, read_goldens, record
from pymobilenet.parity.curves import Curves
from pymobilenet.parity.floors import (
    distance,
    draw_order,
    floors,
    least,
    most,
    move_parameters,
    move_ulps,
    perturbed,
    spread,
    unpermuted,
)
from pymobilenet.parity.judge import Row, Verdict, compare, verdicts
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.observe import Key, observe
from pymobilenet.parity.recording import _write, inputs_digest, read_recording, thin
from pymobilenet.parity.reference import reference
from pymobilenet.parity.report import Report, write_report
from pymobilenet.parity.run import compare_models, replay, run_parity
from pymobilenet.parity.tables import print_report
from pymobilenet.training import Batches

INF = float("inf")
DTYPES = ("float32", "float64")


# Distance


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([], [], 0),
        ([0.0, 1e-300], [0.0, 0.0], INF),
        ([0.0, 0.0], [3.0, 4.0], 1),
        ([3.0, 5.0], [3.0, 4.0], 0.2),
        ([1.0, 2.0, 3.0], [1.0, 2.0], INF),
        ([[1.0, 2.0]], [1.0, 2.0], INF),
        ([1.0, np.nan], [1.0, np.nan], INF),
        ([1.0, np.inf], [1.0, np.inf], INF),
        ([1.0, np.nan], [1.0, 2.0], INF),
        ([1.0, 2.0], [1.0, np.inf], INF),
        ([2e-200, 0.0], [1e-200, 0.0], 1),
        ([2e200, 0.0], [1e200, 0.0], 1),
        ([1e308], [-1e308], INF),
        (3, 2, 0.5),
    ],
)
def test_distance(value, reference, expected):
    assert distance(np.array(value), np.array(reference)) == pytest.approx(expected, rel=1e-15)


def test_distance_is_taken_in_float64_whatever_comes_in():
    value, reference = np.float32([1e-30, 1]), np.float64([1e-30, 1])
    assert distance(value, reference) == abs(float(np.float32(1e-30)) - 1e-30)
    assert distance(np.float32([1e-45]), np.float32([3e-45])) == pytest.approx(0.5)
    assert distance(np.float32([0.1]), np.float64([0.1])) == pytest.approx(1.49e-8, rel=1e-2)


# Floors


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_floor_is_at_least_16_ulps_and_infinite_beyond_most(dtype):
    eps = np.finfo(dtype).eps
    keys = [Key(1, "train", name) for name in ("still", "moved", "wild", "broken", "gone")]
    base = {key: np.ones(4) for key in keys}
    values = (1, 1 + 50 * eps, 2, np.nan, 1), (1, 1 + 20 * eps, 1, 1)  # the second lacks "gone"
    draws = [dict(zip(keys, map(np.full, [4] * 5, draw), strict=False)) for draw in values]
    found = list(spread(base, draws, dtype).values())
    assert found == pytest.approx([16 * eps, 50 * eps, INF, INF, INF])
    assert least(dtype) == 16 * eps
    assert 30 * most(dtype) <= 1


def test_every_judged_tensor_has_a_floor_of_at_least_16_ulps(truths, config):
    truth = truths["float64"]
    model = backend("torch").build(config, dtype="float64")
    seen = observe(model, truth.inputs, truth.masks)
    found = floors(model, truth.inputs, truth.masks, seen)
    assert {key for key in seen if key.quantity != "flips"} == set(found)
    assert min(found.values()) == least("float64")
    assert max(found.values()) < most("float64")


# Perturbations


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_but_zero_moves_by_one_ulp_up_or_down(dtype):
    values = np.random.default_rng(0).normal(size=(5, 7, 40)).astype(dtype)
    values[0, 0, :3] = 0, 1, -1
    moved = move_ulps(values, draw=1, index=2)
    assert moved.dtype == values.dtype
    assert moved.shape == values.shape
    up, down = np.nextafter(values, np.inf), np.nextafter(values, -np.inf)
    assert np.array_equal(moved == values, values == 0)
    moves = values != 0
    assert ((moved == up) | (moved == down))[moves].all()
    assert 0.4 < (moved == up)[moves].mean() < 0.6
    assert np.array_equal(moved, move_ulps(values, draw=1, index=2))
    assert not np.array_equal(moved, move_ulps(values, draw=2, index=2))
    assert not np.array_equal(moved, move_ulps(values, draw=1, index=3))


def test_parameters_move_and_statistics_and_moments_stay():
    names = ("stem.conv.weight", "stem.norm.running_var", "optimizer.momentum.stem.conv.weight")
    state = {name: np.ones(3) for name in names}
    moved = move_parameters(state, draw=0)
    assert [np.array_equal(moved[name], state[name]) for name in names] == [False, True, True]


def test_a_draw_keeps_image_label_and_mask_together(truths):
    truth = truths["float64"]
    moved, masks, order = perturbed(truth.inputs, truth.masks, draw=3)
    assert sorted(order) == list(range(16))
    assert not np.array_equal(order, np.arange(16))
    for step, images in enumerate(truth.inputs.images):
        order = draw_order(3, step, 16)
        assert np.array_equal(moved.labels[step], truth.inputs.labels[step][order])
        assert np.allclose(moved.images[step], images[order], rtol=1e-15, atol=0)
        for optimizer, steps in truth.masks.masks.items():
            mask = masks.masks[optimizer][step]["stem.act"]
            assert np.array_equal(mask, steps[step]["stem.act"][order])


def test_unpermuted_puts_activations_back_and_leaves_the_rest():
    order = draw_order(0, 0, 16)
    values = np.arange(32.0).reshape(16, 2)
    seen = {Key(1, "train", "pool"): values[order], Key(2, "grad", "stem.conv.weight"): values}
    assert all(np.array_equal(back, values) for back in unpermuted(seen, order).values())


# Verdicts


def verdict(ratios, level=1):
    rows = [Row(Key(level, "eval", f"t{i}"), {"a": r}, 1.0) for i, r in enumerate(ratios)]
    return Verdict("s", level, "outputs", tuple(rows))


@pytest.mark.parametrize(
    ("ratios", "passed", "first"),
    [
        ([0.0, 1.0, 10.0], True, None),
        ([1.0] * 999 + [30.0], True, None),
        ([1.0] * 999 + [30.1], False, "t999"),
        ([1.0] * 998 + [10.1, 10.1], False, "t998"),
        ([1.0] * 998 + [10.1], False, "t998"),
        ([1.0, 20.0, 500.0], False, "t1"),
        ([1.0, INF], False, "t1"),
        ([], False, None),
    ],
)
def test_a_level_passes_with_999_in_1000_within_10_floors_and_all_within_30(ratios, passed, first):
    found = verdict(ratios)
    assert found.passed is passed
    assert (found.first_divergence and found.first_divergence.name) == first


@pytest.mark.parametrize(
    ("error", "floor", "ratio"),
    [
        (0, 0, 0),
        (0, INF, 0),
        (1e-9, 0, INF),
        (1e-9, INF, INF),
        (INF, INF, INF),
        (INF, 1, INF),
        (6, 2, 3),
    ],
)
def test_no_error_passes_a_floor_that_is_zero_or_infinite(error, floor, ratio):
    assert Row(Key(1, "eval", "t"), {"a": 0.0, "b": error}, floor).ratio == ratio


def test_the_worse_backend_is_the_one_that_is_named():
    row = Row(Key(1, "eval", "t"), {"a": 1.0, "b": 40.0}, 1.0)
    first = Verdict("s", 1, "outputs", (row,)).first_divergence
    assert (first.backend, first.error, first.direction) == ("b", 40.0, "forward")
    assert "level 1, forward: t (eval) of b is off by 4.00e+01" in str(first)


ONE = np.ones(2)
SEEN = {
    Key(0, "shape", "w"): np.array([2]),
    Key(1, "eval", "stem.conv"): ONE,
    Key(2, "flips", "stem.act"): np.array([0.0, 0.0]),
    Key(2, "grad", "w"): ONE,
    Key(2, "free_grad", "w"): ONE,
    Key(3, "sgd-parameter", "w", 0): ONE,
}
FLOORS = dict.fromkeys(SEEN, 0.001)


def test_what_everyone_has_seen_alike_passes_and_flips_are_not_judged():
    rows = compare(SEEN, {"a": SEEN, "b": SEEN}, FLOORS)
    assert [row.key for row in rows] == [key for key in SEEN if key.quantity != "flips"]
    assert all(row.ratio == 0 for row in rows)
    assert [(v.level, v.passed) for v in verdicts("s", rows)] == [(n, True) for n in range(4)]


def test_structure_has_no_floor():
    other = SEEN | {Key(0, "shape", "w"): np.array([2.0001])}
    assert compare(SEEN, {"a": other}, FLOORS)[0].ratio == INF


@pytest.mark.parametrize("key", [key for key in SEEN if key.quantity != "flips"], ids=str)
def test_a_missing_key_counts_as_infinitely_far(key):
    less = {k: v for k, v in SEEN.items() if k != key}
    (row,) = [row for row in compare(SEEN, {"a": SEEN, "b": less}, FLOORS) if row.ratio]
    assert (row.key, row.errors, row.worst_backend) == (key, {"a": 0.0, "b": INF}, "b")
    (row,) = [row for row in compare(less, {"a": less, "b": SEEN}, FLOORS) if row.ratio]
    assert (row.key, row.worst_backend) == (key, "b")  # beyond the oracle's, and no less wrong


def test_unmasked_gradients_are_left_out_where_masks_flipped():
    flipped = SEEN | {
        Key(2, "flips", "stem.act"): np.array([1.0, 1e-7]),
        Key(2, "free_grad", "w"): 2 * ONE,
    }
    rows = compare(SEEN, {"a": SEEN, "b": flipped}, FLOORS)
    assert not any(row.key.quantity.startswith("free_") for row in rows)
    assert all(row.ratio == 0 for row in rows)
    unflipped = flipped | {Key(2, "flips", "stem.act"): np.array([0.0, 0.0])}
    assert max(row.ratio for row in compare(SEEN, {"a": unflipped}, FLOORS)) == 1000


@pytest.mark.parametrize("key", SEEN, ids=str)
def test_a_key_is_read_from_its_text(key):
    assert Key.parse(str(key)) == key


# Curves


def curves(first, second, envelope):
    first, second = np.array(first, float), np.array(second, float)
    return Curves("calm", ("a", "b"), (first, second), np.array(envelope, float))


def test_curves_are_judged_until_the_envelope_saturates():
    run = curves([1, 1, 1, 1], [1, 1 + 5e-9, 2, 3], [1e-9, 1e-9, 2e-3, 2e-3])
    assert run.judged == 2
    assert run.ratio == pytest.approx(5)
    assert run.passed
    assert run.divergence is None


def test_curves_are_judged_until_the_first_flip():
    run = curves([1, 2, 3, 4], [1, 2, 4, 4], [1e-9] * 4)
    assert not run.passed
    assert dataclasses.replace(run, flipped=2).passed
    assert not dataclasses.replace(run, flipped=3).passed
    assert not dataclasses.replace(run, flipped=0).passed


def test_a_curve_outside_ten_envelopes_fails_at_that_step():
    run = curves([1, 1, 1], [1, 1 + 2e-8, 1 + 1e-9], [1e-9, 1e-9, 1e-9])
    assert not run.passed
    assert (run.divergence.step, run.divergence.backend) == (1, "b")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_no_number_fails_saturated_or_not(which, step):
    losses = np.ones((2, 4))
    losses[which, step] = np.nan
    run = curves(*losses, [1e-9, 1e-9, 1, INF])
    assert not run.passed
    assert run.divergence.step == step


def test_curves_that_saturate_at_once_prove_nothing():
    assert not curves([1, 1], [1, 1], [1, 1]).passed
    assert not curves([1, 1], [1, 1], [INF, INF]).passed


# Lockstep


def test_lockstep_of_no_step_does_not_pass(config, images):
    models = [backend("torch").build(config, dtype="float64") for _ in range(3)]
    batches = Batches(images, TrainConfig(batch_size=16), config, "float64")
    assert not lockstep(*models, batches, 0, ("a", "b")).passed


def test_lockstep_ends_where_the_leader_has_no_numbers_left(config, images):
    models = [backend("torch").build(config, dtype="float64") for _ in range(3)]
    batches = Batches(images, TrainConfig(rate=1e6, batch_size=16), config, "float64")
    state = models[0].get_state()
    models[0].set_state(state | {"classifier.weight": 1e300 * state["classifier.weight"]})
    found = lockstep(*models, batches, 5, ("a", "b"))
    assert not found.passed
    assert len(found.losses) < 5


# The report


@pytest.fixture(scope="module")
def report(config, images):
    """A whole small one: both dtypes, lockstep and curves, between torch and the oracle."""
    return run_parity(("torch", "numpy"), images, 2, ["float64"], [config])


def empty(images):
    return Report.of([backend("torch"), backend("numpy")], images, seed=0)


def test_a_report_with_nothing_compared_does_not_pass(images):
    assert empty(images).to_dict()["verdict"] == "differ"


def test_the_lowest_level_is_the_first_divergence(images, report):
    found = empty(images)
    scenario = report.scenarios[0]
    found.scenarios = [
        dataclasses.replace(scenario, verdicts=[verdict([1.0, 99.0], level)]) for level in (3, 2, 2)
    ]
    found.scenarios[2].verdicts[0] = verdict([99.0], level=2)
    found.curves = [curves([1, 1], [2, 2], [1e-9, 1e-9])]
    assert (found.first_divergence.level, found.first_divergence.name) == (2, "t1")


def test_the_json_says_everything(report, tmp_path):
    write_report(report, tmp_path / "out")

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "out/report.json").read_text()
    found = json.loads(text, parse_constant=refuse)  # JSON has no NaN and no Infinity
    assert found["verdict"] == "agree"
    assert found["first_divergence"] is None
    assert found["julia"] == "not compared"
    assert found["backends"] == ["torch", "numpy"]
    assert found["stand_in"] is True
    assert found["data"].startswith("STAND-IN")
    assert found["seed"] == 0
    assert found["versions"]["torch"]["torch"]
    assert found["versions"]["numpy"]["numpy"]
    assert {"system", "cores", "python", "threads"} <= set(found["machine"])
    (scenario,) = found["scenarios"]
    assert [level["level"] for level in scenario["levels"]] == [0, 1, 2, 3]
    for level in (*scenario["levels"], *found["lockstep"]):
        assert level["verdict"] == "agree"
        for tensor in level["tensors"]:
            assert {"quantity", "name", "errors", "floor", "verdict"} <= set(tensor)
            assert tensor["verdict"] == "within"
    assert [len(run["losses"]) for run in found["lockstep"]] == [2, 2]
    for run in found["curves"]:
        assert set(run["losses"]) == {"torch", "numpy"}
        assert len(run["difference"]) == len(run["envelope"]) == 2
    assert (tmp_path / "out/curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_json_has_no_number_for_is_written_as_text(report, images, tmp_path):
    row = Row(Key(1, "eval", "stem.conv"), {"torch": 0.0, "numpy": INF}, 1e-15)
    broken = Verdict("s", 1, "outputs", (row,))
    found = empty(images)
    found.scenarios = [dataclasses.replace(report.scenarios[0], verdicts=[broken])]
    found.curves = [curves([1, np.nan], [1, 2], [1e-9, 1e-9])]
    write_report(found, tmp_path)
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read["verdict"] == "differ"
    assert read["first_divergence"]["name"] == "stem.conv"
    assert read["first_divergence"]["error"] == "inf"
    assert read["scenarios"][0]["levels"][0]["tensors"][0]["verdict"] == "outside"
    assert read["curves"][0]["losses"]["a"] == [1, "nan"]


def test_the_tables_end_with_the_verdict(report):
    console = Console(width=200, file=io.StringIO())
    print_report(report, console)
    assert "torch and numpy agree on STAND-IN" in console.file.getvalue()


# Recordings

VERSIONS = {"julia": "1.10.9", "Flux": "0.16.11"}
"""What a live Julia would have written; torch stands in for it in these tests."""


@pytest.fixture(scope="module")
def recorded(config):
    from pymobilenet.parity.recording import recording_images

    config = dataclasses.replace(config, num_classes=100)
    truth = reference(Scenario(config, "float64", batch_size=8), recording_images())
    model = backend("torch").build(config, dtype="float64", memory_format="channels_last")
    seen = thin(observe(model, truth.inputs, truth.masks))
    digest = inputs_digest(truth.inputs, truth.masks)
    losses = {"calm": np.array([4.6, 4.5])}
    return Recording("julia", truth.scenario, VERSIONS, "Linux x86_64", digest, seen, losses)


@pytest.fixture
def golden(recorded, tmp_path):
    path = tmp_path / "golden.safetensors"
    _write(path, recorded)
    return path


def test_a_recording_is_read_as_it_was_written(recorded, golden):
    read = read_recording(golden)
    assert (read.backend, read.scenario) == ("julia", recorded.scenario)
    assert (read.versions, read.machine) == (VERSIONS, "Linux x86_64")
    assert list(read.observations) == list(recorded.observations)
    for key, value in recorded.observations.items():
        assert np.array_equal(read.observations[key], value), key
    assert np.array_equal(read.curves["calm"], recorded.curves["calm"])
    assert golden.stat().st_size < 2e6
    assert [one.digest for one in read_goldens(golden.parent)] == [recorded.digest]


def test_a_recording_is_replayed_against_torch(recorded):
    report = replay([dataclasses.replace(recorded, curves={})])
    assert report.to_dict()["verdict"] == "agree"
    assert report.to_dict()["julia"] == "recorded, Julia 1.10.9, Flux 0.16.11"
    assert report.to_dict()["versions"]["julia (recorded)"] == VERSIONS


def test_a_fault_in_a_recording_is_named(recorded):
    key = Key(1, "train", "blocks.3.pointwise.norm")
    wrong = recorded.observations | {key: recorded.observations[key] * (1 + 1e-9)}
    report = replay([dataclasses.replace(recorded, observations=wrong, curves={})])
    first = report.first_divergence
    assert (first.backend, first.level, first.quantity) == ("julia", 1, "train")
    assert first.name == "blocks.3.pointwise.norm"


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 9}, {"dtype": "float32"}])
def test_a_replay_on_another_input_is_refused(recorded, change):
    scenario = dataclasses.replace(recorded.scenario, **change)
    with pytest.raises(WeightsError, match=f"digest {recorded.digest[:16]}"):
        replay([dataclasses.replace(recorded, scenario=scenario)])


def test_a_truncated_recording_is_refused(golden):
    whole = golden.read_bytes()
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        golden.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"golden\.safetensors"):
            read_recording(golden)


def test_a_weight_file_is_no_recording(config, tmp_path):
    backend("torch").build(config).save(tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="no recording"):
        read_recording(tmp_path / "m.safetensors")


def test_only_a_live_julia_is_recorded(truths, tmp_path):
    truth = truths["float64"]
    path = tmp_path / "golden.safetensors"
    with pytest.raises(BackendUnavailable, match=r"only a live Julia.*torch"):
        record(backend("torch"), truth.scenario, truth.inputs, truth.masks, path)
    assert not path.exists()


def test_a_folder_without_recordings_says_so(tmp_path):
    with pytest.raises(BackendUnavailable, match="no recordings"):
        read_goldens(tmp_path)


def test_models_are_compared_under_any_names(config, truths):
    truth = truths["float64"]
    models = {name: backend("torch").build(config, dtype="float64") for name in ("a", "b")}
    result = compare_models(truth, models)
    assert set(result.flips) == {"a", "b"}
    assert all(error == 0 for error in result.activations["b against a"].values())
