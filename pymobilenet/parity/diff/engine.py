"""Compare models of any framework, layer by layer, and say what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pymobilenet.backends.trace import Layer, Participant, Trace
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.diagnosis import diagnose, diagnose_output, known
from pymobilenet.parity.diff.fault import Fault
from pymobilenet.parity.diff.measure import fitted, folded_floor, layer_floor, trace_floors
from pymobilenet.parity.diff.ops import ACTIVATIONS, compute
from pymobilenet.parity.diff.pairing import Pair, align, fold_norms, has_norms, pair_by_names
from pymobilenet.parity.diff.result import Comparison, DiffReport, Inputs, PairRow
from pymobilenet.parity.diff.structure_faults import structural_faults
from pymobilenet.parity.diff.training import checked_labels, compare_training
from pymobilenet.parity.diff.training_faults import active_dropouts
from pymobilenet.parity.diff.wiring import annotate
from pymobilenet.parity.tolerances import MAX_RATIO
from pymobilenet.weights.perturb import distance

ACTIVATION_RANGE = np.linspace(-20, 20, 2001)
"""Arguments on which activation functions of two names are compared."""


def compare_participants(
    participants: Sequence[Participant],
    inputs: np.ndarray,
    names: Mapping[str, str] | None = None,
    dtype: str | None = None,
    labels: np.ndarray | None = None,
) -> DiffReport:
    """Compare models with the first of them, layer by layer.

    Models that differ from the first are compared with each other, too, so that the report can say
    which of them agree.

    Args:
        participants: Two or more models.
        inputs: (N, ...), a few inputs, at least two so that the batch can be permuted.
        names: For two models, name of a layer in the first -> name in the second. By default
            layers are paired by kind, shapes and order.
        dtype: ``float64`` or ``float32``; by default the first that both models compute in.
        labels: (N,), integers from 0: also a training step is compared.

    Returns:
        The comparisons and the verdict.

    Raises:
        ConfigError: Fewer than two models or inputs, or `names` for more than two models.
    """
    if len(participants) < 2:
        raise ConfigError(f"models must be at least two. Received: {len(participants)}")
    if names is not None and len(participants) > 2:
        raise ConfigError(f"a map of names is for two models. Received: {len(participants)}")
    inputs = checked_inputs(inputs)
    labels = None if labels is None else checked_labels(labels, len(inputs))
    comparisons: list[Comparison] = []
    remaining = list(participants)
    while len(remaining) > 1:  # those that differ from the first are compared with each other
        first, *others = remaining
        found = [_compare(first, other, inputs, dtype, names, labels) for other in others]
        comparisons += found
        remaining = [other for other, each in zip(others, found, strict=True) if not each.passed]
    versions = {p.name: p.versions() for p in participants}
    return DiffReport(
        tuple(p.name for p in participants), tuple(comparisons), versions, Inputs.of(inputs)
    )


def _common_dtype(first: Participant, second: Participant, dtype: str | None) -> str:
    """Return the dtype in which both models are run."""
    wanted = first.dtypes if dtype is None else (dtype,)
    common = next((d for d in wanted if d in first.dtypes and d in second.dtypes), None)
    if common is None:
        raise ConfigError(
            f"{first.name} and {second.name} must both compute in "
            f"{'one dtype' if dtype is None else dtype}. Received: {first.dtypes} and "
            f"{second.dtypes}"
        )
    return common


def checked_inputs(inputs: np.ndarray) -> np.ndarray:
    """Return inputs as an array.

    Args:
        inputs: (N, ...), floating, at least two so that the batch can be permuted.

    Returns:
        The same values.

    Raises:
        ConfigError: They are no such array.
    """
    values = np.asarray(inputs)
    if values.ndim < 2 or len(values) < 2 or values.dtype.kind != "f":
        raise ConfigError(
            "inputs must be a floating array with at least two samples along its first axis. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    return values


def _compare(
    first: Participant,
    second: Participant,
    inputs: np.ndarray,
    wanted: str | None,
    names: Mapping[str, str] | None,
    labels: np.ndarray | None,
) -> Comparison:
    dtype = _common_dtype(first, second, wanted)
    inputs = inputs.astype(dtype)
    reference = _float64_outputs(first, inputs, dtype)
    traces = [annotate(p.trace(inputs, dtype), inputs) for p in (first, second)]
    floors, output_floor = trace_floors(first, inputs, dtype, traces[0])
    folded = [
        trace if has_norms(traces[1 - i]) else fold_norms(trace, traces[1 - i])
        for i, trace in enumerate(traces)
    ]
    pairs = (
        align(folded[0].layers, folded[1].layers)
        if names is None
        else pair_by_names(folded[0], folded[1], dict(names))
    )
    own_layers = [{layer.name: layer for layer in trace.layers} for trace in traces]
    exact, exact_output = reference or (_outputs(traces[0]), traces[0].output)
    rows = [_row(pair, (first, second), own_layers, exact, floors, dtype) for pair in pairs]
    output_error = _distance(traces[1].output, exact_output)
    structural = structural_faults(rows, folded, inputs, output_error / output_floor)
    dropouts = active_dropouts(traces)
    if not dropouts:
        structural = _explain_hidden(rows, structural)
    faults = [
        *dropouts,
        *(row.fault for row in rows if row.fault is not None),
        *structural,
    ]
    explanation = None
    if output_error > MAX_RATIO * output_floor and not faults:
        explanation = diagnose_output(traces[0].output, traces[1].output, output_floor)
    training = None
    if labels is not None:
        training = compare_training(
            first, second, inputs, labels, dtype, pairs, (traces[0], traces[1])
        )
    return Comparison(
        first.name,
        second.name,
        dtype,
        tuple(rows),
        output_error,
        output_floor,
        tuple(faults),
        explanation,
        training,
    )


def _row(
    pair: Pair,
    participants: tuple[Participant, Participant],
    own_layers: Sequence[Mapping[str, Layer]],
    exact: Mapping[str, np.ndarray],
    floors: Mapping[str, float],
    dtype: str,
) -> PairRow:
    """Compare one pair: in the run of the whole model, and alone on the first model's inputs."""
    a, b = pair.first, pair.second
    if a is None or b is None:
        return PairRow(a, b)
    own_name = _own_name(a, own_layers[0])
    floor = floors[own_name]
    chained = _distance(b.output, exact.get(own_name, a.output))
    values = None if _is_padded_before(a, b) else fitted(a.inputs, b)
    if values is None or _is_folded(b, own_layers[1]) or not participants[1].runs_layers:
        return PairRow(a, b, chained, floor)
    if _is_folded(a, own_layers[0]):
        alone_floor = folded_floor(a, dtype)
    else:
        alone_floor = layer_floor(participants[0], a, dtype)
    output = participants[1].run_layer(b, values)
    alone = _distance(output, a.output)
    fault = None
    if a.kind == "dropout":  # drops nothing, or `active_dropouts` says so
        return PairRow(a, b, chained, floor, alone, alone_floor)
    if alone > MAX_RATIO * alone_floor:
        fault = Fault(a, b, diagnosis=diagnose(a, b, output, alone_floor), error=alone)
    elif not _is_same_function(a, b):
        functions = f"{b.settings['function']} instead of {a.settings['function']}"
        words = f"{functions}; these inputs do not show the difference of the functions"
        fault = Fault(a, b, words=words, diagnosis=known("activation function", words))
    return PairRow(a, b, chained, floor, alone, alone_floor, fault)


