"""Is it the same model? `backends`, `parity`, `record` and `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from pymobilenet.backends import BACKENDS, backend
from pymobilenet.cli.common import DataOption, console, progress, told

DTYPES = ("float64", "float32")


def backends() -> None:
    """List the backends, and why one is not available."""
    with told():
        for name, status in backend().items():
            console.print(f"{name:6} {status}")


def parity(
    backends: Annotated[str, typer.Option(help="Two of: " + ", ".join(BACKENDS))] = "torch,julia",
    data: DataOption = None,
    steps: Annotated[int, typer.Option(min=0, help="Steps of each training curve.")] = 200,
    report: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    dtype: Annotated[list[str], typer.Option(help="float64, float32")] = list(DTYPES),
    family: Annotated[list[str], typer.Option(help="v1, v1_bottleneck, v2")] = ["v1"],
    width_mult: Annotated[list[float], typer.Option(help="Width multipliers (alpha).")] = [
        0.25,
        1.0,
    ],
    stem_stride: Annotated[list[int], typer.Option(help="1, 2")] = [1, 2],
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Compare two backends on CIFAR-100; status 1 if they differ.

    Where no Julia can be had, recordings of it are compared on the images they were made on.
    """
    from pymobilenet.backends.julia import HOW_TO_GET_JULIA, unavailable
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.data import open_cifar100
    from pymobilenet.parity import print_report, read_goldens, write_report
    from pymobilenet.parity.report import recorded
    from pymobilenet.parity.run import replay, run_parity

    with told(), progress() as tell:
        names = tuple(name.strip() for name in backends.split(","))
        reason = unavailable() if "julia" in names else None
        if reason is not None:
            recordings = read_goldens()
            other = next((name for name in names if name != "julia"), "torch")
            console.print(
                f"[bold]julia: {recorded(recordings[0])}[/], because {reason}. {HOW_TO_GET_JULIA}. "
                "The images are the generated STAND-IN images the recordings were made on"
                + ("." if data is None else f"; {data} is not used."),
                soft_wrap=True,
            )
            result = replay(recordings, other, tell)
        else:
            images = open_cifar100(data, "train")
            configs = [
                MobileNetConfig(
                    kind, width, resolution=32, num_classes=images.num_classes, stem_stride=s
                )
                for kind in family
                for width in width_mult
                for s in stem_stride
            ]
            result = run_parity(names, images, steps, dtype, configs, seed, tell)
    print_report(result, console)
    if report is not None:
        with told():
            write_report(result, report)
        console.print(f"Written: {', '.join(str(path) for path in sorted(report.iterdir()))}")
    raise typer.Exit(0 if result.passed else 1)


def record(
    out: Annotated[Path, typer.Option(help="Folder for the recordings.")],
) -> None:
    """Run the standard scenarios in a live Julia and keep what it gave."""
    from pymobilenet.parity import record as record_one
    from pymobilenet.parity.observe import guide
    from pymobilenet.parity.recording import STANDARD, recording_images

    with told(), progress() as tell:
        julia, images = backend("julia"), recording_images()
        out.mkdir(parents=True, exist_ok=True)
        for scenario in STANDARD:
            tick = tell(scenario.name, 1)
            inputs = scenario.inputs(images)
            oracle = backend("numpy").build(scenario.config, dtype="float64")
            masks = guide(oracle, inputs.astype("float64"))
            record_one(julia, scenario, inputs, masks, out / f"{scenario.name}.safetensors")
            tick()
    console.print(f"Written: {len(STANDARD)} recordings in {out}")


def verify(
    file: Annotated[Path, typer.Argument(help="A model saved by this project.")],
    backends: Annotated[
        str | None,
        typer.Option(help="Some of " + ", ".join(BACKENDS) + "; all at hand if left out."),
    ] = None,
) -> None:
    """Recompute the logits a saved model carries, in every backend; status 1 if they differ."""
    from pymobilenet.backends.julia import unavailable
    from pymobilenet.doors import load_any
    from pymobilenet.parity.verify import verify as checks

    with told():
        if backends is not None:
            names = [name.strip() for name in backends.split(",")]
        else:
            reason = unavailable()
            names = [name for name in BACKENDS if name != "julia" or reason is None]
            if reason is not None:
                console.print(f"[bold]julia was not asked:[/] {reason}", soft_wrap=True)
        found = checks(load_any(file), names, str(file))
    table = Table(box=SIMPLE)
    for column in ("backend", "dtype", "off by", "allowed", ""):
        table.add_column(column)
    for check in found:
        verdict = "agrees" if check.passed else "[bold red]differs[/]"
        table.add_row(
            check.backend, check.dtype, f"{check.error:.1e}", f"{check.allowed:.1e}", verdict
        )
    console.print(table)
    raise typer.Exit(0 if all(check.passed for check in found) else 1)
