"""Runs of one recipe with several seeds in several backends, for level 5 of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymobilenet.backends.base import Backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.training.checkpoint import LAST, read_checkpoint
from pymobilenet.training.recipe import Recipe, with_seed
from pymobilenet.training.start import begin, resume


def run_seeds(
    recipe: Recipe,
    backends: Sequence[Backend],
    seeds: Sequence[int],
    folder: Path,
    on_run: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Train a recipe with each seed in each backend.

    A seed gives every backend the same initial weights and batches. Existing runs are resumed; if
    they are finished, only their results are read. The accuracy of the last epoch is returned, not
    the best, because maxima over the epochs are biased.

    Args:
        recipe: The recipe; its seed is replaced.
        backends: The backends.
        seeds: The seeds.
        folder: Contains a folder ``<backend>-<seed>`` per run.
        on_run: Called after each run.

    Returns:
        The validation accuracies by backend, in the order of `seeds`.

    Raises:
        ConfigError: A recipe without epochs, or a run of another recipe in `folder`; nothing is
            trained then. Also as `begin`.
        DataError: As `begin` and `resume`.
        WeightsError: As `begin` and `resume`.
    """
    if recipe.run.epochs < 1:
        raise ConfigError(
            "epochs must be at least 1: runs are compared by their last epoch. "
            f"Received: {recipe.run.epochs}"
        )
    folders = {
        (seed, backend.name): folder / f"{backend.name}-{seed}"
        for seed in seeds
        for backend in backends
    }
    existing = {key for key, run_folder in folders.items() if (run_folder / LAST).exists()}
    for key in sorted(existing):
        _check_recipe(folders[key], with_seed(recipe, key[0]))
    accuracies: dict[str, list[float]] = {backend.name: [] for backend in backends}
    for seed in seeds:
        for backend in backends:
            key = (seed, backend.name)
            if key in existing:
                run = resume(folders[key], backend, recipe.run.data or None)
            else:
                run = begin(with_seed(recipe, seed), backend, folders[key])
            run.train()
            accuracies[backend.name].append(run.state.log[-1]["val_accuracy"])
            on_run()
    return accuracies


def _check_recipe(folder: Path, recipe: Recipe) -> None:
    """Check that a run is one of `recipe`. The data are not compared here, but by `resume`."""
    checkpoint = read_checkpoint(folder / LAST)
    _check_table(folder, "run", checkpoint.run.to_dict(), recipe.run.to_dict(), ignored=("data",))
    train = recipe.train_config(checkpoint.train.steps // recipe.run.epochs)
    _check_table(folder, "train", checkpoint.train.to_dict(), train.to_dict())
    model = checkpoint.file.config.to_dict()
    # Fields that the recipe does not set come from the file at `start`, or from the data.
    defaults = model if recipe.run.start else {"num_classes": model["num_classes"]}
    expected = MobileNetConfig.from_dict(defaults | recipe.model)
    _check_table(folder, "model", model, expected.to_dict())


def _check_table(
    folder: Path,
    table: str,
    values: Mapping[str, Any],
    expected: Mapping[str, Any],
    ignored: Sequence[str] = (),
) -> None:
    for name, value in expected.items():
        if name not in ignored and values[name] != value:
            raise ConfigError(
                f"{folder} contains a run of another recipe: its [{table}] {name} must be "
                f"{value!r}. Received: {values[name]!r}. Choose another folder, or remove this one"
            )
