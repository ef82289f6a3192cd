"""The results of a comparison of models, and how they are printed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer
from pymobilenet.machine import describe_machine
from pymobilenet.parity.diff.arbitration import Arbitration, arbitrate
from pymobilenet.parity.diff.fault import Fault, grouped_lines
from pymobilenet.parity.diff.training_result import Training
from pymobilenet.parity.tolerances import MAX_RATIO, USUAL_RATIO


class FailOn(StrEnum):
    """What makes a comparison fail, from nothing to everything."""

    NEVER = "never"
    OUTPUT = "output"
    DIFFER = "differ"
    UNMATCHED = "unmatched"


@dataclass(frozen=True)
class PairRow:
    """The errors of two corresponding layers.

    Attributes:
        first: The layer of the first model, or None.
        second: Its counterpart, or None.
        chained: Relative error of the outputs, each in the run of its own model.
        chained_floor: Noise floor of that output.
        alone: Relative error where both layers get the first model's inputs; None if the second
            cannot take them.
        alone_floor: Noise floor of the layer alone.
        fault: What is wrong with this layer alone, if anything.
    """

    first: Layer | None
    second: Layer | None
    chained: float | None = None
    chained_floor: float = 0.0
    alone: float | None = None
    alone_floor: float = 0.0
    fault: Fault | None = None

    @property
    def is_unmatched(self) -> bool:
        """Whether only one of the models has this layer."""
        return self.first is None or self.second is None

    @property
    def name(self) -> str:
        """The names of both layers, or the one name of both."""
        layers = [layer for layer in (self.first, self.second) if layer is not None]
        return " / ".join(dict.fromkeys(layer.name for layer in layers))

    @property
    def ratio(self) -> float:
        """The chained error in floors; 0 for a layer without counterpart."""
        return 0.0 if self.chained is None else self.chained / self.chained_floor

    @property
    def alone_ratio(self) -> float | None:
        """The error of the layer alone, in floors."""
        return None if self.alone is None else self.alone / self.alone_floor


@dataclass(frozen=True)
class Comparison:
    """Two models, compared layer by layer.

    Attributes:
        first: The name of the first model.
        second: The name of the other.
        dtype: In which both computed.
        rows: The layers, in order of execution.
        output_error: Relative error of what the models return.
        output_floor: Noise floor of what the first returns.
        faults: What differs, in order of execution; then differences of the structure.
        explanation: What was done to the output, if no layer differs.
        training: A training step of both, if labels were given.
    """

    first: str
    second: str
    dtype: str
    rows: tuple[PairRow, ...]
    output_error: float
    output_floor: float
    faults: tuple[Fault, ...]
    explanation: str | None
    training: Training | None = None

    @property
    def output_ratio(self) -> float:
        """The error of the output, in floors."""
        return self.output_error / self.output_floor

    @property
    def worst_ratio(self) -> float:
        """The largest error of the output and of the layers in the whole model, in floors."""
        return max([self.output_ratio, *(row.ratio for row in self.rows)])

    @property
    def passed(self) -> bool:
        """Whether output and all paired layers are within `MAX_RATIO` floors and without fault."""
        return self.passed_evaluation and (self.training is None or self.training.passed)

    @property
    def passed_evaluation(self) -> bool:
        """The same, without training."""
        is_faulty = any(row.fault for row in self.rows) or any(
            fault.diagnosis and not fault.words for fault in self.faults
        )
        return self.worst_ratio <= MAX_RATIO and not is_faulty

    def fails(self, fail_on: FailOn) -> bool:
        """Return whether the models fail by a rule.

        Args:
            fail_on: ``never``; ``output``, only if the outputs differ; ``differ``, if the output, a
                layer or anything else that was compared does; ``unmatched``, also if a layer has no
                counterpart.
        """
        if fail_on is FailOn.NEVER:
            return False
        if fail_on is FailOn.OUTPUT:
            return not self.output_ratio <= MAX_RATIO
        is_unmatched = fail_on is FailOn.UNMATCHED and any(row.is_unmatched for row in self.rows)
        return not self.passed or is_unmatched

    def faults_of(self, row: PairRow) -> list[Fault]:
        """Return the faults that are at the layers of a row.

        Args:
            row: One of `rows`.
        """
        own = [layer for layer in (row.first, row.second) if layer is not None]
        return [
            fault
            for fault in self.faults
            if any(layer is each for layer in own for each in (fault.first, fault.second))
        ]

    @property
    def first_divergence(self) -> PairRow | None:
        """The first pair that is outside `USUAL_RATIO` floors; None if the models agree."""
        if self.passed_evaluation:
            return None
        return next((row for row in self.rows if row.ratio > USUAL_RATIO), None)

    def lines(self) -> list[str]:
        """Return the verdict, the first divergence and the faults, as text."""
        pairs = [row for row in self.rows if row.chained is not None]
        worst = max((row.ratio for row in pairs), default=0.0)
        verdict = "agree" if self.passed_evaluation else "DIFFER"
        lines = [
            f"{self.first} and {self.second} {verdict}: {len(pairs)} layers in {self.dtype}, the "
            f"worst at {worst:.3g} noise floors (limit {MAX_RATIO:g}), the output at "
            f"{self.output_ratio:.3g}"
        ]
        divergence = self.first_divergence
        if divergence is not None:
            lines.append(
                f"  first divergence: {divergence.first} / {divergence.second}, error "
                f"{divergence.chained:.1e}, floor {divergence.chained_floor:.1e}"
            )
        if self.explanation:
            lines.append(f"  {self.explanation}")
        for group in grouped_lines(self.faults, self.first, self.second):
            lines += [f"  {line}" for line in group]
        if self.training is not None:
            lines += self.training.lines(self.first, self.second)
        return lines


@dataclass(frozen=True)
class Inputs:
    """What a report says of the inputs.

    Attributes:
        shape: (N, ...).
        dtype: As they were given.
        digest: SHA-256 of their bytes in C order, in hexadecimal.
    """

    shape: tuple[int, ...]
    dtype: str
    digest: str

    @classmethod
    def of(cls, inputs: np.ndarray) -> Inputs:
        """Describe an array.

        Args:
            inputs: (N, ...).

        Returns:
            Its shape, dtype and SHA-256.
        """
        digest = hashlib.sha256(np.ascontiguousarray(inputs).data).hexdigest()
        return cls(inputs.shape, str(inputs.dtype), digest)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as values of JSON."""
        return {"shape": list(self.shape), "dtype": self.dtype, "sha256": self.digest}


