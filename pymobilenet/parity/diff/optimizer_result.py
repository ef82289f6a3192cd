"""The results of a comparison of optimizers, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.parity.diff.fault import Fault
from pymobilenet.parity.tolerances import MAX_RATIO


@dataclass(frozen=True)
class OptimizerRow:
    """The error of one parameter after one step.

    Attributes:
        step: From 0.
        name: Of the parameter.
        error: Relative to how far the parameter has moved.
        floor: The noise floor of that.
    """

    step: int
    name: str
    error: float
    floor: float

    @property
    def ratio(self) -> float:
        """The error in floors."""
        return self.error / self.floor


@dataclass(frozen=True)
class OptimizerReport:
    """The result of `compare_optimizers`.

    Attributes:
        first: The name of the first optimizer.
        second: The name of the other.
        rows: The parameters after each step, in order.
        faults: The known differences that explain an error.
    """

    first: str
    second: str
    rows: tuple[OptimizerRow, ...]
    faults: tuple[Fault, ...]

    @property
    def passed(self) -> bool:
        """Whether all parameters are within `MAX_RATIO` floors after every step."""
        return all(row.ratio <= MAX_RATIO for row in self.rows)

    @property
    def first_divergence(self) -> OptimizerRow | None:
        """The first row that is outside; None if the optimizers agree."""
        return next((row for row in self.rows if row.ratio > MAX_RATIO), None)

    def __str__(self) -> str:
        """Return the verdict, the first divergence and the faults, as text."""
        worst = max(row.ratio for row in self.rows)
        verdict = "agree" if self.passed else "DIFFER"
        lines = [
            f"{self.first} and {self.second} {verdict}: {self.rows[-1].step + 1} steps, the worst "
            f"parameter at {worst:.3g} noise floors (limit {MAX_RATIO:g})"
        ]
        row = self.first_divergence
        if row is not None:
            lines.append(
                f"  first divergence: step {row.step}, {row.name}, error {row.error:.1e}, floor "
                f"{row.floor:.1e}"
            )
        lines += [
            f"  {x}" for fault in self.faults for x in fault.describe(self.first, self.second)
        ]
        return "\n".join(lines)
