"""The command line: thin, everything it does can be called from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import pymobilenet
from pymobilenet.backends import BACKENDS, backend
from pymobilenet.errors import PymobilenetError

app = typer.Typer(
    help="MobileNet in PyTorch and in Flux.jl: is it the same model?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

DTYPES = ("float64", "float32")

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="CIFAR-100: a folder or archive of either official layout."),
]


@app.command()
def backends() -> None:
    """List the backends, and why one is not available."""
    with _told():
        for name, status in backend().items():
            console.print(f"{name:6} {status}")


@app.command()
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

    with _told(), _progress() as tell:
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
        with _told():
            write_report(result, report)
        console.print(f"Written: {', '.join(str(path) for path in sorted(report.iterdir()))}")
    raise typer.Exit(0 if result.passed else 1)


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="Folder for the recordings.")],
) -> None:
    """Run the standard scenarios in a live Julia and keep what it gave."""
    from pymobilenet.parity import record as record_one
    from pymobilenet.parity.observe import guide
    from pymobilenet.parity.recording import STANDARD, recording_images

    with _told(), _progress() as tell:
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


@app.command()
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

    with _told():
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


@app.command()
def convert(
    src: Annotated[Path, typer.Argument(help="A model of this project or another.")],
    dst: Annotated[Path, typer.Argument(help="The new file.")],
    source: Annotated[
        str | None, typer.Option("--from", help="What SRC is; told by its content if left out.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", help="What to write; told by DST's suffix if left out.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML with [model]: what SRC does not show.")
    ] = None,
) -> None:
    """Carry a model from one file format or project to another, tensor by tensor, by name."""
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.doors import convert as carry

    with _told():
        given = MobileNetConfig.from_toml(config) if config else None
        report = carry(src, dst, source, target, given)
    console.print(str(report), soft_wrap=True, markup=False)


@app.command()
def quantize(
    src: Annotated[Path, typer.Argument(help="A float32 ONNX file that `convert` wrote.")],
    dst: Annotated[Path, typer.Argument(help="The int8 ONNX file.")],
    data: DataOption = None,
    preprocessing: Annotated[
        str, typer.Option(help="How the model's images are scaled: unit, standard, keras.")
    ] = "standard",
    images: Annotated[int, typer.Option(min=1, help="Training images to calibrate with.")] = 512,
) -> None:
    """Make an ONNX model int8, calibrated on CIFAR-100; print what it costs on the test images."""
    from pymobilenet.data import open_cifar100
    from pymobilenet.doors.quantize import labelled_batches, quantization_loss
    from pymobilenet.doors.quantize import quantize as make

    with _told():
        train, test = open_cifar100(data, "train"), open_cifar100(data, "test")
        known = labelled_batches(train.subset(range(min(images, len(train)))), preprocessing)
        make(src, dst, (batch for batch, _ in known))
        loss = quantization_loss(src, dst, labelled_batches(test, preprocessing))
    console.print(str(loss), soft_wrap=True)


@app.command()
def info(
    config: Annotated[Path, typer.Argument(help="A TOML file with [model], or a model.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print what each layer costs, and what full convolutions in its place would."""
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.doors import load_any
    from pymobilenet.summary import print_summary, summary

    with _told():
        with config.open("rb") as file:
            text = b"\0" not in file.read(4096)  # every file of weights has one there
        found = summary(MobileNetConfig.from_toml(config) if text else load_any(config).config)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        print_summary(found, console)


def _version(show: bool) -> None:
    if show:
        console.print(f"pymobilenet {pymobilenet.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    """MobileNet in PyTorch and in Flux.jl: is it the same model?"""


@contextmanager
def _told() -> Iterator[None]:
    """One line and status 2 for what a user can put right."""
    try:
        yield
    except (PymobilenetError, OSError) as error:
        said = f"[bold red]{type(error).__name__}[/]: {escape(str(error))}"
        errors.print(said, markup=True, soft_wrap=True)
        raise typer.Exit(2) from None


@contextmanager
def _progress() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """A bar for each part of the work, on the standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bars:

        def tell(title: str, ticks: int) -> Callable[[], None]:
            task = bars.add_task(title, total=ticks)
            return lambda: bars.advance(task)

        yield tell


if __name__ == "__main__":
    app()
