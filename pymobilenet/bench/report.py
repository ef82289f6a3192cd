"""The measurements as JSON, as tables and as plots."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pymobilenet.bench.contenders import RATIO_BASE
from pymobilenet.bench.measure import REST, Timing, case_to_dict
from pymobilenet.bench.onnx_peers import installed_versions
from pymobilenet.bench.plots import write_plots
from pymobilenet.bench.process import FreshProcess
from pymobilenet.files import atomic_write, make_folder
from pymobilenet.machine import cores, processor
from pymobilenet.terminal import folded_table


def bench_to_dict(
    timings: Sequence[Timing],
    fresh: Sequence[FreshProcess],
    peaks: dict[str, float],
    versions: dict[str, Any],
    roofline: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all measurements as plain values for JSON.

    Args:
        timings: The time of each case and contender.
        fresh: Measurements in fresh processes.
        peaks: Backend -> GFLOP/s of matrix products.
        versions: Backend -> versions and threads.
        roofline: Of `pymobilenet.bench.limits.limits_to_dict`, if it was measured.
    """
    return {
        "about": {
            **versions,
            "packages": installed_versions(),
            "platform": platform.platform(),
            "processor": processor(),
            "cores": cores(),
        },
        "gemm_gflops": peaks,
        "timings": [
            {
                **case_to_dict(timing.case),
                "contender": timing.contender,
                "seconds": timing.seconds,
                "allocated": timing.allocated,
                "rested_seconds": timing.rested_seconds,
                "median": timing.median,
                "rested_median": timing.rested_median,
                "spread": timing.spread,
                "images_per_second": timing.images_per_second,
                "gflops": timing.gflops,
            }
            for timing in timings
        ],
        "roofline": roofline,
        "fresh_processes": [
            {
                **case_to_dict(one.case),
                "contender": one.contender,
                "first_result": one.first_result,
                "memory": one.memory,
            }
            for one in fresh
        ],
    }


def print_table(timings: Sequence[Timing], fresh: Sequence[FreshProcess], console: Console) -> None:
    """Print a table of hot and rested medians for each case, with ratios to those of `RATIO_BASE`.

    Args:
        timings: The time of each case and contender.
        fresh: Measurements in fresh processes.
        console: Where to print.
    """
    medians = ("hot\nms", "ratio", "rested\nms", "ratio")
    numbers = (*medians, "spread", "images\n/s", "GFLOP\n/s", "new\nMB")
    for case in dict.fromkeys(timing.case for timing in timings):
        rows = [timing for timing in timings if timing.case == case]
        base = next((timing for timing in rows if timing.contender == RATIO_BASE), None)
        table = folded_table("", *numbers, right=numbers, title=str(case))
        for timing in rows:
            table.add_row(
                timing.contender,
                f"{timing.median * 1e3:.2f}",
                _ratio(timing.median, None if base is None else base.median),
                "" if timing.rested_median is None else f"{timing.rested_median * 1e3:.2f}",
                _ratio(timing.rested_median, None if base is None else base.rested_median),
                f"{timing.spread:.0%}",
                f"{timing.images_per_second:.0f}",
                f"{timing.gflops:.1f}",
                "" if timing.allocated is None else f"{timing.allocated / 1e6:.2f}",
            )
        console.print(table)
        console.print()
    console.print(
        "hot: a run right after another; rested: the first run after a rest of "
        f"{REST:g} s. Ratio: to {RATIO_BASE}. Spread, images/s and GFLOP/s are those of hot runs."
    )
    if fresh:
        sizes = ("first result, s", "memory, MB")
        table = folded_table("", "case", *sizes, right=sizes, title="In a fresh process")
        for one in fresh:
            memory = f"{one.memory / 1e6:.0f}"
            table.add_row(one.contender, str(one.case), f"{one.first_result:.1f}", memory)
        console.print(table)
        console.print("The first result is that of a net of alpha 0.25 with two images.")


def _ratio(seconds: float | None, base: float | None) -> str:
    return f"{seconds / base:.2f}" if seconds and base else ""


def write_bench_report(
    values: dict[str, Any], timings: Sequence[Timing], folder: Path
) -> list[Path]:
    """Write ``bench.json`` and, for each job and family with more than one case, a plot.

    Args:
        values: Of `bench_to_dict`.
        timings: The time of each case and contender.
        folder: Is made if it does not exist.

    Returns:
        The paths of the files.

    Raises:
        ConfigError: `folder` is a file, or cannot be made.
    """
    make_folder(folder)
    with atomic_write(folder / "bench.json") as file:
        file.write(json.dumps(values, indent=1).encode())
    return [folder / "bench.json", *write_plots(timings, folder)]
