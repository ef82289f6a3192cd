"""The same recipe with one seed after another, in one backend after another: level 5's runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymobilenet.backends.base import Backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.training.checkpoint import LAST, read_checkpoint
from pymobilenet.training.recipe import Recipe, with_seed
from pymobilenet.training.run import begin, resume


def run_seeds(
    recipe: Recipe,
    backends: Sequence[Backend],
    seeds: Sequence[int],
    folder: Path,
    on_run: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """The validation accuracy of the last epoch of each run, by backend, in the order of `seeds`.

    A seed gives every backend the same initial weights and batches. Runs are in `folder`, named
    after backend and seed; those that are there already are taken on or, if finished, only read.
    The last epoch and not the best: to choose the best would compare maxima.

    Raises:
        ConfigError: A recipe without epochs, or a run of another recipe in `folder`; nothing is
            trained then. As `begin`.
        DataError, WeightsError: As `begin` and `resume`.
    """
    if recipe.run.epochs < 1:
        raise ConfigError(
            "runs are compared by their last epoch: epochs must be at least 1. "
            f"Received: {recipe.run.epochs}"
        )
    places = {
        (seed, backend.name): folder / f"{backend.name}-{seed}"
        for seed in seeds
        for backend in backends
    }
    begun = {key for key, place in places.items() if (place / LAST).exists()}
    for key in sorted(begun):
        _check_recipe(places[key], with_seed(recipe, key[0]))
    found: dict[str, list[float]] = {backend.name: [] for backend in backends}
    for seed in seeds:
        for backend in backends:
            key = (seed, backend.name)
            if key in begun:
                run = resume(places[key], backend, recipe.run.data or None)
            else:
                run = begin(with_seed(recipe, seed), backend, places[key])
            run.train()
            found[backend.name].append(run.state.log[-1]["val_accuracy"])
            on_run()
    return found


def _check_recipe(folder: Path, recipe: Recipe) -> None:
    """Refuse a run that is not one of `recipe`, its data apart: `resume` compares the images."""
    there = read_checkpoint(folder / LAST)
    _check_table(folder, "run", there.run.to_dict(), recipe.run.to_dict(), but=("data",))
    train = recipe.train_config(there.train.steps // recipe.run.epochs)
    _check_table(folder, "train", there.train.to_dict(), train.to_dict())
    model = there.file.config.to_dict()
    # what a recipe does not say of the model, its data does or, as a whole, the file at its start
    unsaid = model if recipe.run.start else {"num_classes": model["num_classes"]}
    wanted = MobileNetConfig.from_dict(unsaid | recipe.model)
    _check_table(folder, "model", model, wanted.to_dict())


def _check_table(
    folder: Path,
    table: str,
    there: Mapping[str, Any],
    wanted: Mapping[str, Any],
    but: Sequence[str] = (),
) -> None:
    for name, value in wanted.items():
        if name not in but and there[name] != value:
            raise ConfigError(
                f"{folder} holds a run of another recipe: its [{table}] {name} must be {value!r}. "
                f"Received: {there[name]!r}; choose another folder, or remove that one"
            )
