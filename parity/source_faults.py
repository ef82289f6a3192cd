"""Faults in the source of the NumPy and torch backends, planted by the operators of `operators`.

A model under the fault is compared with a recording of the other backend's model. Where a fault
begins is known without any judge: it is the first number, in the order of computation, whose bits
are not those that the same model computes without the fault.
"""

import functools
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity import operators
from parity.outcomes import JUDGED, NO_EFFECT, RAISES, Outcome
from pymobilenet import MobileNetConfig, backend
from pymobilenet.backends import numpy_conv, numpy_layers, numpy_network
from pymobilenet.backends.torch import module as torch_module
from pymobilenet.backends.trace import Participant
from pymobilenet.parity import compare
from pymobilenet.parity.diff import RecordedOutputs, participant, record_outputs
from pymobilenet.parity.diff.training import _values
from pymobilenet.parity.diff.training_faults import GRADIENT, LOSS, OUTPUT
from pymobilenet.parity.scenario import start_state
from pymobilenet.parity.tolerances import MAX_RATIO

NET = {"width_mult": 0.125, "resolution": 32, "num_classes": 7}
CONFIGS = {
    "v1": MobileNetConfig("v1", **NET, padding="keras"),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", resolution=32, num_classes=7),
    "v2": MobileNetConfig("v2", **NET, stem_stride=1),
}
SIZE, COUNT = (33, 65), 4
LABELS = np.array([3, 0, 6, 6])

NUMPY_FUNCTIONS = (
    numpy_layers.affine,
    numpy_layers.affine_backward,
    numpy_layers.normalise,
    numpy_layers.normalise_backward,
    numpy_layers.normalise_batch_backward,
    numpy_layers.batch_statistics,
    numpy_layers.Statistics.unbiased_variance,
    numpy_layers.activate,
    numpy_layers.activate_backward,
    numpy_layers.mean_pool,
    numpy_layers.mean_pool_backward,
    numpy_layers.linear,
    numpy_layers.linear_backward,
    numpy_layers.cross_entropy,
    numpy_conv.conv,
    numpy_conv.conv_backward,
    numpy_conv._windows,
    numpy_conv._mix,
    numpy_conv._unmix,
    numpy_conv._mix_weight_grad,
    numpy_conv.channel_sums,
    numpy_network.NumpyNetwork._forward,
    numpy_network.NumpyNetwork.backward,
    numpy_network.NumpyNetwork.scores_backward,
    numpy_network.NumpyNetwork.units_backward,
    numpy_network.NumpyNetwork._unit_backward,
    numpy_network.NumpyNetwork.update_running,
)
TORCH_FUNCTIONS = (
    torch_module.Norm.forward,
    torch_module.Activation.forward,
    torch_module.Unit.__init__,
    torch_module.Block.__init__,
    torch_module.Residual.forward,
    torch_module.Add.forward,
    torch_module.Pool.forward,
    torch_module.MobileNet.__init__,
    torch_module.MobileNet.forward,
)

KNOWN = {
    "normalise: term dropped: statistics.variance + eps -> statistics.variance": "eps of a norm",
    "affine: term dropped: _per_channel(weight) * normalised + _per_channel(bias) -> "
    "_per_channel(weight) * normalised": "parameters of a norm",
    "affine: term dropped: _per_channel(weight) * normalised -> normalised": "parameters of a norm",
    "linear: term dropped: x @ weight.T + bias -> x @ weight.T": "missing bias",
    "NumpyNetwork._forward: term dropped: block_input + act -> act": "missing residual",
    "Statistics.unbiased_variance: term dropped: self.variance * (self.count / (self.count - 1)) "
    "-> self.variance": "biased running variance",
    "Add.forward: term dropped: x + y -> x": "missing residual",
    "Add.forward: term dropped: x + y -> y": "missing residual",
}
"""Faults that are known differences -> the difference."""


class Remembered(Participant):
    """A participant whose latest results are kept."""

    def __init__(self, inner):
        self.inner = inner
        self.name, self.framework, self.dtypes = inner.name, inner.framework, inner.dtypes
        self.runs_layers, self.has_gradients = inner.runs_layers, inner.has_gradients
        self.values = {}

    def trace(self, inputs, dtype, draw=None):
        trace = self.inner.trace(inputs, dtype, draw)
        self.values |= {("output", layer.name, ""): layer.output for layer in (*trace.layers,)}
        return trace

    def run_layer(self, layer, inputs):
        return self.inner.run_layer(layer, inputs)

    def train_step(self, inputs, labels, dtype, draw=None):
        step = self.inner.train_step(inputs, labels, dtype, draw)
        values = _values(step)
        backward = [key for key in values if key[0] == GRADIENT and key[1]]
        for key in backward:
            values[key] = values.pop(key)  # behind the loss, from the output backwards
        order = {name: -k for k, name in enumerate(dict.fromkeys(key[1] for key in backward))}
        self.values |= dict(sorted(values.items(), key=lambda item: _rank(item[0], order)))
        return step

    def versions(self):
        return self.inner.versions()


