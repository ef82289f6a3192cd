"""The choice of the training images that are evaluated after each epoch."""

import pytest
from run_files import RECIPE, TIMES, lines_of, write_images, write_recipe
from small_models import assert_same_bits
from typer.testing import CliRunner

from pymobilenet import backend
from pymobilenet.cli import app
from pymobilenet.config import RunConfig
from pymobilenet.errors import ConfigError
from pymobilenet.formats.exchange import read_weights
from pymobilenet.training import begin, load_recipe, resume
from pymobilenet.training.checkpoint import LAST
from pymobilenet.training.setup import (
    DEFAULT_TRAIN_EVAL_IMAGES,
    MAX_DEFAULT_COST,
    PASSES_PER_STEP,
    train_eval_count,
)

UNSET = RECIPE.replace("train_eval_images = 8\n", "")


@pytest.mark.parametrize(
    ("training", "count"),
    [(1, 0), (2000, 0), (13_333, 0), (13_334, 2000), (50_000, 2000), (1_281_167, 2000)],
)
def test_by_default_there_are_2000_where_they_cost_at_most_5_percent(training, count):
    assert train_eval_count(RunConfig(), training) == count
    cost = DEFAULT_TRAIN_EVAL_IMAGES / (PASSES_PER_STEP * training)
    assert (cost <= MAX_DEFAULT_COST) == (count > 0)


@pytest.mark.parametrize(("chosen", "count"), [(0, 0), (1, 1), (100, 100), (101, 100)])
def test_a_number_is_used_whatever_it_costs_up_to_all_images(chosen, count):
    assert train_eval_count(RunConfig(train_eval_images=chosen), 100) == count


@pytest.mark.parametrize("value", [-1, 0.5, "8", "", True, False])
def test_a_value_that_is_no_number_of_images_is_refused(value):
    with pytest.raises(ConfigError, match="train_eval_images must be"):
        RunConfig(train_eval_images=value)


def test_the_default_is_kept_in_files(tmp_path):
    run = RunConfig()
    (tmp_path / "run.toml").write_text(run.to_toml())
    assert RunConfig.from_json(run.to_json()) == RunConfig.from_toml(tmp_path / "run.toml") == run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of one run with 8 images, one with none and one by default, which is none here."""
    folder = tmp_path_factory.mktemp("runs")
    images = write_images(folder / "images")
    folders = {}
    for name, text, changes in (
        ("eight", RECIPE, []),
        ("none", UNSET, ["train_eval_images=0"]),
        ("default", UNSET, []),
    ):
        recipe = load_recipe(write_recipe(folder, text), [f"data={images}", "epochs=2", *changes])
        begin(recipe, backend("torch"), folder / name).train()
        folders[name] = folder / name
    return folders


def test_without_such_images_there_is_no_training_accuracy(runs):
    assert [line["train_accuracy"] for line in lines_of(runs["none"])] == [None, None]
    assert lines_of(runs["default"]) == lines_of(runs["none"])
    rows = [row.split(",") for row in (runs["none"] / "log.csv").read_text().splitlines()]
    column = rows[0].index("train_accuracy")
    assert [row[column] for row in rows[1:]] == ["", ""]


def test_everything_else_is_the_same_with_and_without_them(runs):
    ignored = (*TIMES, "train_accuracy")
    assert lines_of(runs["none"], ignored) == lines_of(runs["eight"], ignored)
    states = [read_weights(runs[name] / LAST).state for name in ("none", "eight")]
    assert_same_bits(*states)


def test_a_resumed_run_keeps_the_choice(runs):
    numbers = {"eight": 8, "none": 0, "default": None}
    for name, number in numbers.items():
        run = resume(runs[name], backend("torch"))
        assert run.run.train_eval_images == number
        assert (run.images.train_eval is None) == (not number)


def test_compare_shows_a_run_without_training_accuracy(runs, tmp_path):
    compared = CliRunner().invoke(
        app, ["compare", str(runs["none"]), str(runs["eight"]), "--out", str(tmp_path)]
    )
    assert compared.exit_code == 0, compared.output
    (row,) = [line.split() for line in compared.stdout.splitlines() if "none" in line]
    assert row[-2] == "-"
    assert (tmp_path / "curves.png").is_file()


def test_the_command_prints_the_choice(runs, tmp_path):
    changes = ["--data", str(runs["none"].parent / "images"), "--set", "epochs=1"]
    recipe = str(write_recipe(tmp_path, UNSET.replace("warmup_epochs = 1", "")))
    for number, (start, accuracy) in enumerate(
        (("none of them evaluated", False), ("5 of them evaluated", True))
    ):
        chosen = ["--set", "train_eval_images=5"] if accuracy else []
        arguments = ["train", recipe, "--out", str(tmp_path / f"run{number}"), *changes, *chosen]
        trained = CliRunner().invoke(app, arguments)
        assert trained.exit_code == 0, trained.output
        assert start in trained.stdout
        assert ("  accuracy " in trained.stdout) == accuracy
        assert "evaluation: " in trained.stdout.splitlines()[-1]