@dataclass(frozen=True)
class DiffReport:
    """The result of `compare`.

    Attributes:
        names: The names of the models.
        comparisons: The first model with each of the others; where several differ from it, also
            these with each other.
        versions: Name of a model -> versions of its libraries.
        inputs: What is known of the inputs.
    """

    names: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    versions: dict[str, dict[str, str]]
    inputs: Inputs

    @property
    def passed(self) -> bool:
        """Whether all models agree."""
        return all(comparison.passed for comparison in self.comparisons)

    def fails(self, fail_on: FailOn) -> bool:
        """Return whether any two models fail by a rule; see `Comparison.fails`."""
        return any(comparison.fails(fail_on) for comparison in self.comparisons)

    @property
    def arbitration(self) -> Arbitration | None:
        """With three or more models that do not all agree, which of them do."""
        return arbitrate(self.names, self.comparisons)

    @property
    def odd_one_out(self) -> str | None:
        """With three or more models, the one that alone differs from the others."""
        arbitration = self.arbitration
        return None if arbitration is None else arbitration.odd_one_out

    def __str__(self) -> str:
        """Return the report as text."""
        lines = [line for comparison in self.comparisons for line in comparison.lines()]
        arbitration = self.arbitration
        return "\n".join([*lines, *(arbitration.lines() if arbitration is not None else ())])

    def save(
        self, folder: str | Path, fail_on: FailOn = FailOn.DIFFER, command: str | None = None
    ) -> list[Path]:
        """Write the report to files; see `save_report`.

        Args:
            folder: Where to; it is created.
            fail_on: What counts as a failure in JUnit XML.
            command: The command line that repeats the comparison, if there is one.

        Returns:
            The written files.
        """
        from pymobilenet.parity.diff.report import save_report

        return save_report(self, folder, fail_on, command)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as values of JSON."""
        arbitration = self.arbitration
        return {
            "passed": self.passed,
            "models": list(self.names),
            "versions": self.versions,
            "inputs": self.inputs.as_dict(),
            "machine": describe_machine(),
            "arbitration": None if arbitration is None else arbitration.lines(),
            "odd_one_out": self.odd_one_out,
            "comparisons": [_comparison_dict(comparison) for comparison in self.comparisons],
        }


def _comparison_dict(comparison: Comparison) -> dict[str, Any]:
    return {
        "first": comparison.first,
        "second": comparison.second,
        "dtype": comparison.dtype,
        "passed": comparison.passed,
        "output": {"error": comparison.output_error, "floor": comparison.output_floor},
        "explanation": comparison.explanation,
        "faults": [
            {"name": fault.name, "lines": fault.describe(comparison.first, comparison.second)}
            for fault in comparison.faults
        ],
        "layers": [_row_dict(row) for row in comparison.rows],
        "training": None
        if comparison.training is None
        else _training_dict(comparison.training, comparison.first, comparison.second),
    }


def _training_dict(training: Training, first: str, second: str) -> dict[str, Any]:
    return {
        "passed": training.passed,
        "note": training.note,
        "loss": list(training.losses),
        "rows": [
            {"quantity": row.quantity, "name": row.name, "error": row.error, "floor": row.floor}
            for row in training.rows
        ],
        "faults": [
            {"name": fault.name, "lines": fault.describe(first, second)}
            for fault in training.faults
        ],
    }


def _row_dict(row: PairRow) -> dict[str, Any]:
    def layer(value: Layer | None) -> dict[str, Any] | None:
        if value is None:
            return None
        return {"name": value.name, "kind": value.kind, "shape": list(value.output.shape)}

    return {
        "first": layer(row.first),
        "second": layer(row.second),
        "chained": None
        if row.chained is None
        else {"error": row.chained, "floor": row.chained_floor},
        "alone": None if row.alone is None else {"error": row.alone, "floor": row.alone_floor},
        "fault": None if row.fault is None else row.fault.name,
    }
