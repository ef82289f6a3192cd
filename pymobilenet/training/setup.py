"""What a run begins with: its images, its net and its first weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from pymobilenet import philox
from pymobilenet.config import MobileNetConfig, RunConfig
from pymobilenet.data import Dataset, open_data
from pymobilenet.errors import DataError, WeightsError
from pymobilenet.formats import load_any
from pymobilenet.training.recipe import Recipe
from pymobilenet.weights import State, initial_state


@dataclass(frozen=True)
class Images:
    """What a run sees.

    Attributes:
        train: What the steps are taken on.
        validation: What chooses the best epoch.
        train_eval: Those of `train` that give the training accuracy.
    """

    train: Dataset
    validation: Dataset
    train_eval: Dataset

    def digests(self) -> dict[str, str]:
        return {"train": self.train.digest(), "validation": self.validation.digest()}


def open_images(run: RunConfig, resolution: int, seed: int) -> Images:
    """Open what `run` names, scaled to `resolution`, and hold out what it holds out.

    Raises:
        DataError: No data there, none named, or fewer training images than are to be held out.
    """
    if not run.data:
        raise DataError("this recipe names no data: give a folder or an archive by --data")
    policy = cast("Literal['refuse', 'skip']", run.on_corrupt)
    whole = open_data(run.data, "train", resolution, on_corrupt=policy)
    held_out, trained, train_eval = split_images(run, len(whole), seed)
    train = whole.subset(trained)
    if run.validation:
        validation = whole.subset(held_out)
    else:
        validation = open_data(
            run.data, "test", resolution, on_corrupt=policy, statistics=train.statistics
        )
    return Images(train, validation, whole.subset(train_eval))


def split_images(
    run: RunConfig, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of `count` training images are held out, trained on, and evaluated: sorted positions.

    Of the order that `philox.permutation` makes of words of `Stream.SPLIT`, epoch 1, the first
    `validation` are held out, the next `limit`, or all others, are trained on, and the first
    `train_eval_images` of these are evaluated too.
    """
    if run.validation >= count:
        raise DataError(
            f"of {count} training images some must be left to train on. "
            f"Received: validation {run.validation}"
        )
    order = philox.permutation(philox.raw_words(seed, philox.Stream.SPLIT, 1, 0, count))
    trained = order[run.validation :][: run.limit or count]
    return (
        np.sort(order[: run.validation]),
        np.sort(trained),
        np.sort(trained[: run.train_eval_images]),
    )


def first_state(recipe: Recipe) -> tuple[MobileNetConfig, State, Images]:
    """The net of a recipe, its weights before the first step, and the images it is to see.

    With a `start` the net is that file's, where the recipe does not say otherwise, and so are the
    weights; the classifier's are drawn anew where the number of classes is another.

    Raises:
        ConfigError, DataError: See `open_images` and `Recipe`.
        WeightsError: The file at `start` cannot be read, or its tensors are another net's.
    """
    run, seed = recipe.run, recipe.train_config(1).seed
    started = load_any(run.start) if run.start else None
    fields = {**(started.config.to_dict() if started else {}), **recipe.model}
    images = open_images(run, MobileNetConfig.from_dict(fields).resolution, seed)
    fields["num_classes"] = recipe.model.get("num_classes", images.train.num_classes)
    config = MobileNetConfig.from_dict(fields)
    state = initial_state(config, seed, run.dtype, run.init)
    return config, state | (_taken_over(started.state, state, run) if started else {}), images


def _taken_over(theirs: Mapping[str, np.ndarray], state: State, run: RunConfig) -> State:
    """Of `theirs` all but moments and a classifier of other classes, in the run's dtype."""
    weights = {name: t for name, t in theirs.items() if not name.startswith("optimizer.")}
    if weights["classifier.bias"].shape != state["classifier.bias"].shape:
        weights = {n: t for n, t in weights.items() if not n.startswith("classifier.")}
    for name, tensor in weights.items():
        if name not in state or tensor.shape != state[name].shape:
            wanted = state[name].shape if name in state else "no such tensor"
            raise WeightsError(
                f"{run.start}: its weights must be the recipe's net's: {name} must have shape "
                f"{wanted}. Received: {tensor.shape}"
            )
    return {name: tensor.astype(run.dtype) for name, tensor in weights.items()}
