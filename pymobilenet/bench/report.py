"""What was measured, as JSON, as a table and as pictures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pymobilenet.bench.contenders import YARDSTICK
from pymobilenet.bench.measure import Timing
from pymobilenet.bench.plots import write_plots
from pymobilenet.bench.process import FreshProcess
from pymobilenet.files import atomic_write, make_folder


def to_dict(
    timings: Sequence[Timing],
    fresh: Sequence[FreshProcess],
    peaks: dict[str, float],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Everything, for machines: seconds of every repeat, and what was computed from them."""
    return {
        "about": {
            **about,
            "platform": platform.platform(),
            "processor": processor(),
            "cores": cores(),
        },
        "gemm_gflops": peaks,
        "timings": [
            {
                **_case(timing),
                "seconds": timing.seconds,
                "allocated": timing.allocated,
                "median": timing.median,
                "spread": timing.spread,
                "images_per_second": timing.images_per_second,
                "gflops": timing.gflops,
            }
            for timing in timings
        ],
        "fresh_processes": [
            {**_case(one), "first_result": one.first_result, "memory": one.memory} for one in fresh
        ],
    }


def _case(one: Timing | FreshProcess) -> dict[str, Any]:
    case = one.case
    return {
        "contender": one.contender,
        "job": case.job,
        "batch_size": case.batch_size,
        "config": case.config.to_dict(),
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cores() -> int:
    """How many cores this process may use; those of the machine where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def print_table(timings: Sequence[Timing], fresh: Sequence[FreshProcess], console: Console) -> None:
    """A table for each case; ratios are of medians, to torch in channels_last."""
    for case in dict.fromkeys(timing.case for timing in timings):
        found = [timing for timing in timings if timing.case == case]
        yardstick = [timing.median for timing in found if timing.contender == YARDSTICK]
        table = Table(title=str(case), box=SIMPLE, title_justify="left")
        for column in (
            "",
            "ms",
            "spread",
            f"to {YARDSTICK}",
            "images/s",
            "GFLOP/s",
            "MB new",
        ):
            table.add_column(column, justify="left" if not column else "right")
        for timing in found:
            ratio = f"{timing.median / yardstick[0]:.2f}" if yardstick else ""
            table.add_row(
                timing.contender,
                f"{timing.median * 1e3:.2f}",
                f"{timing.spread:.0%}",
                ratio,
                f"{timing.images_per_second:.0f}",
                f"{timing.gflops:.1f}",
                "" if timing.allocated is None else f"{timing.allocated / 1e6:.2f}",
            )
        console.print(table)
    if fresh:
        table = Table(title="in a fresh process", box=SIMPLE, title_justify="left")
        for column in ("", "case", "first result of alpha 0.25, s", "memory, MB"):
            table.add_column(column)
        for one in fresh:
            memory = f"{one.memory / 1e6:.0f}"
            table.add_row(one.contender, str(one.case), f"{one.first_result:.1f}", memory)
        console.print(table)


def write_bench_report(
    found: dict[str, Any], timings: Sequence[Timing], folder: Path
) -> list[Path]:
    """Write ``bench.json`` and, for each job and family, a picture where something varied.

    Raises:
        ConfigError: `folder` is none, and cannot be made.
    """
    make_folder(folder)
    with atomic_write(folder / "bench.json") as file:
        file.write(json.dumps(found, indent=1).encode())
    return [folder / "bench.json", *write_plots(timings, folder)]
