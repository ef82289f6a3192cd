"""The same recipe with one seed after another, in one backend after another: level 5's runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pymobilenet.backends.base import Backend
from pymobilenet.training.checkpoint import LAST
from pymobilenet.training.recipe import Recipe, with_seed
from pymobilenet.training.run import begin, resume


def run_seeds(
    recipe: Recipe,
    backends: Sequence[Backend],
    seeds: Sequence[int],
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """The validation accuracy of the last epoch of each run, by backend, in the order of `seeds`.

    A seed gives every backend the same initial weights and batches. Runs are in `folder`, named
    after backend and seed; those that are there already are taken on or, if finished, only read.
    The last epoch and not the best: to choose the best would compare maxima.
    """
    found: dict[str, list[float]] = {backend.name: [] for backend in backends}
    for seed in seeds:
        for backend in backends:
            place = folder / f"{backend.name}-{seed}"
            there = (place / LAST).exists()
            run = (
                resume(place, backend) if there else begin(with_seed(recipe, seed), backend, place)
            )
            run.go()
            found[backend.name].append(run.state.log[-1]["val_accuracy"])
            tick()
    return found
