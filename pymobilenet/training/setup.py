"""The start of a run: its images, its model config and its initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from pymobilenet import philox
from pymobilenet.config import MobileNetConfig, RunConfig
from pymobilenet.data import Dataset, open_data
from pymobilenet.data.notices import print_to_stderr
from pymobilenet.errors import DataError, WeightsError
from pymobilenet.formats import Loaded, load_any
from pymobilenet.formats.heads import CLASSIFIER, DRAWN
from pymobilenet.formats.settings import OPEN, read_map
from pymobilenet.training.recipe import Recipe
from pymobilenet.weights import State, initial_state

DEFAULT_TRAIN_EVAL_IMAGES = 2000
"""Number of training images that are evaluated by default, where they are few beside the others."""

MAX_DEFAULT_COST = 0.05
"""The largest share of an epoch's training that evaluating training images costs by default."""

PASSES_PER_STEP = 3
"""Cost of a training step in forward passes: the backward pass has two products for each of the
forward pass, one for the gradient of the input and one for that of the weights."""


@dataclass(frozen=True)
class Images:
    """The images of a run.

    Attributes:
        train: Training images.
        validation: Images for choosing the best epoch.
        train_eval: The training images on which the training accuracy is computed; None: it is not
            computed.
    """

    train: Dataset
    validation: Dataset
    train_eval: Dataset | None

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of training and validation images, by use."""
        return {"train": self.train.digest(), "validation": self.validation.digest()}


def open_images(run: RunConfig, resolution: int, seed: int) -> Images:
    """Load the images of a run and split them.

    Args:
        run: The data set and the sizes of the splits.
        resolution: Side to which images are scaled, in pixels.
        seed: Seed of the split.

    Returns:
        The images.

    Raises:
        DataError: No data set is named or found, or too few training images for the split.
    """
    if not run.data:
        raise DataError("this recipe names no data: pass a folder or an archive with --data")
    policy = cast("Literal['refuse', 'skip']", run.on_corrupt)
    splits: list[np.ndarray] = []

    def used(count: int) -> np.ndarray:
        parts = split_images(run, count, seed)
        positions = np.union1d(parts[0], parts[1])
        splits.extend(np.searchsorted(positions, part) for part in parts)
        return positions

    data = open_data(run.data, "train", resolution, on_corrupt=policy, select=used)
    held_out, training, train_eval = splits
    train = data.subset(training)
    if run.validation:
        validation = data.subset(held_out)
    else:
        validation = open_data(
            run.data, "test", resolution, on_corrupt=policy, statistics=train.statistics
        )
    return Images(train, validation, data.subset(train_eval) if len(train_eval) else None)


def split_images(
    run: RunConfig, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split training images into validation images and training images.

    The images are permuted with words of `Stream.SPLIT`, epoch 1. The first `validation` are held
    out, the next `limit` (or all others) are trained on, and the training accuracy is computed on
    the first `train_eval_count` of these.

    Args:
        run: The sizes.
        count: Number of training images.
        seed: Seed of the permutation.

    Returns:
        Sorted positions, int64: held out, trained on, used for the training accuracy.

    Raises:
        DataError: No image would be left to train on.
    """
    if run.validation >= count:
        raise DataError(
            f"validation must be less than the number of training images, {count}. "
            f"Received: {run.validation}"
        )
    order = philox.permutation(philox.raw_words(seed, philox.Stream.SPLIT, 1, 0, count))
    training = order[run.validation :][: run.limit or count]
    return (
        np.sort(order[: run.validation]),
        np.sort(training),
        np.sort(training[: train_eval_count(run, len(training))]),
    )


def train_eval_count(run: RunConfig, training: int) -> int:
    """Return how many training images are evaluated after each epoch.

    By default there are `DEFAULT_TRAIN_EVAL_IMAGES` if that costs at most `MAX_DEFAULT_COST` of an
    epoch's training, else none. The cost is counted, not timed, so that a run has the same log on
    every machine: an image is one forward pass, and `PASSES_PER_STEP` where it is trained on.

    Args:
        run: For `train_eval_images`.
        training: Number of images that are trained on.

    Returns:
        The number of images, at most `training`.
    """
    if run.train_eval_images is not None:
        return min(run.train_eval_images, training)
    cost = DEFAULT_TRAIN_EVAL_IMAGES / (PASSES_PER_STEP * training)
    return DEFAULT_TRAIN_EVAL_IMAGES if cost <= MAX_DEFAULT_COST else 0


def first_state(recipe: Recipe) -> tuple[MobileNetConfig, State, Images]:
    """Return the model config of a recipe, its initial weights, and its images.

    With `RunConfig.start`, config and weights are those of that file, except for fields that the
    recipe sets. The classifier is initialized randomly if the number of classes differs.

    Args:
        recipe: The recipe.

    Returns:
        Config, state and images.

    Raises:
        ConfigError: The resulting config is invalid.
        DataError: See `open_images`.
        WeightsError: The file at `start` cannot be read, or does not fit the config.
    """
    run, seed = recipe.run, recipe.train_config(1).seed
    pretrained = _read_start(recipe) if run.start else None
    fields = {**(pretrained.config.to_dict() if pretrained else {}), **recipe.model}
    images = open_images(run, MobileNetConfig.from_dict(fields).resolution, seed)
    fields["num_classes"] = recipe.model.get("num_classes", images.train.num_classes)
    config = MobileNetConfig.from_dict(fields)
    state = initial_state(config, seed, run.dtype, run.init)
    if pretrained is None:
        return config, state, images
    weights = pretrained.state
    if pretrained.metadata.get(CLASSIFIER) == DRAWN:
        weights = {n: t for n, t in weights.items() if not n.startswith("classifier.")}
    return config, state | _pretrained_weights(weights, state, run), images


def _read_start(recipe: Recipe) -> Loaded:
    """Read the model a run starts from; the recipe's [model] supplies what its file omits."""
    run = recipe.run
    settings = {name: value for name, value in recipe.model.items() if name in OPEN}
    options: dict[str, Any] = {
        "which": run.start_which or None,
        "sample": run.start_sample or None,
        "name_map": read_map(run.start_map) if run.start_map else None,
    }
    try:
        started = load_any(run.start, settings=settings, **options)
    except WeightsError:  # the file contradicts the recipe, whose fields then take precedence
        if not settings:
            raise
        started = load_any(run.start, **options)
    for line in started.report.notes:
        print_to_stderr(f"{recipe.run.start}: {line}")
    return started


def _pretrained_weights(
    pretrained: Mapping[str, np.ndarray], state: State, run: RunConfig
) -> State:
    """Return pretrained weights in the run's dtype, without a classifier of other classes."""
    weights = {name: t for name, t in pretrained.items() if not name.startswith("optimizer.")}
    bias = weights.get("classifier.bias")
    if bias is not None and bias.shape != state["classifier.bias"].shape:
        weights = {n: t for n, t in weights.items() if not n.startswith("classifier.")}
    for name, tensor in weights.items():
        if name not in state or tensor.shape != state[name].shape:
            expected = state[name].shape if name in state else "no such tensor"
            raise WeightsError(
                f"{run.start}: its weights must fit the recipe's model: {name} must have shape "
                f"{expected}. Received: {tensor.shape}"
            )
    return {name: tensor.astype(run.dtype) for name, tensor in weights.items()}
