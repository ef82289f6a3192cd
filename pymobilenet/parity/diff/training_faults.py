"""What differs in a training step, and the known differences that explain it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pymobilenet.backends.trace import Layer, Trace, TrainingStep
from pymobilenet.parity.diff.diagnosis import diagnose, known
from pymobilenet.parity.diff.fault import Fault
from pymobilenet.parity.diff.kinks import nearly_equal_maxima
from pymobilenet.parity.diff.loss_forms import departures, identify_loss
from pymobilenet.parity.diff.norm_statistics import identify_rule, rule_departures
from pymobilenet.parity.diff.pairing import Pair
from pymobilenet.parity.diff.training_result import TrainingRow
from pymobilenet.parity.tolerances import MAX_RATIO
from pymobilenet.weights.perturb import distance

OUTPUT, LOSS, GRADIENT = "output in training mode", "loss", "gradient"
STATISTICS = "running statistics"

Key = tuple[str, str, str]
"""Quantity, name of a layer, name of a parameter."""


def training_faults(
    pairs: Sequence[Pair],
    traces: Sequence[Trace],
    steps: Sequence[TrainingStep],
    labels: np.ndarray,
    rows: Sequence[TrainingRow],
    floors: Mapping[Key, float],
) -> list[Fault]:
    """Find what differs in a training step.

    Args:
        pairs: The paired layers.
        traces: What the layers of both models computed in evaluation mode.
        steps: The training step of both.
        labels: (N,), int64.
        rows: The errors of all quantities.
        floors: Their noise floors.

    Returns:
        Forward, then the loss, then statistics; if there is none of these, the first gradient that
        differs.
    """
    layers = [{layer.name: layer for layer in step.trace.layers} for step in steps]
    output_faults = _output_faults(pairs, layers, rows, floors)
    faulty = {fault.location for fault in output_faults}
    faults = [
        *_dropout_rates(traces),
        *output_faults,
        *_loss_faults(steps, labels),
        *(f for f in _statistics_faults(pairs, layers, steps) if f.location not in faulty),
    ]
    return faults or _gradient_faults(rows, pairs, steps)


def paired_layers(pairs: Sequence[Pair]) -> Iterator[tuple[Layer, Layer]]:
    """Yield the layers of the pairs that are complete.

    Args:
        pairs: The paired layers.
    """
    for pair in pairs:
        if pair.first is not None and pair.second is not None:
            yield pair.first, pair.second


def pair_name(a: Layer, b: Layer) -> str:
    """Return the names of two layers, or the one name of both.

    Args:
        a: A layer of the first model.
        b: Its counterpart.
    """
    return " / ".join(dict.fromkeys((a.name, b.name)))


def _output_faults(
    pairs: Sequence[Pair],
    layers: Sequence[dict[str, Layer]],
    rows: Sequence[TrainingRow],
    floors: Mapping[Key, float],
) -> list[Fault]:
    """Explain the first layer whose output differs in training mode on equal inputs."""
    ratios = {row.name: row.ratio for row in rows if row.quantity == OUTPUT}
    for a, b in paired_layers(pairs):
        if ratios.get(pair_name(a, b), 0.0) <= MAX_RATIO:
            continue
        one, other = layers[0][a.name], layers[1][b.name]
        if distance(other.inputs[0], one.inputs[0]) > MAX_RATIO * floors[OUTPUT, a.name, ""]:
            return []
        floor = floors[OUTPUT, a.name, ""]
        error = distance(other.output, one.output)
        # with the statistics before the step
        one, other = replace(one, params=a.params), replace(other, params=b.params)
        diagnosis = diagnose(one, other, other.output, floor)
        return [Fault(a, b, diagnosis=diagnosis, error=error)]
    return []


def _loss_faults(steps: Sequence[TrainingStep], labels: np.ndarray) -> list[Fault]:
    """Find losses of two forms: each is identified from the model's own outputs."""
    forms = [identify_loss(step, labels) for step in steps]
    if forms[0] is None or forms[1] is None:
        return []
    return [
        Fault(None, None, diagnosis=known(name, what), place="loss")
        for name, what in departures(forms[0], forms[1])
    ]


