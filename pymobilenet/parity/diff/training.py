"""Compare a training step of two models: outputs in training mode, loss, gradients, statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pymobilenet.backends.trace import Participant, Trace, TrainingStep
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.pairing import Pair
from pymobilenet.parity.diff.training_faults import (
    GRADIENT,
    LOSS,
    OUTPUT,
    STATISTICS,
    Key,
    pair_name,
    paired_layers,
    training_faults,
)
from pymobilenet.parity.diff.training_result import Training, TrainingRow
from pymobilenet.parity.floors import IMAGES_INDEX, max_floor, min_floor
from pymobilenet.parity.tolerances import DRAWS
from pymobilenet.weights.perturb import distance, draw_order, move_ulps


def checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Return labels as int64.

    Args:
        labels: (N,), integers from 0.
        count: N, the number of inputs.

    Returns:
        The same values.

    Raises:
        ConfigError: They are no such array.
    """
    values = np.asarray(labels)
    if values.shape != (count,) or values.dtype.kind not in "iu" or (values < 0).any():
        raise ConfigError(
            f"labels must be {count} integers from 0, one for each input. Received: "
            f"{values.dtype} of shape {values.shape}, the least {values.min(initial=0)}"
        )
    return values.astype(np.int64)


def compare_training(
    first: Participant,
    second: Participant,
    inputs: np.ndarray,
    labels: np.ndarray,
    dtype: str,
    pairs: Sequence[Pair],
    traces: tuple[Trace, Trace],
) -> Training:
    """Compare one training step of two models, judged by noise floors of the first.

    Args:
        first: The first model.
        second: The other.
        inputs: (N, ...), of `dtype`.
        labels: (N,), int64.
        dtype: In which both compute.
        pairs: Their layers.
        traces: What their layers computed in evaluation mode.

    Returns:
        Errors, floors and faults; only a note if a model has no gradients.

    Raises:
        ConfigError: A label is no class of the first model.
    """
    without = [each.name for each in (first, second) if not each.has_gradients]
    if without:
        return Training(note=f"{' and '.join(without)} without gradients")
    classes = traces[0].output.shape[1] if traces[0].output.ndim > 1 else 0
    if labels.max(initial=0) >= classes:
        raise ConfigError(
            f"labels must be less than the number of classes, {classes}. Received: {labels.max()}"
        )
    steps = [each.train_step(inputs, labels, dtype) for each in (first, second)]
    floors = training_floors(first, inputs, labels, dtype, steps[0])
    complete = [pair for pair in pairs if pair.is_complete]
    rows = list(_rows(complete, steps, floors))
    faults = training_faults(complete, traces, steps, labels, rows, floors)
    return Training(tuple(rows), tuple(faults), (steps[0].loss, steps[1].loss))


def _values(step: TrainingStep) -> dict[Key, np.ndarray]:
    """Return every quantity of a step that is compared."""
    values = {(OUTPUT, layer.name, ""): layer.output for layer in step.trace.layers}
    values[LOSS, "", ""] = np.array(step.loss)
    values[GRADIENT, "", ""] = step.output_gradient
    for quantity, tensors in ((GRADIENT, step.gradients), (STATISTICS, step.statistics)):
        for layer, arrays in tensors.items():
            values |= {(quantity, layer, name): array for name, array in arrays.items()}
    return values


def training_floors(
    first: Participant, inputs: np.ndarray, labels: np.ndarray, dtype: str, base: TrainingStep
) -> dict[Key, float]:
    """Measure how much rounding alone changes each quantity of a step.

    Args:
        first: The first model of a comparison.
        inputs: (N, ...), of `dtype`.
        labels: (N,), int64.
        dtype: In which it computes.
        base: Its step on these inputs.

    Returns:
        Quantity, layer and parameter -> floor, as a fraction of the tensor's norm.
    """
    if first.floors is not None:
        return dict(first.floors.training)
    values = _values(base)
    norms = _gradient_norm(base)
    floors = dict.fromkeys(values, min_floor(dtype))
    for draw in range(DRAWS):
        order = draw_order(draw, 0, len(inputs))
        inverse = np.argsort(order)
        number = draw if first.moves_weights else None
        moved = move_ulps(inputs, draw, IMAGES_INDEX)[order]
        drawn = _values(first.train_step(moved, labels[order], dtype, number))
        for key, value in values.items():
            if key not in drawn:
                continue
            by_sample = key[0] == OUTPUT or key == (GRADIENT, "", "")
            other = drawn[key]
            if by_sample and len(other) == len(inverse):
                other = other[inverse]
            floors[key] = max(floors[key], _error(key, other, value, norms, dtype))
    return {key: min(floor, max_floor(dtype)) for key, floor in floors.items()}


def _gradient_norm(step: TrainingStep) -> float:
    """Return the root mean square of the norms of all gradients."""
    squares = [
        float(np.square(np.asarray(array, np.float64)).sum())
        for arrays in step.gradients.values()
        for array in arrays.values()
    ]
    return float(np.sqrt(sum(squares)))


def _error(
    key: Key, value: np.ndarray, reference: np.ndarray, gradient_norm: float, dtype: str
) -> float:
    """Return the relative distance.

    The gradient of a bias before a batch norm is zero but for rounding. So a gradient that is
    smaller than all gradients together by half of the digits is compared relative to these.
    """
    if value.shape != reference.shape and value.size == reference.size:
        value = value.reshape(reference.shape)
    if key[0] == GRADIENT and key[1]:
        size = float(np.linalg.norm(np.asarray(reference, np.float64)))
        if size < np.sqrt(np.finfo(dtype).eps) * gradient_norm and value.shape == reference.shape:
            difference = np.asarray(value, np.float64) - reference
            return float(np.linalg.norm(difference)) / gradient_norm
    return distance(value, reference)


def _rows(
    pairs: Sequence[Pair], steps: Sequence[TrainingStep], floors: dict[Key, float]
) -> Iterator[TrainingRow]:
    """Yield the errors forward, then backward, then of the statistics."""
    first, second = map(_values, steps)
    norms = _gradient_norm(steps[0])
    dtype = steps[0].trace.output.dtype.name

    def row(key: Key, other: Key, name: str) -> TrainingRow:
        error = _error(key, second[other], first[key], norms, dtype)
        return TrainingRow(key[0], name, error, floors[key])

    for a, b in paired_layers(pairs):
        keys = (OUTPUT, a.name, ""), (OUTPUT, b.name, "")
        if keys[0] in first and keys[1] in second:
            yield row(*keys, pair_name(a, b))
    yield row((LOSS, "", ""), (LOSS, "", ""), "loss")
    yield row((GRADIENT, "", ""), (GRADIENT, "", ""), "of the model's output")
    for quantity, layers in (
        (GRADIENT, reversed(list(paired_layers(pairs)))),
        (STATISTICS, paired_layers(pairs)),
    ):
        for a, b in layers:
            for name in [key[2] for key in first if key[:2] == (quantity, a.name)]:
                other = (quantity, b.name, name)
                if other in second:
                    yield row((quantity, a.name, name), other, f"{pair_name(a, b)}: {name}")
