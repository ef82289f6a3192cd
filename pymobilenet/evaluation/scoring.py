"""A model asked about labelled images, in any backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymobilenet.backends.base import Backend, Model
from pymobilenet.config import MobileNetConfig
from pymobilenet.data import Dataset, normalise, scaling, statistics_of, to_dataset
from pymobilenet.data.file_metadata import DEFAULT
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.evaluation.names import known_names, paired
from pymobilenet.evaluation.result import LAST, NO_CLASS, Evaluation
from pymobilenet.formats import Loaded


def evaluate(
    model: Model,
    data: Any,
    preprocessing: str = DEFAULT,
    batch_size: int = 256,
    on_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Ask `model`, frozen, about all images of `data`, as they are.

    Args:
        model: Of any backend. One with a softmax is asked for its logits all the same.
        data: A `Dataset`, or what `pymobilenet.data.to_dataset` takes, of a size the model takes
            and of no more classes than it has; a label is the number of the model's class.
            `as_trained` gives them so for the model of a file.
        preprocessing: A name of `pymobilenet.data.preprocessing.PREPROCESSING`; "standard" is by
            `data.statistics`.
        batch_size: Images at once.
        on_batch: Called after each batch.

    Raises:
        ConfigError: An unknown preprocessing; `batch_size` below 1.
        DataError: More classes than the model has, images it does not take, or no mean and
            deviation of the training images to be had.
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
    predict, parts = without_softmax(model).freeze(), []
    for start in range(0, len(data), batch_size):
        batch = slice(start, start + batch_size)
        logits = predict(normalise(data.images[batch], mean, std, model.dtype))
        parts.append(_scores(logits, data.labels[batch]))
        on_batch()
    predicted, confidence, ranks, losses = map(np.concatenate, zip(*parts, strict=True))
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
    """The model itself, or one with its weights that gives logits.

    Of small probabilities float32 keeps few digits, and of the smallest none.
    """
    if not model.config.softmax:
        return model
    return model.replica(softmax=False)


def log_softmax(logits: np.ndarray) -> NDArray[np.float64]:
    """Logarithms of the probabilities (N, classes), computed in float64 from finite logits."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def _scores(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Predicted class, confidence, rank of the true class and loss: four times (N,).

    Of two classes with equal logits the lower is the more likely one.
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
    """`data` as the model of a file knows them: labels by the names of its classes, its statistics.

    A file that names no classes leaves the labels as they are, one without mean and deviation the
    statistics.

    Args:
        data: Any images.
        config, metadata: Of the model.
        preprocessing: What the images are to go through, from `preprocessing_of`.
        source: The model's file, for messages.

    Raises:
        DataError: Images of a class that the model lacks.
        WeightsError: Metadata that break a rule.
    """
    known = statistics_of(metadata, preprocessing, source)
    if known is not None:
        data = replace(data, statistics=known)
    names = known_names(config, metadata, source)
    return data if names is None else paired(data, names, source)


def model_of(loaded: Loaded, backend: Backend) -> Model:
    """The model of a file in `backend`: in float64 if it does not compute in the file's dtype."""
    dtype = loaded.state["classifier.weight"].dtype
    if backend.computes(dtype.name):
        return backend.from_state(loaded.config, loaded.state)
    wide = {
        name: tensor.astype(np.float64)
        for name, tensor in loaded.state.items()
        if not name.startswith("optimizer.")
    }
    return backend.from_state(loaded.config, wide)
