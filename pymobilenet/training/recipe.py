"""Recipes: a model, how it is trained and how the run goes, in one TOML file.

A recipe counts in epochs, since steps depend on the data; `Recipe.train_config` makes steps of
them. `SHIPPED` lists the recipes that come with the package, in pymobilenet/recipes.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pymobilenet.config import MobileNetConfig, RunConfig, TrainConfig, read_toml
from pymobilenet.data.cifar_table import CIFARS
from pymobilenet.data.loading import SYNTHETIC
from pymobilenet.errors import ConfigError

FOLDER = Path(__file__).parent.parent / "recipes"
SHIPPED = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))

TABLES = {"model": MobileNetConfig, "train": TrainConfig, "run": RunConfig}

COUNTED = {
    "steps": "epochs",
    "warmup_steps": "warmup_epochs",
    "step_size": "step_epochs",
    "milestones": "milestone_epochs",
}
"""Fields of [train] that count steps, and those of [run] that count epochs in their place."""

NAMES = (*CIFARS, SYNTHETIC)
"""What `open_data` takes for the name of a data set, and not for a path."""

AMBIGUOUS = {"alpha": "model.width_mult (MobileNet's alpha) or train.alpha (RMSprop's)"}


@dataclass(frozen=True)
class Recipe:
    """The tables of a recipe, checked; what is not in them has its default.

    Attributes:
        name: The file's, without its suffix.
        model: Fields of `MobileNetConfig`; without num_classes, the data's classes.
        train: Fields of `TrainConfig` but for those that count steps.
        run: The run.

    Raises:
        ConfigError: A field that a table has not, or a value outside its range.
    """

    name: str
    model: dict[str, Any]
    train: dict[str, Any]
    run: RunConfig

    def __post_init__(self) -> None:
        for steps, epochs in COUNTED.items():
            if steps in self.train:
                raise ConfigError(
                    f"a recipe counts in epochs: [run] {epochs} takes the place of [train] {steps}."
                    f" Received: {steps} = {self.train[steps]!r}"
                )
        self.model_config(1)
        self.train_config(1)

    def model_config(self, num_classes: int) -> MobileNetConfig:
        """The model, for data of so many classes if the recipe does not say how many."""
        return MobileNetConfig.from_dict({"num_classes": num_classes, **self.model})

    def train_config(self, steps_per_epoch: int) -> TrainConfig:
        """How it is trained, in steps."""
        run = self.run
        counted = {
            "steps": run.epochs * steps_per_epoch,
            "warmup_steps": run.warmup_epochs * steps_per_epoch,
            "step_size": run.step_epochs * steps_per_epoch,
            "milestones": tuple(epoch * steps_per_epoch for epoch in run.milestone_epochs),
        }
        return TrainConfig.from_dict(self.train | counted)


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe: one of `SHIPPED` by its name, or a TOML file.

    Where its data are at a path, and not one of `NAMES`, the recipe has the path absolute.

    Args:
        name: A name without a suffix, or a path that ends in ``.toml``.
        changes: ``key=value`` each, the value as in TOML, quotes left out at will. The key is a
            field, with its table before it where two have it: ``model.``, ``train.``, ``run.``.

    Raises:
        ConfigError: No such recipe, table or field, or a value outside its range.
    """
    is_file = str(name).endswith(".toml")
    if not is_file and str(name) not in SHIPPED:
        raise ConfigError(
            f"a recipe must be one of {', '.join(SHIPPED)}, or a file that ends in .toml. "
            f"Received: {str(name)!r}"
        )
    path = Path(name) if is_file else FOLDER / f"{name}.toml"
    tables = read_toml(path)
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise ConfigError(f"{path}: a recipe has [model], [train], [run]. Received: {unknown[0]}")
    for table, values in tables.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {table} must be a table. Received: {values!r}")
    merged = {table: dict(tables.get(table, {})) for table in TABLES}
    for change in changes:
        table, field, value = _change(change)
        merged[table][field] = value
    try:
        run = RunConfig.from_dict(merged["run"])
        if run.data not in NAMES:
            run = replace(run, data=absolute(run.data))
        return Recipe(path.stem, merged["model"], merged["train"], run)
    except ConfigError as error:
        raise ConfigError(f"recipe {name}: {error}") from None


def absolute(data: str) -> str:
    """What is there, by a path that holds in any folder; what is not there, as it is."""
    path = Path(os.path.expanduser(data))
    return str(path.resolve()) if data and path.exists() else data


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The same with another seed."""
    return replace(recipe, train={**recipe.train, "seed": seed})


def _change(text: str) -> tuple[str, str, Any]:
    """Table, field and value of ``key=value``."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ConfigError(f"a change must be key=value. Received: {text!r}")
    table, dot, field = key.rpartition(".")
    if not dot:
        if key in AMBIGUOUS:
            raise ConfigError(f"{key} must be told apart: {AMBIGUOUS[key]}. Received: {text!r}")
        owners = [name for name, record in TABLES.items() if key in _names(record)]
        if not owners:
            known = sorted({name for record in TABLES.values() for name in _names(record)})
            raise ConfigError(f"no table has the field {key!r}; there are {', '.join(known)}")
        (table,) = owners
    if table not in TABLES:
        raise ConfigError(f"the table must be model, train or run. Received: {text!r}")
    return table, field, _value(value)


def _names(record: type) -> set[str]:
    return {field.name for field in fields(record)}


def _value(text: str) -> Any:
    """A TOML value; what is none is the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
