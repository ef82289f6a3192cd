"""Compare training runs: curves in one plot, best values in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape

from pymobilenet.evaluation.plots import literal
from pymobilenet.evaluation.run_logs import RunLog
from pymobilenet.files import atomic_write
from pymobilenet.terminal import folded_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's colours without yellow, which is too light for a line on white."""

MARKERS = "osD^vP*"
"""With the colours they distinguish 49 runs."""

LEGEND_COLUMNS = 4

KINDS = ("loss", "accuracy")


def print_runs(runs: Sequence[RunLog], console: Console) -> None:
    """Print the best values of each run, those of validation with their epoch.

    Args:
        runs: The logs of the runs.
        console: Where to print.
    """
    numbers = ("epochs", "val\nloss", "val\naccuracy", "train\nloss", "train\naccuracy", "seconds")
    table = folded_table("run", *numbers, right=numbers)
    for column in table.columns[1:]:
        column.no_wrap = True
    for run in runs:
        table.add_row(
            escape(run.name),
            str(len(run)),
            *(_best(run, f"{split}_{kind}") for split in ("val", "train") for kind in KINDS),
            f"{run.values['seconds'].sum():.0f}",
        )
    console.print(table)
    console.print("Each value is the best of its run; in brackets is its epoch.")


def _best(run: RunLog, key: str) -> str:
    best = run.best(key)
    if best is None:
        return "-"
    value, epoch = best
    text = f"{value:.2%}" if key.endswith("accuracy") else f"{value:.4f}"
    return f"{text} ({epoch})" if key.startswith("val") else text


def write_curves(runs: Sequence[RunLog], path: str | Path, chance: float | None = None) -> None:
    """Plot loss and accuracy over epochs: validation solid, training dashed, the best marked.

    Args:
        runs: The logs of the runs.
        path: The PNG file to write.
        chance: The accuracy of guessing a class, drawn as a dotted line; None for no line.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    legend_rows = -(-(len(runs) + 2 + (chance is not None)) // LEGEND_COLUMNS)
    figure = Figure(figsize=(11, 4.5 + 0.22 * legend_rows), layout="constrained")
    panels = dict(zip(KINDS, figure.subplots(1, 2, gridspec_kw={"wspace": 0.06}), strict=True))
    handles = []
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        name, epochs = literal(run.name), run.values["epoch"]
        handles.append(Line2D([], [], color=colour, marker=marker, mec="black", label=name))
        for kind, panel in panels.items():
            panel.plot(epochs, run.values[f"train_{kind}"], "--", color=colour, linewidth=1)
            panel.plot(epochs, run.values[f"val_{kind}"], color=colour, linewidth=1.8)
            best = run.best(f"val_{kind}")
            if best is not None:
                panel.plot(best[1], best[0], marker, color=colour, mec="black")
    for kind, panel in panels.items():
        panel.set(xlabel="epoch", ylabel=kind)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels["accuracy"].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    handles.append(Line2D([], [], color="black", label="validation, best marked"))
    handles.append(Line2D([], [], color="black", linestyle="--", label="training"))
    if chance is not None:
        panels["accuracy"].axhline(chance, color="black", linestyle=":", linewidth=1)
        handles.append(Line2D([], [], color="black", linestyle=":", label=f"chance, {chance:.2%}"))
    legend = figure.legend(
        handles,
        ["run"] * len(handles),
        loc="outside lower center",
        ncols=LEGEND_COLUMNS,
        fontsize="small",
    )
    for text, handle in zip(legend.get_texts(), handles, strict=True):
        text.set_text(handle.get_label())  # as a label, matplotlib 3.9 drops "_x"
    _save(figure, path)


def write_bands(groups: Mapping[str, Sequence[RunLog]], path: str | Path) -> None:
    """Plot the validation loss and accuracy of groups of runs: the mean, in a band of all runs.

    Runs may end after different epochs; a group is drawn to the end of its shortest run.

    Args:
        groups: Name -> the runs of a group.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = dict(zip(KINDS, figure.subplots(1, 2, gridspec_kw={"wspace": 0.06}), strict=True))
    for number, (name, runs) in enumerate(groups.items()):
        colour, line = COLOURS[number % len(COLOURS)], ("-", "--")[number % 2]
        epochs = min((run.values["epoch"] for run in runs), key=len)
        for kind, panel in panels.items():
            values = np.array([run.values[f"val_{kind}"][: len(epochs)] for run in runs])
            low, high = values.min(axis=0), values.max(axis=0)
            panel.fill_between(epochs, low, high, color=colour, alpha=0.3, linewidth=0)
            label = f"{name}: mean and range of {len(runs)} seeds"
            panel.plot(epochs, values.mean(axis=0), line, color=colour, label=label)
    for kind, panel in panels.items():
        panel.set(xlabel="epoch", ylabel=f"validation {kind}")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels["accuracy"].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    panels["accuracy"].legend(loc="lower right")
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
