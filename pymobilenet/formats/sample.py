"""Inference of settings that a file does not state, from a sample of the original net.

A sample is a few inputs of the original net and its outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.architecture import activation_names
from pymobilenet.backends import backend
from pymobilenet.backends.base import Model
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats.match import Match
from pymobilenet.formats.rounding import ALLOWED, noise_floors, softmax
from pymobilenet.formats.settings import OPEN, Settings
from pymobilenet.weights import State, check_state

EQUAL_FACTOR = 10.0
"""Combinations whose errors are within this factor of the smallest count as equal."""


@dataclass(frozen=True)
class Sample:
    """A few inputs of the original net and its outputs in evaluation mode.

    Attributes:
        inputs: (N, C, H, W), floats, scaled as for the net.
        outputs: (N, classes), floats, logits or probabilities.
        intermediates: Outputs of layers, (N, C, H, W), by the name of the module in the file or by
            the canonical name of the activation.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    intermediates: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: str | Path) -> Sample:
        """Read a sample.

        Args:
            path: An .npz file with ``inputs``, ``outputs`` and any intermediate outputs. Inputs may
                have the axes of torch (N, C, H, W), Keras (N, H, W, C) or Flux (W, H, C, N), and
                outputs (N, classes) or (classes, N).

        Returns:
            The sample with torch's axes.

        Raises:
            WeightsError: The file is no npz file, or lacks these arrays.
        """
        from pymobilenet.formats.npz import read

        arrays, _ = read(Path(path))
        if "inputs" not in arrays or "outputs" not in arrays:
            raise WeightsError(
                f"{path}: a sample must have inputs and outputs. Received: {sorted(arrays)}"
            )
        inputs, outputs = arrays.pop("inputs"), arrays.pop("outputs")
        if inputs.ndim != 4 or outputs.ndim != 2:
            raise WeightsError(
                f"{path}: inputs must have four axes and outputs two. "
                f"Received: {inputs.shape} and {outputs.shape}"
            )
        axes = _axes(inputs.shape, outputs.shape)
        inputs = inputs.transpose(axes)
        if outputs.shape[0] != len(inputs) and outputs.shape[1] == len(inputs):
            outputs = outputs.T
        if len(outputs) != len(inputs):
            raise WeightsError(
                f"{path}: outputs must be as many as inputs. "
                f"Received: {inputs.shape} and {outputs.shape}"
            )
        intermediates = {
            name: array.transpose(axes) for name, array in arrays.items() if array.ndim == 4
        }
        return cls(inputs, outputs, intermediates)


@dataclass(frozen=True)
class _Trial:
    """One combination of settings, and the relative error of its outputs."""

    settings: dict[str, Any]
    error: float


def decide(
    source: str,
    sample: Sample,
    inferred: MobileNetConfig,
    state: State,
    match: Match,
    known: Settings,
) -> tuple[Settings, tuple[str, ...]]:
    """Find the combination of the unknown settings that reproduces the sample's outputs.

    The outputs count as reproduced within `ALLOWED` times the noise floor of the closest
    combination, which is measured. A setting that does not change the outputs, as relu or relu6 if
    no value exceeds 6, stays unknown.

    Args:
        source: The file, for messages.
        sample: Inputs and outputs of the original net.
        inferred: The config inferred from the shapes of the tensors.
        state: Canonical name -> array, float32 or float64.
        match: How the file's names are paired, for the names of intermediate outputs.
        known: The settings known from the file and the user.

    Returns:
        The settings with those that the sample determines, and notes for the report.

    Raises:
        WeightsError: No combination reproduces the outputs. The message states the closest one and,
            with intermediate outputs, the first layer that differs.
    """
    fixed = known.known(source)
    searched = {name: choices for name, choices in OPEN.items() if name not in fixed}
    for name, value in match.layout.fixed.items():
        if name in searched and value not in searched[name]:
            searched[name] = (*searched[name], value)
    base = replace(inferred, **{n: v for n, v in fixed.items() if hasattr(inferred, n)})
    base = replace(base, softmax=False)
    wide = {name: tensor.astype(np.float64) for name, tensor in state.items()}
    check_state(base, wide, "float64", source=source)
    trials = sorted(_trials(sample, base, wide, searched), key=lambda trial: trial.error)
    best = trials[0]
    floor = sample_floor(replace(base, **best.settings), state, sample)
    allowed = ALLOWED * floor
    if not best.error <= allowed:
        raise WeightsError(
            f"{source}: no combination of {', '.join(searched) or 'settings'} reproduces the "
            f"sample's outputs: the closest, {_text(best.settings)}, has a relative error of "
            f"{best.error:.1e}, where rounding accounts for {allowed:.1e}{_runner_up(trials[1:])}"
            + _first_difference(sample, base, state, best, match)
        )
    equal = [trial for trial in trials if trial.error <= max(EQUAL_FACTOR * best.error, floor)]
    decided = {
        name: best.settings[name]
        for name in searched
        if len({trial.settings[name] for trial in equal}) == 1
    }
    others = [trial for trial in trials if trial not in equal]
    notes = [
        f"the sample decides {_text(decided) or 'nothing new'}: relative error {best.error:.1e}, "
        f"where rounding accounts for {allowed:.1e}{_runner_up(others)}"
    ]
    undecided = [name for name in searched if name not in decided]
    if undecided:
        notes.append(
            f"the sample does not decide {', '.join(undecided)}: both give the same outputs"
        )
    if _are_probabilities(sample.outputs) and "softmax" not in fixed:
        decided["softmax"] = True
    return replace(known, sample=decided), tuple(notes)