def _is_padded_before(a: Layer, b: Layer) -> bool:
    """Return whether a layer before `b` adds the zeros that `a`, a convolution, adds itself."""
    if a.kind != "conv" or b.kind != "conv":
        return False
    shape, own = a.inputs[0].shape, b.inputs[0].shape
    padded = [
        size + low + high
        for size, (low, high) in zip(shape[2:], a.settings["padding"], strict=True)
    ]
    return own != shape and list(own[2:]) == padded


def _is_same_function(a: Layer, b: Layer) -> bool:
    """Return whether two activation functions agree everywhere, and not only on these inputs."""
    if not a.kind == b.kind == "activation":
        return True
    functions = [layer.settings["function"] for layer in (a, b)]
    if functions[0] == functions[1] or any(name not in ACTIVATIONS for name in functions):
        return True
    first, second = (compute(replace(layer, inputs=(ACTIVATION_RANGE,))) for layer in (a, b))
    return bool(np.allclose(first, second, rtol=1e-6, atol=1e-6))


def _explain_hidden(rows: list[PairRow], structural: list[Fault]) -> list[Fault]:
    """Explain a first divergence at a layer that agrees alone.

    Something before it was not recorded: an operation that is no layer, such as a padding or a
    scaling inside of ``forward``, shows only in the run of the whole model. So does a layer of no
    known kind that only one model has; then the explanation is of that layer.

    Returns:
        The faults of the structure, explained. A fault of a row is put into the row.
    """
    unknown = [x.kind == "other" for f in structural for x in (f.first, f.second) if x is not None]
    if structural and unknown != [True]:
        return structural
    for index, row in enumerate(rows):
        a, b = row.first, row.second
        if structural and row.is_unmatched:
            continue
        if row.fault is not None or a is None or b is None:
            return structural
        if row.ratio > MAX_RATIO:
            diagnosis = diagnose(a, b, b.output, row.chained_floor)
            if structural:
                explained = replace(structural[0], words="", diagnosis=diagnosis)
                return structural if diagnosis is None else [explained]
            is_hidden = row.alone is not None  # else it was not run alone
            fault = Fault(a, b, diagnosis=diagnosis, error=row.chained or 0.0, is_hidden=is_hidden)
            rows[index] = replace(row, fault=fault)
            return structural
    return structural


def _is_folded(layer: Layer, own_layers: Mapping[str, Layer]) -> bool:
    """Return whether a layer is a convolution with its norm, which no model has as one layer."""
    return layer.output is not own_layers[layer.name].output


def _outputs(trace: Trace) -> dict[str, np.ndarray]:
    return {layer.name: layer.output for layer in trace.layers}


def _float64_outputs(
    first: Participant, inputs: np.ndarray, dtype: str
) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Return what the first model computes in float64, for a comparison in float32.

    So the second model's float32 is judged by the exact values, and not by the first's rounding.
    None if the comparison is in float64 itself, or the first model computes in float32 only.
    """
    if dtype == "float64" or "float64" not in first.dtypes:
        return None
    trace = first.trace(inputs.astype("float64"), "float64")
    return _outputs(trace), trace.output


def _own_name(layer: Layer, own_layers: Mapping[str, Layer]) -> str:
    """Return the layer whose output this is: for a folded convolution, its norm."""
    return next(
        (name for name, own in own_layers.items() if own.output is layer.output), layer.name
    )


def _distance(value: np.ndarray, reference: np.ndarray) -> float:
    """Return the relative distance; shapes may differ by axes of length one behind the second."""
    same = value.shape[:2] == reference.shape[:2] and value.size == reference.size
    return distance(value.reshape(reference.shape) if same else value, reference)
