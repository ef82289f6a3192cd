"""Recipes: the shipped ones, changes to them, and errors."""

import re
import tomllib

import pytest
from run_files import RECIPE, write_recipe

from pymobilenet import MobileNetConfig, TrainConfig
from pymobilenet.config import RunConfig
from pymobilenet.errors import ConfigError
from pymobilenet.training import SHIPPED, load_recipe, rate_at
from pymobilenet.training.recipe import COUNTED, FOLDER, NAMES, TABLES, absolute


def test_the_recipes_of_the_studies_are_shipped():
    assert SHIPPED == (
        "animals10",
        "cifar100_fast",
        "cifar100_flux",
        "cifar100_reference",
        "cifar100_transfer",
        "cifar10_scratch",
        "cifar10_transfer",
        "smoke",
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_is_complete_and_cites_its_sources(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.train_config(10).steps == 10 * recipe.run.epochs > 0
    assert recipe.model_config(7).num_classes == 7
    text = (FOLDER / f"{name}.toml").read_text()
    assert re.search(r"Source: github|Ours|files were not found", text.split("[", 1)[0])
    assert set(tomllib.loads(text)) == set(TABLES)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_starts_from_its_frameworks_weights_and_else_from_those_of_torch(name):
    expected = {"animals10": "keras", "cifar100_flux": "flux"}.get(name, "torch")
    assert load_recipe(name).run.init == expected


def test_epochs_become_steps():
    train = load_recipe("cifar100_reference").train_config(390)
    assert (train.steps, train.warmup_steps) == (78000, 390)
    assert train.milestones == (59 * 390, 119 * 390, 159 * 390)
    rates = [rate_at(train, 390 * epoch) for epoch in (1, 59, 60, 120, 160, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008])


@pytest.mark.parametrize(
    ("change", "table", "field", "value"),
    [
        ("rate=0.5", "train", "rate", 0.5),
        ("train.rate = 1e-2", "train", "rate", 0.01),
        ("optimizer=adamw", "train", "optimizer", "adamw"),
        ('optimizer="adamw"', "train", "optimizer", "adamw"),
        ("nesterov=false", "train", "nesterov", False),
        ("model.width_mult=0.5", "model", "width_mult", 0.5),
        ("train.alpha=0.9", "train", "alpha", 0.9),
        ("start=a=b.h5", "run", "start", "a=b.h5"),
        ("milestone_epochs=[2, 3]", "run", "milestone_epochs", (2, 3)),
    ],
)
def test_a_change_is_applied_to_the_table_that_has_the_field(change, table, field, value):
    recipe = load_recipe("smoke", [change])
    values = recipe.run if table == "run" else getattr(recipe, table)
    assert (getattr(values, field) if table == "run" else values[field]) == value


def test_the_last_of_two_changes_holds():
    assert load_recipe("smoke", ["epochs=3", "epochs=4"]).run.epochs == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rate", "a change must be key=value. Received: 'rate'"),
        ("=3", "a change must be key=value"),
        ("alpha=0.5", r"alpha is ambiguous: use model.width_mult .* or train.alpha"),
        ("width=1", "no table has the field 'width'; there are accumulate, activation"),
        ("other.rate=1", "the table must be model, train or run. Received: 'other.rate=1'"),
        ("model.rate=1", "MobileNetConfig has no field 'rate'"),
        ("rate=fast", r"rate must be in \[0, 1e6\]. Received: 'fast'"),
        ("steps=5", r"\[run\] epochs instead of \[train\] steps. Received: steps = 5"),
        ("validation=-1", "validation must be at least 0. Received: -1"),
        ("epochs=1.5", "epochs must be a whole number"),
        ("data=3", "data must be a string. Received: 3"),
        ("dtype=float16", "dtype must be one of float32, float64. Received: 'float16'"),
        ("milestone_epochs=[3, 2]", "milestone_epochs must be increasing whole numbers"),
    ],
)
def test_a_bad_change_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("smoke", [change])


def test_an_unknown_recipe_is_refused_with_the_names_there_are():
    with pytest.raises(ConfigError, match=r"one of animals10, .*smoke, or a file .*'other'"):
        load_recipe("other")


@pytest.mark.parametrize("name", ["my/recipe", "/tmp/recipe", "recipes/smoke"])
def test_the_error_for_a_path_without_suffix_states_the_path(name):
    with pytest.raises(ConfigError, match=rf"a file that ends in .toml. Received: '{name}'$"):
        load_recipe(name)


@pytest.mark.parametrize("data", ["three", "./three", "~/three"])
def test_a_path_to_data_is_made_absolute(tmp_path, monkeypatch, data):
    (tmp_path / "three").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write_recipe(tmp_path, RECIPE + f'data = "{data}"\n')
    for recipe in (load_recipe(path), load_recipe("smoke", [f"data={data}"])):
        assert recipe.run.data == str(tmp_path / "three")
    assert absolute(data) == str(tmp_path / "three")


@pytest.mark.parametrize("name", ["cifar-100", "cifar-10", "synthetic", "not there", ""])
def test_a_name_of_a_data_set_is_not_made_a_path(tmp_path, monkeypatch, name):
    """In a recipe, whatever lies there; as `absolute` is asked for a path that is there."""
    monkeypatch.chdir(tmp_path)
    assert absolute(name) == name
    if name in NAMES:
        (tmp_path / name).mkdir()
        assert absolute(name) == str(tmp_path / name)
    assert load_recipe("smoke", [f"data={name!r}"]).run.data == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[modle]\n", "a recipe has .model., .train., .run.. Received: modle"),
        ("model = 3\n", "model must be a table. Received: 3"),
        ("[train]\nsteps = 3\n", "a recipe counts in epochs"),
        ("[run]\nepoch = 3\n", "RunConfig has no field 'epoch'"),
        ("[run\n", "not TOML"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(write_recipe(tmp_path, text))


def test_fields_have_one_table_each_so_that_a_change_need_not_name_it():
    names = [name for table in TABLES.values() for name in table.__dataclass_fields__]
    assert len(names) == len(set(names))
    assert set(COUNTED) <= set(TrainConfig.__dataclass_fields__)
    assert set(COUNTED.values()) <= set(RunConfig.__dataclass_fields__)
    assert "num_classes" in MobileNetConfig.__dataclass_fields__


def test_a_run_config_round_trips_through_text(tmp_path):
    run = RunConfig(epochs=3, milestone_epochs=(1, 2), start="a b.h5")
    assert RunConfig.from_json(run.to_json()) == run
    (tmp_path / "run.toml").write_text(run.to_toml())
    assert RunConfig.from_toml(tmp_path / "run.toml") == run
