"""Which loss a model computes: the form of cross entropy that gives its loss and its gradient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends.trace import TrainingStep
from pymobilenet.parity.diff.ops import log_softmax, softmax
from pymobilenet.weights.perturb import distance

TOLERANCES = {"float64": 1e-6, "float32": 1e-4}
"""Relative distance at which a form is recognised: far above rounding in that dtype and above that
of float32 constants in a float64 loss (1e-8, as in ``Flux.label_smoothing(labels, 0.1f0)``), and
far below the difference between any two forms. It decides no verdict."""

SIGNIFICANT = 1e-4
"""Difference of two label smoothings that is one: float32 tells some five digits of them."""

SHIFTS = (0, 1, -1)


@dataclass(frozen=True)
class LossForm:
    """A form of cross entropy.

    Attributes:
        reduction: ``mean`` or ``sum`` over the batch, or ``mean over classes, too``.
        argument: What the outputs are taken for: ``logits``, ``logits after a softmax``,
            ``probabilities``, or ``log-probabilities``.
        smoothing: Of the labels.
        shift: What is added to the labels.
    """

    reduction: str = "mean"
    argument: str = "logits"
    smoothing: float = 0.0
    shift: int = 0

    def compute(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient.

        Args:
            outputs: (N, classes), what the model returns.
            labels: (N,), from 0.

        Returns:
            The loss, and its gradient in `outputs`, of their shape.
        """
        count, classes = outputs.shape
        values = np.asarray(outputs, np.float64)
        onehot = np.eye(classes)[(labels + self.shift) % classes]
        targets = (1 - self.smoothing) * onehot + self.smoothing / classes
        sums = targets.sum(1, keepdims=True)
        if self.argument == "logits":
            loss = -(targets * log_softmax(values)).sum()
            gradient = softmax(values) * sums - targets
        elif self.argument == "logits after a softmax":
            inner = softmax(values)
            loss = -(targets * log_softmax(inner)).sum()
            outer = softmax(inner) * sums - targets
            gradient = inner * (outer - (outer * inner).sum(1, keepdims=True))
        elif self.argument == "probabilities":
            loss = -(targets * np.log(values)).sum()
            gradient = -targets / values
        else:
            loss, gradient = -(targets * values).sum(), -targets
        scale = {"mean": count, "sum": 1, "mean over classes, too": count * classes}
        return float(loss) / scale[self.reduction], gradient / scale[self.reduction]


DEFAULT = LossForm()

REDUCTIONS = ("mean", "sum", "mean over classes, too")
ARGUMENTS = ("logits", "logits after a softmax", "probabilities", "log-probabilities")


def identify_loss(step: TrainingStep, labels: np.ndarray) -> LossForm | None:
    """Return the form of cross entropy that a training step computed, or None if it is none.

    Args:
        step: What the model computed.
        labels: (N,), what it was given.
    """
    output = step.trace.output
    if output.ndim != 2:
        return None
    tolerance = TOLERANCES[output.dtype.name]
    for form in _forms(bool((output > 0).all())):
        # the loss is linear in the smoothing
        hard, soft = (replace(form, smoothing=s).compute(output, labels)[0] for s in (0.0, 1.0))
        smoothing = (step.loss - hard) / (soft - hard) if soft != hard else 0.0
        if abs(smoothing) <= SIGNIFICANT:
            smoothing = 0.0
        found = replace(form, smoothing=smoothing)
        loss, gradient = found.compute(output, labels)
        is_loss = abs(loss - step.loss) <= tolerance * max(abs(loss), 1e-3)
        if is_loss and 0 <= smoothing < 1 and distance(step.output_gradient, gradient) <= tolerance:
            return found
    return None


def _forms(is_positive: bool) -> Iterator[LossForm]:
    """Yield all forms without smoothing, those with fewer departures from the default first."""
    forms = [
        LossForm(reduction, argument, 0.0, shift)
        for reduction, argument, shift in itertools.product(REDUCTIONS, ARGUMENTS, SHIFTS)
    ]
    for form in sorted(forms, key=_departures):
        if form.argument != "probabilities" or is_positive:
            yield form


def _departures(form: LossForm) -> int:
    return len(departures(DEFAULT, form))


def departures(first: LossForm, second: LossForm) -> list[tuple[str, str]]:
    """Return how two forms differ.

    Args:
        first: The first model's.
        second: The other's.

    Returns:
        Name of a known difference, and what the second does.
    """
    found = []
    if first.reduction != second.reduction:
        words = f"the loss is the {second.reduction} instead of the {first.reduction}"
        found.append(("reduction of the loss", words))
    if first.argument != second.argument:
        words = f"the loss takes the outputs for {second.argument} instead of {first.argument}"
        found.append(("softmax and loss", words))
    if abs(first.smoothing - second.smoothing) > SIGNIFICANT:
        words = f"labels are smoothed by {second.smoothing:.4g} instead of {first.smoothing:.4g}"
        found.append(("label smoothing", words))
    if first.shift != second.shift:
        words = f"labels count from {-second.shift} instead of {-first.shift}"
        found.append(("labels counted from 1", words))
    return found
