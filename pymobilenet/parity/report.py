"""The result of a comparison: as an object, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.base import Backend
from pymobilenet.data import Dataset
from pymobilenet.files import atomic_write
from pymobilenet.parity.accuracy import Accuracy
from pymobilenet.parity.curves import Curves
from pymobilenet.parity.flips import Flips
from pymobilenet.parity.judge import Divergence, Row, Verdict
from pymobilenet.parity.kinks import Exercised
from pymobilenet.parity.lockstep import LockstepResult
from pymobilenet.parity.plots import write_loss_curves
from pymobilenet.parity.recording import Recording
from pymobilenet.parity.scenario import Scenario
from pymobilenet.parity.tolerances import MAX_RATIO, USUAL_RATIO


@dataclass
class ScenarioResult:
    """Levels 0 to 3 of one scenario, and its figures (see `pymobilenet.parity.figures`).

    The figures are by backend, against the oracle, and for the pair under "B against A".

    Attributes:
        scenario: What was run.
        verdicts: One for each level.
        flips: Backend -> the activations in which any value flipped.
        logits: The largest distance of an image's logits.
        gradients: The median distance of a gradient.
        activations: Activation -> distance.
        accuracies: In float32, the activations of each backend beside torch's.
        kinks: Which kinks the oracle's values passed, for each activation.
        compute_options: Backend -> `Model.compute_options`, for models that were run.
    """

    scenario: Scenario
    verdicts: list[Verdict]
    flips: dict[str, list[Flips]]
    logits: dict[str, float]
    gradients: dict[str, float]
    activations: dict[str, dict[str, float]]
    accuracies: list[Accuracy] = field(default_factory=list)
    kinks: list[Exercised] = field(default_factory=list)
    compute_options: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class ParityReport:
    """The result of a comparison.

    Attributes:
        backends: The leader and the follower.
        julia: Whether Julia was live or recorded, with its versions.
        data: The source of the images.
        synthetic: Whether the images are synthetic.
        seed: Of weights and batches.
        versions: Backend -> library -> version.
        machine: Operating system, cores, Python and threads.
        scenarios: Levels 0 to 3.
        lockstep: Level 4, in lockstep.
        curves: Level 4, free runs.
        handovers: Level 6.
        first_blocks: Scenario -> the first block that differs, where it was looked for.
    """

    backends: tuple[str, str]
    julia: str
    data: str
    synthetic: bool
    seed: int
    versions: dict[str, dict[str, str]]
    machine: dict[str, Any]
    scenarios: list[ScenarioResult] = field(default_factory=list)
    lockstep: list[LockstepResult] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    handovers: list[Verdict] = field(default_factory=list)
    first_blocks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, live: Sequence[Backend], data: Dataset, seed: int, recording: Recording | None = None
    ) -> ParityReport:
        """Return an empty report on `live` backends, or one backend and a recording.

        Args:
            live: The backends that are compared, the leader first.
            data: The training images.
            seed: Of weights and batches.
            recording: Replaces the second backend.
        """
        versions = {backend.name: backend.versions() for backend in live}
        julia = "not compared"
        if "julia" in versions:
            julia = f"live, {_versions(versions['julia'])}"
        if recording is not None:
            versions["julia (recorded)"] = recording.versions
            julia = describe_recording(recording)
        first, second = [backend.name for backend in live] + ["julia"] * (recording is not None)
        return cls(
            backends=(first, second),
            julia=julia,
            data=data.source,
            synthetic=data.synthetic,
            seed=seed,
            versions=versions,
            machine={
                "system": f"{platform.system()} {platform.machine()}",
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "threads": {backend.name: backend.threads() for backend in live},
            },
        )

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts of levels 0 to 3 and 6."""
        levels = [verdict for result in self.scenarios for verdict in result.verdicts]
        return levels + self.handovers

    @property
    def accuracies(self) -> list[Accuracy]:
        """The accuracies of all scenarios in float32."""
        return [accuracy for result in self.scenarios for accuracy in result.accuracies]

    @property
    def passed(self) -> bool:
        """Whether anything was compared, and everything agrees."""
        passed = [verdict.passed for verdict in self.verdicts]
        passed += [accuracy.passed for accuracy in self.accuracies]
        passed += [result.passed for result in self.lockstep]
        passed += [run.passed for run in self.curves]
        return bool(passed) and all(passed)

    @property
    def first_divergence(self) -> Divergence | None:
        """The first divergence of the lowest level; None if there is none.

        Those of higher levels may follow from it.
        """
        candidates = [verdict.first_divergence for verdict in self.verdicts]
        candidates += [accuracy.divergence for accuracy in self.accuracies]
        candidates += [result.divergence for result in self.lockstep]
        candidates += [run.divergence for run in self.curves]
        divergences = [divergence for divergence in candidates if divergence is not None]
        return min(divergences, key=lambda one: one.level) if divergences else None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON, except that numbers may be infinite."""
        first = self.first_divergence
        return {
            "verdict": "agree" if self.passed else "differ",
            "backends": list(self.backends),
            "julia": self.julia,
            "data": self.data,
            "synthetic": self.synthetic,
            "seed": self.seed,
            "versions": self.versions,
            "machine": self.machine,
            "first_divergence": asdict(first) if first else None,
            "first_blocks": self.first_blocks,
            "scenarios": [_scenario(result) for result in self.scenarios],
            "lockstep": [_lockstep(result) for result in self.lockstep],
            "curves": [_curves(curves) for curves in self.curves],
            "handovers": [
                {"name": verdict.scenario, **_verdict(verdict)} for verdict in self.handovers
            ],
        }


def describe_recording(recording: Recording) -> str:
    """Return the text of `ParityReport.julia` for a recording."""
    return f"recorded, {_versions(recording.versions)}"


def _versions(versions: dict[str, str]) -> str:
    titles = {"julia": "Julia", "Flux": "Flux"}
    return ", ".join(f"{titles[name]} {versions[name]}" for name in titles if name in versions)


def _scenario(result: ScenarioResult) -> dict[str, Any]:
    return {
        "name": result.scenario.name,
        "scenario": asdict(result.scenario),
        "flips": {name: [asdict(f) for f in flips] for name, flips in result.flips.items()},
        "logits_row_error": result.logits,
        "median_gradient_error": result.gradients,
        "activation_errors": result.activations,
        "kinks": [asdict(one) for one in result.kinks],
        "activation_accuracy": {one.backend: _accuracy(one) for one in result.accuracies},
        "computed_by": result.compute_options,
        "levels": [_verdict(verdict) for verdict in result.verdicts],
    }


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    name, ratio = accuracy.largest
    return {
        "verdict": "agree" if accuracy.passed else "differ",
        "median_of_contiguous": accuracy.typical,
        "largest": name,
        "largest_of_either_layout": ratio,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "level": verdict.level,
        "title": verdict.title,
        "verdict": "agree" if verdict.passed else "differ",
        "within_10_floors": verdict.fraction_within,
        "outside_10_floors": verdict.outside,
        "allowed_outside_10_floors": verdict.allowed_outside,
        "worst_ratio": verdict.worst.ratio,
        "worst": verdict.worst.key.name,
        "tensors": [_row(row) for row in verdict.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    step = {} if row.key.step is None else {"step": row.key.step}
    return {
        "quantity": row.key.quantity,
        "name": row.key.name,
        "errors": row.errors,
        "floor": row.floor,
        "ratio": row.ratio,
        "verdict": _row_verdict(row.ratio),
        **step,
    }


def _row_verdict(ratio: float) -> str:
    if ratio <= USUAL_RATIO:
        return "within"
    return "outside 10" if ratio <= MAX_RATIO else "outside"


def _lockstep(result: LockstepResult) -> dict[str, Any]:
    return {
        **_verdict(result.verdict),
        "verdict": "agree" if result.passed else "differ",
        "within_10_floors": result.fraction_within,
        "outside_10_floors": result.outside,
        "allowed_outside_10_floors": result.allowed_outside,
        "steps": len(result.losses),
        "losses": result.losses,
        "worst_ratio_by_step": result.ratios,
    }


def _curves(curves: Curves) -> dict[str, Any]:
    return {
        "title": curves.title,
        "verdict": "agree" if curves.passed else "differ",
        "judged_steps": curves.compared_steps,
        "first_flip": curves.flipped,
        "worst_ratio": curves.ratio,
        "largest_difference": curves.largest_difference,
        "losses": dict(zip(curves.names, map(list, curves.losses), strict=True)),
        "difference": list(curves.difference),
        "envelope": list(curves.envelope),
    }


def write_parity_report(report: ParityReport, folder: str | Path) -> None:
    """Write ``report.json`` and, if there are curves, ``curves.png``.

    Args:
        report: The result of a comparison.
        folder: Is made if it does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_json_safe(report.to_dict()), indent=1, allow_nan=False)
    with atomic_write(folder / "report.json") as file:
        file.write(text.encode())
    if report.curves:
        write_loss_curves(report.curves, folder / "curves.png", report.julia, report.synthetic)


def _json_safe(value: Any) -> Any:
    """Replace numbers that are not finite, which JSON lacks, by the texts "inf" and "nan"."""
    if isinstance(value, dict):
        return {name: _json_safe(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else str(float(value))
    return value
