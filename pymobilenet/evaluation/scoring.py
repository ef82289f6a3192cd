"""A model asked about labelled images, in any backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pymobilenet.backends.base import Backend, Model
from pymobilenet.data import Dataset, normalise, scaling
from pymobilenet.data.preprocessing import PREPROCESSING
from pymobilenet.doors import Loaded
from pymobilenet.errors import ConfigError, DataError, WeightsError
from pymobilenet.evaluation.result import LAST, NO_CLASS, Evaluation

DEFAULT = "standard"
"""What images go through where neither the file nor the user says it: what `fit` does."""


def evaluate(
    model: Model,
    data: Dataset,
    preprocessing: str = DEFAULT,
    batch_size: int = 256,
    tick: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Ask `model`, frozen, about all images of `data`, as they are.

    Args:
        model: Of any backend. One with a softmax is asked for its logits all the same.
        data: Images of a size the model takes, and of no more classes than it has.
        preprocessing: A name of `pymobilenet.data.preprocessing.PREPROCESSING`.
        batch_size: Images at once.
        tick: Called after each batch.

    Raises:
        ConfigError: An unknown preprocessing; `batch_size` below 1.
        DataError: More classes than the model has, or images it does not take.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1. Received: {batch_size}")
    if data.num_classes > model.config.num_classes:
        raise DataError(
            f"{data.source} has {data.num_classes} classes; the model must have at least as many. "
            f"Received: num_classes {model.config.num_classes}"
        )
    mean, std = scaling(check_preprocessing(preprocessing), data)
    predict, parts = without_softmax(model).freeze(), []
    for start in range(0, len(data), batch_size):
        batch = slice(start, start + batch_size)
        logits = predict(normalise(data.images[batch], mean, std, model.dtype))
        parts.append(_scores(logits, data.labels[batch]))
        tick()
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
    return model.backend.from_state(replace(model.config, softmax=False), model.get_state())


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


def preprocessing_of(metadata: Mapping[str, str], asked: str | None, source: str) -> str:
    """What images of a model go through: `asked`, else what its file `source` says, else `DEFAULT`.

    Raises:
        ConfigError: No such preprocessing was asked for.
        WeightsError: The file names one that this package does not know.
    """
    if asked is not None:
        return check_preprocessing(asked)
    said = metadata.get("preprocessing", DEFAULT)
    if said not in PREPROCESSING:
        raise WeightsError(
            f"{source}: metadata preprocessing must be one of {', '.join(PREPROCESSING)}; "
            f"--preprocessing overrides it. Received: {said!r}"
        )
    return said


def check_preprocessing(name: str) -> str:
    if name not in PREPROCESSING:
        raise ConfigError(
            f"preprocessing must be one of {', '.join(PREPROCESSING)}. Received: {name!r}"
        )
    return name