def _rank(key, order):
    """The order of computation in a training step: forward, loss, backward, statistics."""
    quantity, layer, _ = key
    if quantity == OUTPUT:
        return (0, 0)
    if quantity == LOSS:
        return (1, 0)
    if quantity == GRADIENT:
        return (2, order.get(layer, -(10**6)))
    return (3, 0)


@dataclass(frozen=True)
class Side:
    """Models of one backend, and the recordings of the other that they are compared with."""

    name: str
    functions: tuple
    build: Callable


def _model(name, family, dtype="float64"):
    config = CONFIGS[family]
    return participant(backend(name).from_state(config, start_state(config, 0, dtype)), name)


NUMPY = Side("NumPy", NUMPY_FUNCTIONS, functools.partial(_model, "numpy"))
TORCH = Side("torch", TORCH_FUNCTIONS, functools.partial(_model, "torch"))


@functools.cache
def images():
    return np.random.default_rng(0).standard_normal((COUNT, 3, *SIZE))


@functools.cache
def recording(name, family):
    """The model of a backend, recorded."""
    folder = Path(tempfile.mkdtemp(prefix="recordings-"))
    path = record_outputs(_model(name, family), images(), folder / "r.npz", labels=LABELS)
    return RecordedOutputs(path)


@functools.cache
def baseline(side_name, family):
    """What the backend's model computes without a fault, in order."""
    side = NUMPY if side_name == "NumPy" else TORCH
    return run(side.build(family))


def run(model):
    remembered = Remembered(model)
    remembered.trace(images(), "float64")
    remembered.train_step(images(), LABELS, "float64")
    return remembered.values


def first_change(values, before):
    """The first number with other bits, in the order of computation, or None."""
    for key, value in before.items():
        other = values.get(key)
        if other is None or not np.array_equal(value, other, equal_nan=True):
            return key
    return None


def source_mutations(side):
    framework = "numpy" if side.name == "NumPy" else "torch"
    return [m for f in side.functions for m in operators.mutations(f, framework)]


def judge(side, mutation, number):
    """Compare the models of one family, in turn, in which the fault changes anything."""
    families = list(CONFIGS)
    families = families[number % 3 :] + families[: number % 3]
    group = f"source of the {side.name} backend"
    outcome = Outcome(str(mutation), group, mutation.operator, NO_EFFECT)
    for family in families:
        before = baseline(side.name, family)
        reference = recording("torch" if side.name == "NumPy" else "numpy", family)
        with operators.planted(mutation):
            try:
                with np.errstate(all="ignore"):
                    second = Remembered(side.build(family))
                    report = compare(reference, second, inputs=images(), labels=LABELS)
            except Exception as error:  # any that a wrong program raises
                return Outcome(
                    str(mutation), group, mutation.operator, RAISES, words=f"{error!s:.200}"
                )
        place = first_change(second.values, before)
        if place is not None:
            known = KNOWN.get(str(mutation), "")
            return outcome_of(str(mutation), group, mutation.operator, family, report, place, known)
    return outcome


def outcome_of(name, group, operator, family, report, place, difference):
    """The outcome of a comparison; `place` is where the fault begins."""
    comparison = report.comparisons[0]
    faults = [*comparison.faults, *comparison.training.faults]
    located = named_place(comparison) == (place[0], place[1])
    for fault in comparison.faults[:1]:  # a layer that the second model lacks
        if fault.first is not None and fault.second is None:
            located = located or f"{place[1]}.".startswith(f"{fault.first.name}.")
    return Outcome(
        name,
        group,
        operator,
        JUDGED,
        caught=not report.passed,
        located=located,
        difference=difference,
        diagnosed=any(fault.name == difference for fault in faults),
        words="" if located else f"{family}: begins at {place}\n{report}",
    )


def named_place(comparison):
    """The quantity and the layer (of the second model) at which a report says that they differ."""
    for row in comparison.rows:
        if row.second is not None and row.ratio > MAX_RATIO:
            return "output", row.second.name
    for row in comparison.training.rows:
        if row.ratio > MAX_RATIO:
            if row.quantity == LOSS or row.name == "of the model's output":
                return row.quantity, ""
            names = re.split(" / |: ", row.name)
            names = names[:-1] if ": " in row.name else names
            return row.quantity, names[-1]
    return None
