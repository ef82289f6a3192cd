"""TOST against SciPy, and the runs that `equivalence` trains."""

import doctest
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from run_files import RECIPE, write_images, write_recipe
from scipy import stats
from typer.testing import CliRunner

from pymobilenet import backend
from pymobilenet.cli import app
from pymobilenet.errors import BackendUnavailable, ConfigError, DataError
from pymobilenet.evaluation import equivalence as module
from pymobilenet.evaluation.equivalence import equivalence
from pymobilenet.training import load_recipe
from pymobilenet.training.seeds import run_seeds


def by_scipy(first, second, margin):
    """Difference, interval and the larger one-sided p of SciPy's Welch tests."""
    above = stats.ttest_ind(second + margin, first, equal_var=False, alternative="greater")
    below = stats.ttest_ind(second - margin, first, equal_var=False, alternative="less")
    between = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.9)
    difference = np.mean(second) - np.mean(first)
    return difference, (between.low, between.high), max(above.pvalue, below.pvalue)


@pytest.mark.parametrize("shift", [0.0, 0.01, -0.03])
def test_the_p_value_and_the_interval_are_scipys(shift):
    draw = np.random.default_rng(0)
    first, second = draw.normal(0.3, 0.01, 10), draw.normal(0.3 + shift, 0.02, 7)
    result = equivalence(first, second, 0.02)
    difference, interval, p_value = by_scipy(first, second, 0.02)
    assert result.difference == pytest.approx(difference, abs=1e-15)
    assert result.interval == pytest.approx(interval)
    assert result.p_value == pytest.approx(p_value)
    inside = interval[0] > -0.02 and interval[1] < 0.02
    assert result.is_equivalent == inside


@pytest.mark.parametrize(("second", "is_equivalent"), [(0.5, True), (0.51, True), (0.53, False)])
def test_groups_without_spread_are_compared_with_the_margin(second, is_equivalent):
    result = equivalence([0.5, 0.5], [second, second, second], 0.02)
    assert result.is_equivalent == is_equivalent
    assert result.interval == (result.difference, result.difference)
    assert result.difference == pytest.approx(second - 0.5, abs=1e-15)


def test_one_group_without_spread_is_tested_by_that_of_the_other():
    varied = [0.49, 0.5, 0.51]
    result = equivalence([0.5, 0.5, 0.5], varied, 0.02)
    half = stats.t.ppf(0.95, 2) * np.std(varied, ddof=1) / np.sqrt(3)
    assert result.interval == pytest.approx((-half, half))


def test_a_difference_as_large_as_the_margin_is_rarely_called_equivalent():
    draw = np.random.default_rng(1)
    shown = [
        equivalence(draw.normal(0, 1, 10), draw.normal(1, 1, 10), 1).is_equivalent
        for _ in range(400)
    ]
    assert np.mean(shown) < 0.08  # 5 %, and three deviations of 400 draws


def test_few_scattered_values_show_nothing():
    assert not equivalence([0.2, 0.4], [0.2, 0.4], 0.02).is_equivalent


def test_the_example_runs():
    assert doctest.testmod(module) == (0, 2)


@pytest.mark.parametrize(
    ("groups", "margin", "message"),
    [
        (([0.1, 0.2], [0.1, 0.2]), 0, "margin must be above 0. Received: 0"),
        (([0.1], [0.1, 0.2]), 0.02, "must have at least two runs. Received: 1 and 2"),
    ],
)
def test_invalid_groups_and_margins_are_refused(groups, margin, message):
    with pytest.raises(ConfigError, match=message):
        equivalence(*groups, margin)


def test_the_error_for_a_missing_scipy_states_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'pymobilenet\[statistics\]'"):
        equivalence([0.1, 0.2], [0.1, 0.2], 0.02)


