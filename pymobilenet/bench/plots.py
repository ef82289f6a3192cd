"""Plots of the times over batch size, alpha, resolution and stem stride."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median_low

from pymobilenet.bench.contenders import RATIO_BASE
from pymobilenet.bench.measure import AXES, Timing, axis_values
from pymobilenet.files import atomic_write


def write_plots(timings: Sequence[Timing], folder: Path) -> list[Path]:
    """Write a plot for each family and job with more than one case, with a panel for each axis.

    In a panel the other axes are at their middle value. The dashed line grows as the multiply-adds
    do, from the first point of `RATIO_BASE`.

    Args:
        timings: What was measured.
        folder: Where the PNG files are written.

    Returns:
        The paths of the files.
    """
    written = []
    for job in dict.fromkeys(timing.case.job for timing in timings):
        for family in dict.fromkeys(timing.case.config.family for timing in timings):
            chosen = [
                timing
                for timing in timings
                if timing.case.job == job and timing.case.config.family == family
            ]
            values = axis_values(timing.case for timing in chosen)
            if any(len(one) > 1 for one in values.values()):
                written.append(_plot(chosen, values, f"{job}, {family}", folder))
    return written


def _plot(
    timings: Sequence[Timing], values: dict[str, list[float]], title: str, folder: Path
) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    axes = [axis for axis, one in values.items() if len(one) > 1]
    middle = {axis: median_low(one) for axis, one in values.items()}
    figure = Figure(figsize=(4.5 * len(axes), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        others = [other for other in AXES if other != axis]
        plotted = [
            timing
            for timing in timings
            if all(AXES[other](timing.case) == middle[other] for other in others)
        ]
        for name in dict.fromkeys(timing.contender for timing in plotted):
            line = [timing for timing in plotted if timing.contender == name]
            line.sort(key=lambda timing: AXES[axis](timing.case))
            x = [AXES[axis](timing.case) for timing in line]
            panel.loglog(x, [timing.median * 1e3 for timing in line], marker="o", label=name)
            if name == RATIO_BASE:
                first = line[0].median * 1e3 / line[0].case.operations
                ideal = [first * timing.case.operations for timing in line]
                panel.loglog(x, ideal, "k--", linewidth=1, label="like the multiply-adds")
        panel.set_xticks(values[axis], [f"{value:g}" for value in values[axis]], minor=False)
        panel.set_xticks([], minor=True)
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter("{x:g}")
        fixed = ", ".join(f"{other} {middle[other]:g}" for other in others if other in axes)
        panel.set(xlabel=f"{axis}\n({fixed})" if fixed else axis)
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="milliseconds (median)")
    panels[0].legend(fontsize="small")
    figure.suptitle(title)
    path = folder / f"{title.replace(', ', '-')}.png"
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130)
    return path
