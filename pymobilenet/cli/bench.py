"""The command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pymobilenet.backends import backend
from pymobilenet.cli.common import console, errors, exit_on_error, print_written, show_progress
from pymobilenet.errors import ConfigError

if TYPE_CHECKING:
    from pymobilenet.bench import Contender
    from pymobilenet.bench.compare import EarlierRun


def bench(
    out: Annotated[Path, typer.Option(help="Folder for JSON and plots.")] = Path("bench"),
    contender: Annotated[
        list[str] | None, typer.Option(help="What to measure; by default all that are available.")
    ] = None,
    family: Annotated[list[str], typer.Option(help="v1, v1_bottleneck, v2")] = ["v1"],
    width_mult: Annotated[list[float], typer.Option(help="Width multipliers.")] = [0.25, 1.0],
    stem_stride: Annotated[list[int], typer.Option(help="1, 2")] = [2],
    resolution: Annotated[list[int], typer.Option(help="Rows of an image, pixels.")] = [32],
    batch_size: Annotated[list[int], typer.Option(help="Images in a batch.")] = [1, 128],
    job: Annotated[list[str], typer.Option(help="train, predict")] = ["train", "predict"],
    sweep: Annotated[
        bool, typer.Option(help="Vary one axis at a time, the others at their middle values.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=3, help="Repeats of each measurement.")] = 9,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of every contender; by default each chooses.")
    ] = None,
    memory: Annotated[
        bool, typer.Option(help="Also measure memory and start-up time in fresh processes.")
    ] = False,
    roofline: Annotated[
        bool,
        typer.Option(
            help="Also measure how close each comes to the limits of processor and memory, and "
            "its time in each kind of kernel."
        ),
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            help="The bench.json of an earlier run. Exits with status 1 if a contender has become "
            "slower beyond the spread of its times."
        ),
    ] = None,
) -> None:
    """Time the backends and their peers side by side, in turns: Adam, float32 unless named int8.

    Each is timed hot, in a run right after another, and rested, in the first run after a rest.
    """
    from pymobilenet.bench import bench_to_dict, gemm_peak, print_table, write_bench_report
    from pymobilenet.bench.compare import check_common, differences, print_comparison
    from pymobilenet.bench.limits import limits_to_dict, measure_limit, print_limits
    from pymobilenet.bench.measure import cases, measure
    from pymobilenet.bench.peak import measure_peaks
    from pymobilenet.bench.process import fresh_process, use_threads
    from pymobilenet.files import make_folder

    with exit_on_error(), show_progress() as progress:
        axes = (family, width_mult, resolution, batch_size, stem_stride, job)
        measured = cases(*axes, sweep=sweep)
        earlier = _earlier_run(compare, out)
        if threads is not None:
            use_threads(threads)
        chosen = _available(contender)
        if earlier is not None:
            check_common(earlier, measured, chosen)
        make_folder(out)
        names = list(dict.fromkeys(one.backend for one in chosen))
        gemm = gemm_peak(names)
        peaks = measure_peaks(gemm) if roofline else None
        timings, fresh, limits = [], [], []
        for case in measured:
            advance = progress(str(case), repeats)
            timings += measure(case, chosen, repeats, advance)
            if peaks is not None:
                here = [timing for timing in timings if timing.case == case]
                limits.append(measure_limit(case, peaks, here, chosen))
            if memory:
                capable = [one.name for one in chosen if getattr(one, case.job) is not None]
                fresh += [fresh_process(case, name) for name in capable]
        versions = {name: {**backend(name).versions(), **backend(name).threads()} for name in names}
        print_table(timings, fresh, console)
        speeds = ", ".join(f"{name} {gflops:.0f}" for name, gflops in gemm.items())
        console.print(f"Products of large matrices, GFLOP/s: {speeds}")
        model = None
        if peaks is not None:
            print_limits(peaks, limits, console)
            model = limits_to_dict(peaks, limits)
        values = bench_to_dict(timings, fresh, gemm, versions, model)
        written = write_bench_report(values, timings, out)
    print_written(written)
    if earlier is not None:
        different = differences(earlier, versions)
        slower = print_comparison(earlier, timings, gemm, different, console)
        _judge(earlier, different, slower)


def _earlier_run(path: Path | None, out: Path) -> EarlierRun | None:
    from pymobilenet.bench.compare import read_bench

    if path is None:
        return None
    if path.resolve() == (out / "bench.json").resolve():
        raise ConfigError(
            "--out must be another folder than that of the earlier bench.json, which would be "
            f"replaced. Received: {out}"
        )
    return read_bench(path)


def _available(names: list[str] | None) -> list[Contender]:
    from pymobilenet.bench import available

    chosen, reasons = available(names)
    for name, reason in reasons.items():
        message = f"[bold]not measured: {escape(name)}:[/] {escape(reason)}"
        console.print(message, soft_wrap=True)
    return chosen


def _judge(earlier: EarlierRun, different: list[str], slower: list[str]) -> None:
    """Print the verdict of a comparison; exit with status 1 if something is slower."""
    if different:
        message = f"{earlier.path} was measured under other conditions, so that nothing is judged: "
        errors.print("[bold]warning:[/]", escape(message + "; ".join(different)), soft_wrap=True)
    elif slower:
        message = f"slower than in {earlier.path}: {'; '.join(slower)}"
        errors.print(message, soft_wrap=True, markup=False)
        raise typer.Exit(1)
    else:
        message = f"Nothing is slower than in {earlier.path} beyond the spread of the times."
        console.print(message, soft_wrap=True, markup=False)
