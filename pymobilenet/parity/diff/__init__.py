"""Compare any two models, of any framework, layer by layer: what differs, where, and why.

`compare` records what every layer of each model computes on the same inputs, pairs the layers,
judges their differences by noise floors, and looks for known differences that explain them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.difference import Difference
from pymobilenet.parity.diff.differences import DIFFERENCES
from pymobilenet.parity.diff.engine import compare_participants
from pymobilenet.parity.diff.fault import Fault
from pymobilenet.parity.diff.optimizer_result import OptimizerReport, OptimizerRow
from pymobilenet.parity.diff.optimizers import (
    compare_optimizers,
    flux_optimizer,
    torch_optimizer,
)
from pymobilenet.parity.diff.participants import julia, load_onnx, participant
from pymobilenet.parity.diff.port import port_weights
from pymobilenet.parity.diff.recorded import RecordedOutputs, record_outputs
from pymobilenet.parity.diff.result import Comparison, DiffReport, FailOn, PairRow

__all__ = [
    "DIFFERENCES",
    "Comparison",
    "DiffReport",
    "Difference",
    "FailOn",
    "Fault",
    "OptimizerReport",
    "OptimizerRow",
    "PairRow",
    "RecordedOutputs",
    "assert_same_model",
    "compare",
    "compare_optimizers",
    "flux_optimizer",
    "julia",
    "load_onnx",
    "participant",
    "port_weights",
    "record_outputs",
    "torch_optimizer",
]


def compare(
    *models: Any,
    inputs: np.ndarray,
    names: Mapping[str, str] | None = None,
    labels: np.ndarray | None = None,
    losses: Sequence[Any] | None = None,
    dtype: str | None = None,
) -> DiffReport:
    """Compare models of any framework with the first of them, layer by layer, on the same inputs.

    Args:
        models: Two or more: each a ``torch.nn.Module``, a Flux model, a model of this package, a
            function of arrays, a `pymobilenet.backends.trace.Participant`, or text that names a
            file or a function which builds one. All run in evaluation mode.
        inputs: (N, ...), floating; two to eight samples are enough.
        names: For two models, name of a layer in the first -> name in the second, where pairing by
            kind, shapes and order is not what you want.
        labels: (N,), integers from 0. With them, a training step is compared, too: outputs in
            training mode without dropout, loss, gradients, running statistics.
        losses: For each model its loss, a function of outputs and labels in its framework, or None
            for cross entropy of logits, the mean over the batch. A loss in Flux gets labels as
            one-hot columns.
        dtype: ``float64`` or ``float32``; by default the first that both models compute in.

    Returns:
        Verdict, first divergence and faults, with the known differences that explain them.

    Raises:
        ConfigError: A model is of no known kind, or inputs, labels or losses do not fit.
        BackendUnavailable: A framework is not installed.

    Examples:
        >>> import numpy as np
        >>> from torch import nn
        >>> images = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
        >>> conv = nn.Conv2d(3, 4, 3)
        >>> first = nn.Sequential(conv, nn.ReLU())
        >>> second = nn.Sequential(conv, nn.ReLU6())
        >>> compare(first, first, inputs=images).passed
        True
        >>> report = compare(first, second, inputs=10 * images)
        >>> report.comparisons[0].faults[0].name
        'activation function'
    """
    participants = [participant(model) for model in models]
    if losses is not None:
        if len(losses) != len(participants):
            raise ConfigError(
                f"losses must be one for each of {len(participants)} models. Received: "
                f"{len(losses)}"
            )
        for each, loss in zip(participants, losses, strict=True):
            each.loss = loss
    return compare_participants(_with_distinct_names(participants), inputs, names, dtype, labels)


def assert_same_model(*models: Any, inputs: np.ndarray, **options: Any) -> None:
    """Assert that models compute the same; for tests.

    Args:
        models: See `compare`.
        inputs: See `compare`.
        options: The other arguments of `compare`.

    Raises:
        AssertionError: They differ. The message is the report: the verdict, the first layer that
            differs, and the known differences that explain it.
    """
    __tracebackhide__ = True
    report = compare(*models, inputs=inputs, **options)
    if not report.passed:
        raise AssertionError(f"\n{report}")


def _with_distinct_names(participants: list[Any]) -> list[Any]:
    """Number the names that several models share."""
    names = [each.name for each in participants]
    for index, each in enumerate(participants):
        if names.count(names[index]) > 1:
            each.name = f"{names[index]} ({index + 1})"
    return participants
