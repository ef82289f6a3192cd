"""Is it the same model? `backends`, `parity`, `record`, `verify` and `equivalence`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from pymobilenet.backends import BACKENDS, available_backends, backend
from pymobilenet.cli.common import DataOption, console, exit_on_error, print_written, progress_bars

DTYPES = ("float64", "float32")


def backends() -> None:
    """List the backends, and why one is not available."""
    with exit_on_error():
        for name, status in available_backends().items():
            console.print(f"{name:6} {status}", markup=False)


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
    from pymobilenet.files import make_folder
    from pymobilenet.parity import print_report, read_goldens, write_parity_report
    from pymobilenet.parity.report import recorded
    from pymobilenet.parity.run import replay, run_parity

    with exit_on_error(), progress_bars() as progress:
        names = _names(backends)
        if report is not None:
            make_folder(report)
        reason = unavailable() if "julia" in names else None
        if reason is not None:
            recordings = read_goldens()
            other = next((name for name in names if name != "julia"), "torch")
            why = f"because {reason}. {HOW_TO_GET_JULIA}"
            unused = "" if data is None else f"; {data} is not used"
            console.print(
                f"[bold]julia: {escape(recorded(recordings[0]))}[/], {escape(why)}. The images are "
                f"the generated SYNTHETIC images the recordings were made on{escape(unused)}.",
                soft_wrap=True,
            )
            result = replay(recordings, other, progress)
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
            result = run_parity(names, images, steps, dtype, configs, seed, progress)
    print_report(result, console)
    if report is not None:
        with exit_on_error():
            write_parity_report(result, report)
        print_written(sorted(report.iterdir()))
    raise typer.Exit(0 if result.passed else 1)


def record(
    out: Annotated[Path, typer.Option(help="Folder for the recordings.")],
) -> None:
    """Run the standard scenarios in a live Julia and keep what it gave."""
    from pymobilenet.files import make_folder
    from pymobilenet.parity import record as record_one
    from pymobilenet.parity.observe import compute_shared_masks
    from pymobilenet.parity.recording import STANDARD, recording_images

    with exit_on_error(), progress_bars() as progress:
        julia, images = backend("julia"), recording_images()
        make_folder(out)
        for scenario in STANDARD:
            advance = progress(scenario.name, 1)
            inputs = scenario.inputs(images)
            oracle = backend("numpy").build(scenario.config, dtype="float64")
            masks = compute_shared_masks(oracle, inputs.astype("float64"))
            record_one(julia, scenario, inputs, masks, out / f"{scenario.name}.safetensors")
            advance()
    console.print(f"Written: {len(STANDARD)} recordings in {out}", soft_wrap=True, markup=False)


def verify(
    file: Annotated[Path, typer.Argument(help="A model saved by this project.")],
    backends: Annotated[
        str | None,
        typer.Option(help="Some of " + ", ".join(BACKENDS) + "; all at hand if left out."),
    ] = None,
) -> None:
    """Recompute the logits a saved model carries, in every backend; status 1 if they differ."""
    from pymobilenet.backends.julia import unavailable
    from pymobilenet.formats import load_any
    from pymobilenet.parity.verify import verify as checks

    with exit_on_error():
        if backends is not None:
            names = list(_names(backends))
        else:
            reason = unavailable()
            names = [name for name in BACKENDS if name != "julia" or reason is None]
            if reason is not None:
                console.print(f"[bold]julia was not asked:[/] {escape(reason)}", soft_wrap=True)
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


def equivalence(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    margin: Annotated[
        float, typer.Option(help="In accuracy: 0.02 is two points. Fix it before you look.")
    ] = 0.02,
    seeds: Annotated[int, typer.Option(min=2, help="Runs in each backend.")] = 10,
    backends: Annotated[str, typer.Option(help="Two, with a comma.")] = "torch,julia",
    data: Annotated[str | None, typer.Option(help="As of `train`.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the result.")] = Path("seeds"),
    changes: Annotated[list[str], typer.Option("--set", help="As of `train`.")] = [],
) -> None:
    """Train a recipe with several seeds in two backends: do they end equally well (TOST)?"""
    from pymobilenet.errors import ConfigError
    from pymobilenet.evaluation.equivalence import equivalence as test
    from pymobilenet.files import atomic_write
    from pymobilenet.training import load_recipe
    from pymobilenet.training.recipe import absolute
    from pymobilenet.training.seeds import run_seeds

    with exit_on_error():
        names = _names(backends)
        if len(names) != 2 or names[0] == names[1]:
            raise ConfigError(f"two different backends are compared. Received: {backends}")
        test((0, 1), (0, 1), margin)  # what it refuses, and a missing SciPy, before the training
        place = [] if data is None else [f"run.data={absolute(data)}"]
        loaded = load_recipe(recipe, [*changes, *place])
        pair = [backend(name) for name in names]
        with progress_bars() as progress:
            advance = progress(f"{seeds} seeds in {names[0]} and {names[1]}", 2 * seeds)
            values = run_seeds(loaded, pair, range(seeds), out, advance)
        first, second = (values[name] for name in names)
        found = test(first, second, margin)
        result = {"accuracy": values, **asdict(found), "equivalent": found.shown}
        with atomic_write(out / "equivalence.json") as file:
            file.write(json.dumps(result, indent=1).encode())
    low, high = found.interval
    word = "[green]equivalent[/]" if found.shown else "[red]not shown to be equivalent[/]"
    console.print(
        f"{names[0]} {sum(first) / seeds:.2%}, {names[1]} {sum(second) / seeds:.2%} in the mean of "
        f"{seeds} seeds; difference {100 * found.difference:+.2f} points, 90 % interval "
        f"[{100 * low:+.2f}, {100 * high:+.2f}]: {word} within {100 * margin:g} points "
        f"(TOST, p = {found.p_value:.1g})",
        soft_wrap=True,
    )
    if not found.shown:
        raise typer.Exit(1)


def _names(listed: str) -> tuple[str, ...]:
    """What is listed with commas, with or without blanks."""
    return tuple(name.strip() for name in listed.split(","))
