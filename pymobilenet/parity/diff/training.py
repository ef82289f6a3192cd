"""Compare a training step of two models: outputs in training mode, loss, gradients, statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pymobilenet.backends.trace import Participant, Trace, TrainingStep
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.kinks import layers_near_kinks
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

ATTEMPTS, SMALLER = 8, 100
"""How often other inputs are tried, each a hundredth smaller than the one before."""

LARGEST_ROUNDING = {"float64": 1e-8, "float32": 1e-3}
"""Relative error of an output above which a difference is not taken for rounding."""


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
    complete = [pair for pair in pairs if pair.is_complete]
    inputs, steps, near_kinks = _steps_away_from_kinks(
        first, second, inputs, labels, dtype, complete
    )
    floors = training_floors(first, inputs, labels, dtype, steps[0])
    if near_kinks:
        floors |= _lost_gradients(steps[0], near_kinks[-1])
    rows = list(_rows(complete, steps, floors))
    faults = training_faults(complete, traces, steps, labels, rows, floors)
    losses = (steps[0].loss, steps[1].loss)
    return Training(tuple(rows), tuple(faults), losses, near_kinks=tuple(near_kinks))


def _steps_away_from_kinks(
    first: Participant,
    second: Participant,
    inputs: np.ndarray,
    labels: np.ndarray,
    dtype: str,
    pairs: Sequence[Pair],
) -> tuple[np.ndarray, list[TrainingStep], list[str]]:
    """Take a step on inputs for which rounding puts no value on the other side of a kink.

    The inputs are made smaller, a little at each attempt. Those of a recording are given.

    Returns:
        The inputs, the steps, and the layers with values near a kink if no attempt is free of them.
    """
    attempts = 1 if first.floors is not None else ATTEMPTS
    tried = []
    for attempt in range(attempts):
        scaled = (inputs * (1 - attempt / SMALLER)).astype(dtype)
        steps = [each.train_step(scaled, labels, dtype) for each in (first, second)]
        errors = {a.name: _output_error(a.name, b.name, steps) for a, b in paired_layers(pairs)}
        usual = {name: error for name, error in errors.items() if error <= LARGEST_ROUNDING[dtype]}
        near = layers_near_kinks(steps[0].trace, usual)
        tried.append((scaled, steps, near))
        if not near or len(usual) < len(errors):  # another difference, which is to be found
            return tried[-1]
    return tried[0]


def _output_error(name: str, other: str, steps: Sequence[TrainingStep]) -> float:
    """Return the relative error of a layer's output, 0 if it is not recorded in training mode."""
    outputs = [
        next((layer.output for layer in step.trace.layers if layer.name == each), None)
        for each, step in zip((name, other), steps, strict=True)
    ]
    if outputs[0] is None or outputs[1] is None or outputs[0].size != outputs[1].size:
        return 0.0
    return distance(outputs[1].reshape(outputs[0].shape), outputs[0])


def _lost_gradients(step: TrainingStep, last: str) -> dict[Key, float]:
    """Return infinite floors for the gradients of all layers before a layer."""
    names = [layer.name for layer in step.trace.layers]
    before = set(names[: names.index(last)])
    return {
        (GRADIENT, layer, name): float("inf")
        for layer, arrays in step.gradients.items()
        if layer in before
        for name in arrays
    }


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
    scales = _scales(base)
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
            floors[key] = max(floors[key], _error(key, other, value, scales, dtype))
    return {key: min(floor, max_floor(dtype)) for key, floor in floors.items()}


def _scales(step: TrainingStep) -> dict[Key, float]:
    """Return what quantities that are zero but for rounding are compared with.

    These are the gradient of a bias before a batch norm, and the running mean behind a convolution
    of values with mean zero: the norm of all gradients, and of the running standard deviations.
    """
    squares = {
        (GRADIENT, layer, name): float(np.square(np.asarray(array, np.float64)).sum())
        for layer, arrays in step.gradients.items()
        for name, array in arrays.items()
    }
    scales = dict.fromkeys(squares, float(np.sqrt(sum(squares.values()))))
    for layer, arrays in step.statistics.items():
        variance = np.asarray(arrays["running_var"], np.float64)
        scales[STATISTICS, layer, "running_mean"] = float(np.sqrt(np.abs(variance).sum()))
    return scales


def _error(
    key: Key,
    value: np.ndarray,
    reference: np.ndarray,
    scales: Mapping[Key, float],
    dtype: str,
) -> float:
    """Return the relative distance.

    A quantity that is smaller than its scale by half of the digits is compared relative to that.
    """
    if value.shape != reference.shape and value.size == reference.size:
        value = value.reshape(reference.shape)
    if key in scales and value.shape == reference.shape:
        size = float(np.linalg.norm(np.asarray(reference, np.float64)))
        if size < np.sqrt(np.finfo(dtype).eps) * scales[key]:
            difference = np.asarray(value, np.float64) - reference
            return float(np.linalg.norm(difference)) / scales[key]
    return distance(value, reference)


def _rows(
    pairs: Sequence[Pair], steps: Sequence[TrainingStep], floors: dict[Key, float]
) -> Iterator[TrainingRow]:
    """Yield the errors forward, then backward, then of the statistics."""
    first, second = map(_values, steps)
    scales = _scales(steps[0])
    dtype = steps[0].trace.output.dtype.name

    def row(key: Key, other: Key, name: str) -> TrainingRow:
        error = _error(key, second[other], first[key], scales, dtype)
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
