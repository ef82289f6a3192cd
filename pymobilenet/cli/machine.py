"""What the machine gives: `doctor`, `sysimage` and `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from pymobilenet.backends import backend
from pymobilenet.cli.common import console, exit_on_error, print_written, progress_bars


def doctor() -> None:
    """Say what this machine computes with: libraries, threads, and products of matrices."""
    from pymobilenet.doctor import findings

    table = Table(box=SIMPLE, show_header=False)
    with exit_on_error():
        for row in findings():
            table.add_row(*map(escape, row))
    console.print(table)


def sysimage(
    path: Annotated[Path, typer.Argument(help="The image: a file of some 300 MB.")],
) -> None:
    """Build a system image with which Julia starts faster: some ten minutes, 5 GB of memory."""
    from pymobilenet.backends.julia.sysimage import VARIABLE, build_sysimage

    with exit_on_error():
        build_sysimage(path)
    said = f"Used wherever {VARIABLE}={path.absolute()} is set."
    console.print(said, soft_wrap=True, markup=False)


def bench(
    out: Annotated[Path, typer.Option(help="Folder for JSON and pictures.")] = Path("bench"),
    contender: Annotated[
        list[str] | None, typer.Option(help="Who is measured; all at hand if left out.")
    ] = None,
    family: Annotated[list[str], typer.Option(help="v1, v1_bottleneck, v2")] = ["v1"],
    width_mult: Annotated[list[float], typer.Option(help="Width multipliers.")] = [0.25, 1.0],
    stem_stride: Annotated[list[int], typer.Option(help="1, 2")] = [2],
    resolution: Annotated[list[int], typer.Option(help="Pixels.")] = [32],
    batch_size: Annotated[list[int], typer.Option(help="Images at once.")] = [1, 128],
    job: Annotated[list[str], typer.Option(help="train, predict")] = ["train", "predict"],
    sweep: Annotated[
        bool, typer.Option(help="Vary one thing at a time, the others at their middle values.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=3, help="Of each measurement, in turns.")] = 9,
    threads: Annotated[
        int | None, typer.Option(min=1, help="For every contender; each chooses if left out.")
    ] = None,
    memory: Annotated[
        bool, typer.Option(help="Measure memory and start-up, each in a fresh process.")
    ] = False,
) -> None:
    """Time the backends and their peers side by side, in turns, float32, Adam."""
    from pymobilenet.bench import available, gemm_peak, print_table, to_dict, write_bench_report
    from pymobilenet.bench.measure import cases, measure
    from pymobilenet.bench.process import fresh_process, use_threads
    from pymobilenet.files import make_folder

    with exit_on_error(), progress_bars() as progress:
        axes = (family, width_mult, resolution, batch_size, stem_stride, job)
        measured = cases(*axes, sweep=sweep)
        if threads is not None:
            use_threads(threads)
        chosen, reasons = available(contender)
        for name, reason in reasons.items():
            said = f"[bold]not measured: {escape(name)}:[/] {escape(reason)}"
            console.print(said, soft_wrap=True)
        make_folder(out)
        names = list(dict.fromkeys(one.backend for one in chosen))
        peaks = gemm_peak(names)
        timings, fresh = [], []
        for case in measured:
            advance = progress(str(case), repeats)
            timings += measure(case, chosen, repeats, advance)
            if memory:
                able = [one.name for one in chosen if getattr(one, case.job) is not None]
                fresh += [fresh_process(case, name) for name in able]
        about = {name: {**backend(name).versions(), **backend(name).threads()} for name in names}
        print_table(timings, fresh, console)
        gemm = ", ".join(f"{name} {gflops:.0f}" for name, gflops in peaks.items())
        console.print(f"Products of large matrices, GFLOP/s: {gemm}")
        written = write_bench_report(to_dict(timings, fresh, peaks, about), timings, out)
    print_written(written)
