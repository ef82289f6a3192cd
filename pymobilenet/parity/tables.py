"""The result of a comparison as lines and tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

from pymobilenet.parity.figures import largest_ratio
from pymobilenet.parity.flips import Flips
from pymobilenet.parity.judge import Verdict
from pymobilenet.parity.kinks import Exercised
from pymobilenet.parity.report import ParityReport
from pymobilenet.terminal import folded_table


def print_report(report: ParityReport, console: Console, verbose: bool = False) -> None:
    """Print a line for each level of each scenario, and then the verdict.

    A line has the scenario, the level, the largest error and the verdict. Errors are in noise
    floors or, of a training curve, in envelopes.

    Args:
        report: The result of a comparison.
        console: Where to print.
        verbose: Print tables of the details before the verdict.
    """
    first, second = report.backends
    lines = folded_table("scenario", "level", "worst", "", right=("worst",))
    for name, level, worst, passed in _lines(report):
        lines.add_row(escape(name), level, f"{worst:.2f}", _word(passed))
    console.print(lines)
    console.print(
        "worst: the largest error of a tensor, in noise floors (at most 30), or of a\n"
        "curve, in envelopes (at most 10); of accuracy, the distance of activations from\n"
        "the oracle, in torch's own (at most 1.5).",
        soft_wrap=True,
    )
    if verbose:
        _print_tensors(report, console)
        _print_figures(report, console)
        if report.curves:
            _print_curves(report, console)
    console.print()
    if report.first_divergence:
        console.print(f"[bold red]{escape(str(report.first_divergence))}[/]", soft_wrap=True)
    for scenario, block in report.first_blocks.items():
        console.print(
            f"{escape(scenario)}: with {block} in {second}, and the rest in {first}, the models "
            "differ; with the blocks before it only, they agree",
            soft_wrap=True,
        )
    word = "agree" if report.passed else "DIFFER"
    julia = escape(report.julia)
    console.print(
        f"[bold]{first} and {second} {word}[/] on {escape(report.data)} (Julia: {julia})",
        soft_wrap=True,
    )


def _lines(report: ParityReport) -> Iterator[tuple[str, str, float, bool]]:
    """Yield scenario, level, largest error and verdict for each level, lowest level first."""
    for result in report.scenarios:
        for verdict in result.verdicts:
            level = f"{verdict.level} {verdict.title}"
            yield result.scenario.name, level, verdict.worst.ratio, verdict.passed
        for one in result.accuracies:
            ratio = max(one.typical, one.largest[1])
            yield result.scenario.name, f"1 accuracy, {one.backend}", ratio, one.passed
    for run in report.lockstep:
        yield _run_name(run.verdict), "4 lockstep", run.verdict.worst.ratio, run.passed
    for curves in report.curves:
        yield curves.title, "4 curve", curves.ratio, curves.passed
    for verdict in report.handovers:
        yield _run_name(verdict), f"6 {verdict.title}", verdict.worst.ratio, verdict.passed


def _run_name(verdict: Verdict) -> str:
    """Return a run's scenario without the words that its level repeats."""
    return verdict.scenario.removeprefix("lockstep, ").removeprefix("hand-over ")


def _print_tensors(report: ParityReport, console: Console) -> None:
    """Print where the largest error of each level is, and how many tensors are within 10 floors."""
    columns = ("scenario", "level", "tensors", "within 10", "worst tensor")
    first, second = report.backends
    title = f"\nTensors of {first} and {second} compared with the float64 oracle"
    table = folded_table(*columns, right=("tensors", "within 10"), title=title)
    for result in report.scenarios:
        for verdict in result.verdicts:
            table.add_row(result.scenario.name, *_cells(verdict, verdict.fraction_within))
        table.add_section()
    for run in report.lockstep:
        title = f"{_run_name(run.verdict)}, {len(run.losses)} steps"
        table.add_row(title, *_cells(run.verdict, run.fraction_within))
    table.add_section()
    for verdict in report.handovers:
        table.add_row(_run_name(verdict), *_cells(verdict, verdict.fraction_within))
    console.print(table)


def _cells(verdict: Verdict, fraction_within: float) -> tuple[str, ...]:
    worst = verdict.worst
    tensor = f"{worst.key.name} ({worst.key.quantity}) of {worst.worst_backend}"
    tensor += "" if worst.key.step is None else f", step {worst.key.step}"
    return (
        f"{verdict.level} {verdict.title}",
        f"{len(verdict.rows):,}",
        f"{100 * fraction_within:.2f} %",
        tensor if worst.ratio > 0 else "",
    )


def _print_figures(report: ParityReport, console: Console) -> None:
    """Print how close the outputs and gradients of the two backends are in each scenario."""
    first, second = report.backends
    pair = f"{second} against {first}"
    columns = ("scenario", "logits, largest", "gradients, median", "flipped values", "activations")
    title = f"\nRelative differences, {pair}; activations by their distance from the oracle"
    table = folded_table(*columns, title=title)
    for result in report.scenarios:
        table.add_row(
            result.scenario.name,
            f"{result.logits[pair]:.1e}",
            f"{result.gradients[pair]:.1e}",
            "\n".join(
                [_flipped(name, flips) for name, flips in result.flips.items()]
                + [_exercised(result.kinks)]
            ),
            "\n".join(_largest_ratios(result.activations, first, {first, pair})),
        )
    console.print(table)


def _largest_ratios(
    activations: dict[str, dict[str, float]], first: str, excluded: set[str]
) -> list[str]:
    """Return, for each backend not excluded, the activation furthest off beside the first's."""
    if not any(activations[first].values()):
        return []
    texts = []
    for name in activations.keys() - excluded:
        activation, ratio = largest_ratio(activations[name], activations[first])
        texts.append(f"{name}: at most {ratio:.2f} times {first}'s ({activation})")
    return sorted(texts)


def _flipped(name: str, flips: list[Flips]) -> str:
    """Return how many values flipped, and the largest distance of one from its kink."""
    count = sum(flip.count for flip in flips)
    largest = max((flip.distance for flip in flips), default=0.0)
    return f"{name} {count}" + (f" (within {largest:.0e} of a kink)" if count else "")


def _exercised(kinks: list[Exercised]) -> str:
    """Return how many units pass every kink, and the names of the others."""
    others = [one.name for one in kinks if not one.fully]
    text = f"{len(kinks) - len(others)} of {len(kinks)} units pass every kink"
    return text + (f", not {', '.join(others)}" if others else "")


def _print_curves(report: ParityReport, console: Console) -> None:
    """Print how many steps of each curve were compared, and the largest difference."""
    columns = ("run", "steps compared", "largest relative difference of the loss")
    table = folded_table(*columns, right=columns[1:], title="\nTraining curves")
    for curves in report.curves:
        steps = f"{curves.compared_steps} of {len(curves.envelope)}"
        table.add_row(curves.title, steps, f"{curves.largest_difference:.1e}")
    console.print(table)


def _word(passed: bool) -> str:
    return "[green]agree[/]" if passed else "[red]DIFFER[/]"
