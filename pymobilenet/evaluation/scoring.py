"""Evaluate a model of any backend on a labelled data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymobilenet.backends.base import Backend, Model
from pymobilenet.config import MobileNetConfig
from pymobilenet.data import Dataset, for_channels, normalise, scaling, statistics_of, to_dataset
from pymobilenet.data.file_metadata import DEFAULT
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.evaluation.names import known_names, match_classes
from pymobilenet.evaluation.result import LAST, NO_CLASS, Evaluation
from pymobilenet.formats import Loaded


def evaluate(
    model: Model,
    data: Any,
    preprocessing: str = DEFAULT,
    batch_size: int = 256,
    on_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate a model on all images of a labelled data set, without augmentation.

    Args:
        model: A model of any backend. Its softmax, if it has one, is not applied.
        data: A `Dataset`, or what `pymobilenet.data.to_dataset` accepts: images (N, C, H, W) of a
            size that the model supports. Labels are class numbers of the model; `as_trained`
            matches them to the model of a file.
        preprocessing: A name of `pymobilenet.data.preprocessing.PREPROCESSING`. "standard" scales
            by ``data.statistics``.
        batch_size: Images in a batch.
        on_batch: Is called after each batch.

    Returns:
        The predictions, with loss, accuracy, confusion and calibration.

    Raises:
        ConfigError: `preprocessing` is unknown, or `batch_size` is below 1.
        DataError: The data set has more classes than the model or images it does not support, or
            mean and deviation of the training images are not available.
    """
    data = to_dataset(data)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1. Received: {batch_size}")
    if data.num_classes > model.config.num_classes:
        raise DataError(
            f"{data.source} has {data.num_classes} classes; the model must have at least as many. "
            f"Received: num_classes {model.config.num_classes}"
        )
    mean, std = scaling(preprocessing, data)
    predict, scores = without_softmax(model).freeze(), []
    for start in range(0, len(data), batch_size):
        batch = slice(start, start + batch_size)
        images = for_channels(data.images[batch], mean, std, model.config.in_channels)
        logits = predict(normalise(*images, model.dtype))
        scores.append(_scores(logits, data.labels[batch]))
        on_batch()
    predicted, confidence, ranks, losses = map(np.concatenate, zip(*scores, strict=True))
    return Evaluation(
        labels=data.labels,
        predicted=predicted,
        confidence=confidence,
        ranks=ranks,
        losses=losses,
        class_names=data.class_names,
        num_classes=model.config.num_classes,
        source=data.source,
        preprocessing=preprocessing,
    )


def without_softmax(model: Model) -> Model:
    """Return the model itself, or one with the same weights that returns logits.

    In float32, small probabilities have few digits left, and the smallest are 0.

    Args:
        model: Of any backend.
    """
    if not model.config.softmax:
        return model
    return model.replica(softmax=False)


def log_softmax(logits: np.ndarray) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities (N, classes), float64, from finite logits."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def _scores(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return predicted class, confidence, rank of the true class and loss, each (N,).

    Of two classes with equal logits the lower one counts as more likely.
    """
    count, classes = logits.shape
    finite = np.isfinite(logits).all(axis=1)
    predicted, ranks = np.full(count, NO_CLASS), np.full(count, LAST)
    confidence, losses = np.full(count, np.nan), np.full(count, np.inf)
    logits, labels = logits[finite], labels[finite]
    own = logits[np.arange(len(labels)), labels][:, None]
    before = (logits == own) & (np.arange(classes) < labels[:, None])
    log_probabilities = log_softmax(logits)
    predicted[finite] = logits.argmax(axis=1)
    ranks[finite] = ((logits > own) | before).sum(axis=1)
    confidence[finite] = np.exp(log_probabilities.max(axis=1))
    losses[finite] = -log_probabilities[np.arange(len(labels)), labels]
    return predicted, confidence, ranks, losses


def as_trained(
    data: Dataset,
    config: MobileNetConfig,
    metadata: Mapping[str, str],
    preprocessing: str,
    source: str,
) -> Dataset:
    """Return a data set with the class numbers and the scaling of a model's file.

    Labels are unchanged if the file has no class names, and statistics if it has no mean and
    deviation.

    Args:
        data: Labelled images.
        config: The config of the model.
        metadata: The metadata of the model's file.
        preprocessing: How images are scaled, from `preprocessing_of`.
        source: The name of the model's file, for messages.

    Raises:
        DataError: The model lacks a class of the images.
        WeightsError: The metadata are not valid.
    """
    statistics = statistics_of(metadata, preprocessing, source)
    if statistics is not None:
        data = replace(data, statistics=statistics)
    names = known_names(config, metadata, source)
    return data if names is None else match_classes(data, names, source)


def model_of(loaded: Loaded, backend: Backend) -> Model:
    """Build the model of a file, in float64 if the backend does not support the file's dtype.

    Args:
        loaded: The weights and the config of the file.
        backend: The backend to build it in.

    Returns:
        The model, without an optimizer.
    """
    dtype = loaded.state["classifier.weight"].dtype
    if backend.supports_dtype(dtype.name):
        return backend.from_state(loaded.config, loaded.state)
    wide = {
        name: tensor.astype(np.float64)
        for name, tensor in loaded.state.items()
        if not name.startswith("optimizer.")
    }
    return backend.from_state(loaded.config, wide)
