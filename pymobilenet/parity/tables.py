"""What a comparison found, as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from pymobilenet.parity.figures import largest_ratio
from pymobilenet.parity.judge import Flips, Verdict
from pymobilenet.parity.report import ParityReport


def print_report(report: ParityReport, console: Console) -> None:
    """Print the tables: a line for each level of each scenario, then the curves, then the word."""
    first, second = report.backends
    between = f"{second} against {first}"
    table = Table(title=f"{first} and {second} against the float64 oracle")
    columns = ("scenario", "level", "tensors", "within 10 floors", "worst, in floors", "where", "")
    for column in columns:
        table.add_column(column)
    for result in report.scenarios:
        for verdict in result.verdicts:
            table.add_row(result.scenario.name, *_cells(verdict, verdict.within, verdict.passed))
        table.add_section()
    for run in report.lockstep:
        title = f"{run.verdict.scenario}, {len(run.losses)} steps"
        table.add_row(title, *_cells(run.verdict, run.within, run.passed))
    table.add_section()
    for verdict in report.handovers:
        table.add_row(verdict.scenario, *_cells(verdict, verdict.within, verdict.passed))
    console.print(table)
    figures = Table(title=f"How close: {between}, and activations by distance from the oracle")
    for column in ("scenario", "logits, by row", "gradients, median", "flipped", "activations"):
        figures.add_column(column)
    for result in report.scenarios:
        figures.add_row(
            result.scenario.name,
            f"{result.logits[between]:.1e}",
            f"{result.gradients[between]:.1e}",
            ", ".join(_flipped(name, flips) for name, flips in result.flips.items()),
            "; ".join(_further(result.activations, first, {first, between})),
        )
    console.print(figures)
    if report.curves:
        curves = Table(title="Training curves")
        for column in ("run", "steps judged", "largest difference", "in envelopes", ""):
            curves.add_column(column)
        for curve in report.curves:
            curves.add_row(
                curve.title,
                f"{curve.judged} of {len(curve.envelope)}",
                f"{curve.largest_difference:.1e}",
                f"{curve.ratio:.2f}",
                _word(curve.passed),
            )
        console.print(curves)
    if report.first_divergence:
        console.print(f"[bold red]{report.first_divergence}[/]")
    word = "agree" if report.passed else "DIFFER"
    console.print(f"[bold]{first} and {second} {word}[/] on {report.data} (Julia: {report.julia})")


def _further(activations: dict[str, dict[str, float]], first: str, but: set[str]) -> list[str]:
    """For each backend except those in `but`, at which activation it is furthest beside `first`."""
    said = []
    for name in activations.keys() - but if any(activations[first].values()) else ():
        where, ratio = largest_ratio(activations[name], activations[first])
        said.append(f"{name} at most {ratio:.2f} times as far as {first} ({where})")
    return sorted(said)


def _flipped(name: str, flips: list[Flips]) -> str:
    """How many values flipped, and the furthest distance of one from its kink."""
    count = sum(flip.count for flip in flips)
    furthest = max((flip.distance for flip in flips), default=0.0)
    return f"{name} {count}" + (f" (within {furthest:.0e} of a kink)" if count else "")


def _cells(verdict: Verdict, within: float, passed: bool) -> tuple[str, ...]:
    worst = verdict.worst
    where = f"{worst.key.name} ({worst.key.quantity}) of {worst.worst_backend}"
    where += "" if worst.key.step is None else f", step {worst.key.step}"
    return (
        f"{verdict.level} {verdict.title}",
        str(len(verdict.rows)),
        f"{100 * within:.2f} %",
        f"{worst.ratio:.2f}",
        where if worst.ratio > 0 else "",
        _word(passed),
    )


def _word(passed: bool) -> str:
    return "[green]agree[/]" if passed else "[red]DIFFER[/]"
