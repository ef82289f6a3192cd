"""The results of a training step of two models, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.parity.diff.fault import Fault, grouped_lines
from pymobilenet.parity.tolerances import MAX_RATIO


@dataclass(frozen=True)
class TrainingRow:
    """The error of one quantity of a training step.

    Attributes:
        quantity: ``output in training mode``, ``loss``, ``gradient`` or ``running statistics``.
        name: Of the layers, and of the parameter.
        error: The relative error.
        floor: The noise floor.
    """

    quantity: str
    name: str
    error: float
    floor: float

    @property
    def ratio(self) -> float:
        """The error in floors."""
        return self.error / self.floor


@dataclass(frozen=True)
class Training:
    """A training step of two models on the same batch, without dropout and without optimizer.

    Attributes:
        rows: The outputs of the layers, the loss, the gradients and the running statistics.
        faults: What differs.
        losses: Of the first and of the second model; empty if none were computed.
        note: Why nothing was compared, or empty.
        near_kinks: The layers with values as near to a kink as rounding moves them. Gradients of
            layers before the last of them are lost: their floors are infinite.
    """

    rows: tuple[TrainingRow, ...] = ()
    faults: tuple[Fault, ...] = ()
    losses: tuple[float, ...] = ()
    note: str = ""
    near_kinks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all quantities are within `MAX_RATIO` floors and nothing differs."""
        return not self.faults and all(row.ratio <= MAX_RATIO for row in self.rows)

    def lines(self, first: str, second: str) -> list[str]:
        """Return the verdict and the faults, as text.

        Args:
            first: The name of the first model.
            second: The name of the other.
        """
        if self.note:
            return [f"  not compared in training: {self.note}"]
        verdict = "agree" if self.passed else "DIFFER"
        counts = {row.quantity: 0.0 for row in self.rows}
        for row in self.rows:
            counts[row.quantity] = max(counts[row.quantity], row.ratio)
        worst = ", ".join(f"{quantity} {ratio:.3g}" for quantity, ratio in counts.items())
        lines = [
            f"  in a training step they {verdict}: loss {self.losses[0]:.6g} and "
            f"{self.losses[1]:.6g}; worst in noise floors (limit {MAX_RATIO:g}): {worst}"
        ]
        divergence = next((row for row in self.rows if row.ratio > MAX_RATIO), None)
        if divergence is not None:
            lines.append(
                f"    first divergence: {divergence.quantity}, {divergence.name}, error "
                f"{divergence.error:.1e}, floor {divergence.floor:.1e}"
            )
        if self.near_kinks:
            lines.append(
                "    not judged: gradients before "
                f"{self.near_kinks[-1]}, where values are within rounding of a kink"
            )
        for group in grouped_lines(self.faults, first, second):
            lines += [f"    {line}" for line in group]
        return lines
