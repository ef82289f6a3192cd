"""Recipes: TOML files with a model, its training and the run.

Recipes count in epochs, because the number of steps depends on the data; `Recipe.train_config`
converts epochs to steps. `SHIPPED` lists the recipes of the package, in pymobilenet/recipes.
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
"""Fields of [train] that count steps -> fields of [run] that count epochs instead."""

NAMES = (*CIFARS, SYNTHETIC)
"""Names of data sets, as opposed to paths, for `open_data`."""

AMBIGUOUS = {"alpha": "model.width_mult (MobileNet's alpha) or train.alpha (RMSprop's)"}


@dataclass(frozen=True)
class Recipe:
    """The validated tables of a recipe. Missing fields take their defaults.

    Attributes:
        name: The file's name, without its suffix.
        model: Fields of `MobileNetConfig`. Without num_classes, the number of the data's classes is
            used.
        train: Fields of `TrainConfig`, except those that count steps.
        run: Data and length of the run.

    Raises:
        ConfigError: An unknown field, or a value outside its range.
    """

    name: str
    model: dict[str, Any]
    train: dict[str, Any]
    run: RunConfig

    def __post_init__(self) -> None:
        for steps, epochs in COUNTED.items():
            if steps in self.train:
                raise ConfigError(
                    f"a recipe counts in epochs: use [run] {epochs} instead of [train] {steps}. "
                    f"Received: {steps} = {self.train[steps]!r}"
                )
        self.model_config(1)
        self.train_config(1)

    def model_config(self, num_classes: int) -> MobileNetConfig:
        """Return the model's config.

        Args:
            num_classes: Number of the data's classes, used if the recipe does not set it.
        """
        return MobileNetConfig.from_dict({"num_classes": num_classes, **self.model})

    def train_config(self, steps_per_epoch: int) -> TrainConfig:
        """Return the training config, with epochs converted to steps.

        Args:
            steps_per_epoch: Number of steps of an epoch.
        """
        run = self.run
        step_counts = {
            "steps": run.epochs * steps_per_epoch,
            "warmup_steps": run.warmup_epochs * steps_per_epoch,
            "step_size": run.step_epochs * steps_per_epoch,
            "milestones": tuple(epoch * steps_per_epoch for epoch in run.milestone_epochs),
        }
        return TrainConfig.from_dict(self.train | step_counts)


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe of the package or a TOML file.

    A relative path of the data is made absolute.

    Args:
        name: One of `SHIPPED`, or a path that ends in ``.toml``.
        changes: Overrides ``key=value``. The value is TOML; quotes may be omitted. The key is a
            field, optionally with its table: ``model.``, ``train.`` or ``run.``.

    Returns:
        The recipe.

    Raises:
        ConfigError: An unknown recipe, table or field, or a value outside its range.

    Examples:
        >>> load_recipe("smoke", ["epochs=3"]).run.epochs
        3
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
    """Return the absolute path of existing data; any other text is returned unchanged.

    Args:
        data: A path, or another name of a data set.
    """
    path = Path(os.path.expanduser(data))
    return str(path.resolve()) if data and path.exists() else data


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return a copy of a recipe with another seed.

    Args:
        recipe: The recipe.
        seed: The new seed.
    """
    return replace(recipe, train={**recipe.train, "seed": seed})


def _change(text: str) -> tuple[str, str, Any]:
    """Parse ``key=value`` to table, field and value."""
    key, equals, value = (field.strip() for field in text.partition("="))
    if not equals or not key:
        raise ConfigError(f"a change must be key=value. Received: {text!r}")
    table, dot, field = key.rpartition(".")
    if not dot:
        if key in AMBIGUOUS:
            raise ConfigError(f"{key} is ambiguous: use {AMBIGUOUS[key]}. Received: {text!r}")
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
    """Parse a TOML value; a text that is not TOML is returned unchanged."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:  # an integer of more digits than Python converts
        raise ConfigError(f"{error}. Received: {text[:40]!r}...") from None