def _runner_up(trials: Sequence[_Trial]) -> str:
    if not trials:
        return ""
    return f"; the runner-up, {_text(trials[0].settings)}, {trials[0].error:.1e}"


def sample_floor(config: MobileNetConfig, state: State, sample: Sample) -> float:
    """Return how far rounding moves the sample's outputs, relative to their norm.

    Args:
        config: The net, without a softmax.
        state: Its weights, in whose dtype the floor is measured.
        sample: Its inputs and outputs.
    """
    return _floors(config, state, sample, ["logits"])["logits"]


def _floors(
    config: MobileNetConfig, state: State, sample: Sample, names: Sequence[str]
) -> dict[str, float]:
    is_probability = _are_probabilities(sample.outputs)
    is_float = sample.outputs.dtype.kind == "f"
    precision = sample.outputs.dtype if is_float else np.dtype("float32")
    return noise_floors(config, state, sample.inputs, names, precision, is_probability)


def _trials(
    sample: Sample, base: MobileNetConfig, state: State, searched: Mapping[str, tuple[Any, ...]]
) -> Iterator[_Trial]:
    for values in itertools.product(*searched.values()):
        settings = dict(zip(searched, values, strict=True))
        model = _model(base, state, settings)
        outputs = model.predict(sample.inputs.astype(np.float64, order="C"))
        yield _Trial(settings, output_distance(outputs, sample.outputs))


def _model(base: MobileNetConfig, state: State, settings: Mapping[str, Any]) -> Model:
    return backend("torch").from_state(replace(base, **settings), state)


def output_distance(logits: np.ndarray, outputs: np.ndarray) -> float:
    """Return the norm of the difference over that of `outputs`, logits or probabilities.

    Args:
        logits: (N, classes), float64, of this package's net.
        outputs: (N, classes), floats, of the original net.

    Raises:
        WeightsError: The shapes differ.
    """
    if logits.shape != outputs.shape:
        raise WeightsError(
            f"the sample's outputs must have shape {logits.shape}. Received: {outputs.shape}"
        )
    if _are_probabilities(outputs):
        logits = softmax(logits)
    return _relative(logits, outputs)


def _relative(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the norm of the difference over the norm of `expected`."""
    norm = float(np.linalg.norm(expected))
    return float(np.linalg.norm(values - expected)) / (norm or 1.0)


def _are_probabilities(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-4))


def _first_difference(
    sample: Sample, base: MobileNetConfig, state: State, best: _Trial, match: Match
) -> str:
    """Return a message about the first intermediate output that the closest net does not give."""
    if not sample.intermediates:
        return ""
    wide = {name: tensor.astype(np.float64) for name, tensor in state.items()}
    model = _model(base, wide, best.settings)
    activations = model.activations(sample.inputs.astype(np.float64, order="C"))
    canonical_names = {name: name for name in activation_names(base)}
    for canonical, peer in match.names.items():
        unit, _, leaf = canonical.rpartition(".")
        if leaf == "weight":
            canonical_names[peer.rpartition(".")[0] or peer.rpartition("/")[0]] = unit
    order = {name: index for index, name in enumerate(activations)}
    pairs = sorted(
        (order[canonical_names[name]], name)
        for name in sample.intermediates
        if canonical_names.get(name) in order
    )
    floors = _floors(
        replace(base, **best.settings), state, sample, [canonical_names[name] for _, name in pairs]
    )
    for _, name in pairs:
        expected, value = sample.intermediates[name], activations[canonical_names[name]]
        if expected.shape != value.shape:
            return f"; the first that differs is {name}: {value.shape}, not {expected.shape}"
        if not _relative(value, expected) <= ALLOWED * floors[canonical_names[name]]:
            return f"; the first that differs is {name}, by {_relative(value, expected):.1e}"
    return ""


def _axes(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[int, ...]:
    """Return the order of axes that makes inputs (N, C, H, W): that of torch, Keras or Flux.

    Of the orders with at most 4 channels, it is the first one with as many images as outputs.
    """
    most_channels = 4
    orders = ((0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0))
    candidates = [order for order in orders if inputs[order[1]] <= most_channels] or list(orders)
    return next((order for order in candidates if inputs[order[0]] in outputs), candidates[0])


def _text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
