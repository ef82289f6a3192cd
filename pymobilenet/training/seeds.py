"""Runs of one recipe with several seeds in several backends, for level 5 of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymobilenet.backends.base import Backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.training.checkpoint import LAST, Checkpoint, read_checkpoint
from pymobilenet.training.recipe import Recipe, with_seed
from pymobilenet.training.run import TrainingRun
from pymobilenet.training.start import begin, open_run_images, resume


def run_seeds(
    recipe: Recipe,
    backends: Sequence[Backend],
    seeds: Sequence[int],
    folder: Path,
    on_start: Callable[[TrainingRun], None] = lambda _: None,
    on_end: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Train a recipe with each seed in each backend.

    A seed gives every backend the same initial weights and batches. Existing runs are used: one
    that has ended gives its result, another continues from its checkpoint, so that a call that was
    killed and repeated returns what an uninterrupted one returns. The accuracy of the last epoch is
    returned, not the best, because maxima over the epochs are biased.

    Args:
        recipe: The recipe; its seed is replaced.
        backends: The backends.
        seeds: The seeds.
        folder: Contains a folder ``<backend>-<seed>`` per run.
        on_start: Called with each run before it is trained.
        on_end: Called after each run.

    Returns:
        The validation accuracies by backend, in the order of `seeds`.

    Raises:
        ConfigError: A recipe without epochs, or a run of another recipe or of another backend in
            `folder`; nothing is trained then. Also as `begin`.
        DataError: The images are not those of a run in `folder`; nothing is trained if they are
            not those of the first one. Also as `begin`.
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
    existing = [key for key, run_folder in folders.items() if (run_folder / LAST).exists()]
    for seed, name in existing:
        run_folder = folders[seed, name]
        checkpoint = read_checkpoint(run_folder / LAST)
        _check_recipe(run_folder, checkpoint, with_seed(recipe, seed))
        _check_backend(run_folder, checkpoint, name)
    if existing:
        run_folder = folders[existing[0]]
        open_run_images(run_folder, read_checkpoint(run_folder / LAST), recipe.run.data or None)
    accuracies: dict[str, list[float]] = {backend.name: [] for backend in backends}
    for seed in seeds:
        for backend in backends:
            key = (seed, backend.name)
            if key in existing:
                run = resume(folders[key], backend, recipe.run.data or None)
            else:
                run = begin(with_seed(recipe, seed), backend, folders[key])
            on_start(run)
            run.train()
            accuracies[backend.name].append(run.state.log[-1]["val_accuracy"])
            on_end()
    return accuracies


def _check_recipe(folder: Path, checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Check that a run is one of `recipe`. The data are compared by `open_run_images`."""
    ignored = ["data"]
    if recipe.run.train_eval_images is None:  # no model depends on it, and its default has changed
        ignored.append("train_eval_images")
    _check_table(folder, "run", checkpoint.run.to_dict(), recipe.run.to_dict(), ignored)
    train = recipe.train_config(checkpoint.train.steps // recipe.run.epochs)
    _check_table(folder, "train", checkpoint.train.to_dict(), train.to_dict())
    model = checkpoint.file.config.to_dict()
    # Fields that the recipe does not set come from the file at `start`, or from the data.
    defaults = model if recipe.run.start else {"num_classes": model["num_classes"]}
    expected = MobileNetConfig.from_dict(defaults | recipe.model)
    _check_table(folder, "model", model, expected.to_dict())


def _check_backend(folder: Path, checkpoint: Checkpoint, name: str) -> None:
    """Check that each epoch of a run was trained in the backend `name`."""
    for line in checkpoint.state.log:
        trained_in = line.get("backend")
        if trained_in != name:
            raise ConfigError(
                f"{folder} must contain a run of the backend {name} alone. Received: epoch "
                f"{line['epoch']} in {trained_in}. Choose another folder, or remove this one"
            )


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