def test_the_command_trains_each_seed_in_each_backend_once(tmp_path):
    text = RECIPE.replace("epochs = 3", "epochs = 1").replace('"adam"', '"sgd"')
    recipe, images = write_recipe(tmp_path, text), write_images(tmp_path / "images")
    arguments = ["equivalence", recipe, "--data", images, "--out", tmp_path / "out"]
    arguments += ["--backends", "torch, numpy", "--seeds", 2, "--set", "dtype=float64"]
    results = [CliRunner().invoke(app, [*map(str, arguments)]) for _ in range(2)]
    assert [one.exit_code for one in results] in ([0, 0], [1, 1]), results[0].output
    assert results[0].stdout == results[1].stdout  # the second time, all are there
    result = json.loads((tmp_path / "out" / "equivalence.json").read_text())
    assert {name: len(values) for name, values in result["accuracy"].items()} == {
        "torch": 2,
        "numpy": 2,
    }
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["numpy-0", "numpy-1", "torch-0", "torch-1"]
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Runs of two seeds of one short recipe, in their folder, and the recipe."""
    folder = tmp_path_factory.mktemp("begun")
    text = RECIPE.replace("epochs = 3", "epochs = 1").replace("warmup_epochs = 1", "")
    recipe = load_recipe(write_recipe(folder, text), [f"data={write_images(folder / 'images')}"])
    first = run_seeds(recipe, [backend("torch")], [0, 1], folder / "runs")
    assert run_seeds(recipe, [backend("torch")], [0, 1], folder / "runs") == first
    return recipe, folder


@pytest.mark.parametrize(
    ("table", "field", "value", "there"),
    [
        ("run", "epochs", 3, "1"),
        ("run", "limit", 16, "0"),
        ("train", "rate", 0.5, "0.002"),
        ("train", "optimizer", "adamw", "'adam'"),
        ("train", "batch_size", 16, "8"),
        ("model", "width_mult", 0.05, "0.1"),
        ("model", "num_classes", 9, "4"),
    ],
)
def test_runs_of_another_recipe_are_refused_by_the_field(begun, table, field, value, there):
    recipe, folder = begun
    if table == "run":
        other = replace(recipe, run=replace(recipe.run, **{field: value}))
    else:
        other = replace(recipe, **{table: {**getattr(recipe, table), field: value}})
    message = rf"torch-0 contains .* another recipe: its \[{table}\] {field} must be {value!r}. Rec"
    with pytest.raises(ConfigError, match=f"{message}eived: {there}\\. Choose"):
        run_seeds(other, [backend("numpy"), backend("torch")], [0, 1, 2], folder / "runs")
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["torch-0", "torch-1"]


def test_runs_of_other_images_are_refused_and_of_the_same_elsewhere_are_not(begun, tmp_path):
    recipe, folder = begun
    moved = replace(recipe, run=replace(recipe.run, data=str(write_images(tmp_path / "moved"))))
    result = run_seeds(moved, [backend("torch")], [0, 1], folder / "runs")
    assert result == run_seeds(recipe, [backend("torch")], [0, 1], folder / "runs")
    paths = sorted((tmp_path / "moved" / "train" / "a").iterdir())
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(DataError, match="must be resumed with its own images"):
        run_seeds(moved, [backend("torch")], [0, 1], folder / "runs")


def test_a_run_from_other_weights_is_one_of_its_recipe(tmp_path, begun):
    """The file says of the net what the recipe does not."""
    recipe, folder = begun
    start = str(folder / "runs" / "torch-0" / "best.safetensors")
    started = replace(recipe, model={"resolution": 32}, run=replace(recipe.run, start=start))
    first = run_seeds(started, [backend("torch")], [0], tmp_path)
    assert run_seeds(started, [backend("torch")], [0], tmp_path) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--set", "epochs=0"],
            "epochs must be at least 1: runs are compared by their last epoch. Received: 0",
        ),
        (["--margin", "0"], "margin must be above 0. Received: 0"),
        (["--backends", "torch, torch"], "backends must be two different ones"),
    ],
)
def test_the_command_refuses_before_it_trains(tmp_path, arguments, message):
    command = ["equivalence", "smoke", "--backends", "torch,numpy", "--seeds", "2", "--out"]
    results = CliRunner().invoke(app, [*command, str(tmp_path / "out"), *arguments])
    assert results.exit_code == 2, results.output
    assert message in results.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_misses_scipy_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    command = ["equivalence", "smoke", "--backends", "torch,numpy", "--out"]
    results = CliRunner().invoke(app, [*command, str(tmp_path / "out")])
    assert (results.exit_code, list(tmp_path.iterdir())) == (2, []), results.output
    assert "pip install 'pymobilenet[statistics]'" in results.stderr


def test_the_command_wants_two_backends():
    results = CliRunner().invoke(app, ["equivalence", "smoke", "--backends", "torch"])
    assert results.exit_code == 2
    assert "backends must be two different ones" in results.stderr