def _statistics_faults(
    pairs: Sequence[Pair], layers: Sequence[dict[str, Layer]], steps: Sequence[TrainingStep]
) -> list[Fault]:
    """Find norms that update their statistics by other rules, each by its own inputs."""
    faults = []
    for a, b in paired_layers(pairs):
        if a.name not in steps[0].statistics or b.name not in steps[1].statistics:
            continue
        # with the statistics before the step
        one = replace(layers[0][a.name], params=a.params)
        other = replace(layers[1][b.name], params=b.params)
        rules = (
            identify_rule(one, steps[0].statistics[a.name]),
            identify_rule(other, steps[1].statistics[b.name]),
        )
        if rules[0] is None or rules[1] is None:
            continue
        faults += [
            Fault(a, b, diagnosis=known(name, what))
            for name, what in rule_departures(rules[0], rules[1])
        ]
    return faults


def _gradient_faults(
    rows: Sequence[TrainingRow], pairs: Sequence[Pair], steps: Sequence[TrainingStep]
) -> list[Fault]:
    """Describe where gradients begin to differ, from the output backwards."""
    differing = next((row for row in rows if row.ratio > MAX_RATIO), None)
    if differing is None or differing.quantity != GRADIENT:
        return []
    for a, b in reversed(list(paired_layers(pairs))):
        for name, gradient in steps[0].gradients.get(a.name, {}).items():
            if differing.name != f"{pair_name(a, b)}: {name}":
                continue
            other = steps[1].gradients[b.name][name]
            if not np.any(other) or not np.any(gradient):
                model = "first" if not np.any(gradient) else "second"
                words = f"the {model} model has no gradient of {name}: it is frozen or detached"
            else:
                words = (
                    f"the gradient of {name} differs by {differing.error:.1e}, although loss and "
                    "outputs agree"
                )
                return [_max_pool_fault(a, steps[0].trace) or Fault(a, b, words=words)]
            return [Fault(a, b, words=words)]
    words = f"the gradient in the output differs by {differing.error:.1e}, although the loss agrees"
    return [Fault(None, None, words=words, place="loss")]


def _max_pool_fault(layer: Layer, trace: Trace) -> Fault | None:
    """Explain a gradient that differs before a max pool with nearly equal values in a window."""
    names = [each.name for each in trace.layers]
    behind = trace.layers[names.index(layer.name) + 1 :]
    for each in behind:
        if each.params:
            return None
        if each.kind == "max_pool" and (count := nearly_equal_maxima(each)):
            what = f"{count} windows have a second value that is about as large as the largest"
            return Fault(each, None, diagnosis=known("gradient of a max pool", what))
    return None


def _dropout_rates(traces: Sequence[Trace]) -> list[Fault]:
    """Find dropout layers with other rates, paired by their order; see `pairing` for all others."""
    dropouts = [
        [x for x in trace.layers if x.kind == "dropout" and x.settings.get("p") != 0]
        for trace in traces
    ]
    if len(dropouts[0]) != len(dropouts[1]):
        counts = " and ".join(str(len(each)) for each in dropouts)
        return [Fault(None, None, words=f"the models have {counts}", place="dropout layers")]
    faults = []
    for a, b in zip(*dropouts, strict=True):
        rates = [layer.settings.get("p") for layer in (a, b)]
        if None not in rates and rates[0] != rates[1]:
            words = (
                f"drops {rates[0]:g} of the values in the first model, {rates[1]:g} in the second"
            )
            faults.append(Fault(a, b, words=words))
    return faults


def active_dropouts(traces: Sequence[Trace]) -> list[Fault]:
    """Find dropout layers that drop values in evaluation mode.

    Args:
        traces: Of the first and of the second model, in evaluation mode.

    Returns:
        A fault for each.
    """
    faults = []
    for index, trace in enumerate(traces):
        for layer in trace.layers:
            if layer.kind != "dropout" or np.array_equal(layer.inputs[0], layer.output):
                continue
            values = layer.output[layer.inputs[0] != 0]
            share = 100 * float(np.mean(values == 0))
            words = f"{share:.0f} % of the values are dropped in evaluation mode"
            diagnosis = known("dropout active", words)
            first, second = (layer, None) if index == 0 else (None, layer)
            faults.append(Fault(first, second, diagnosis=diagnosis))
    return faults
