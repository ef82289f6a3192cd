"""Do backends compute the same model? `parity`, `record`, `verify`, `equivalence`, `backends`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pymobilenet.backends import BACKENDS, available_backends, backend, why_unavailable
from pymobilenet.cli.common import (
    DataOption,
    console,
    errors,
    exit_on_error,
    print_written,
    show_progress,
)
from pymobilenet.cli.reading import (
    ConfigOption,
    MapOption,
    ReadingOptions,
    SampleOption,
    SetOption,
    WhichOption,
    read_model,
)
from pymobilenet.terminal import folded_table

if TYPE_CHECKING:
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.training import TrainingRun

DTYPES = ("float64", "float32")


IsolatedOption = Annotated[
    bool, typer.Option("--isolated", help="Run Julia in a process of its own.")
]


def backends() -> None:
    """List the backends, and the reason where one is not available."""
    with exit_on_error():
        for name, status in available_backends().items():
            console.print(f"{name:6} {status}", markup=False, soft_wrap=True)


def parity(
    backends: Annotated[
        str,
        typer.Option(
            help="Two of: " + ", ".join(BACKENDS) + ", julia@PROJECT, julia@PROJECT@EXECUTABLE"
        ),
    ] = "torch,julia",
    data: DataOption = None,
    steps: Annotated[int, typer.Option(min=0, help="Steps of each training curve.")] = 5,
    report: Annotated[Path | None, typer.Option(help="Folder for JSON and plots.")] = None,
    dtype: Annotated[list[str], typer.Option(help="float64, float32")] = list(DTYPES),
    family: Annotated[list[str], typer.Option(help="v1, v1_bottleneck, v2")] = [],
    width_mult: Annotated[list[float], typer.Option(help="Width multipliers (alpha).")] = [],
    stem_stride: Annotated[list[int], typer.Option(help="1, 2")] = [],
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batches.")] = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print tables of the details, too.")
    ] = False,
    isolated: IsolatedOption = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="If they differ, find the first block that does.")
    ] = False,
) -> None:
    """Compare two backends on CIFAR-100, level by level; status 1 if they differ.

    Without `--family`, `--width-mult` and `--stem-stride`, three small nets are compared, which
    together have every option of a model; with any of them, all combinations of their values.

    Where Julia is not installed and cannot be downloaded, recordings of its results are used.
    `julia,julia@PROJECT` compares two versions of Flux or Julia: PROJECT is a Julia project that
    contains MobileNets and PythonCall, and EXECUTABLE another Julia.
    """
    from pymobilenet.data import open_cifar100
    from pymobilenet.files import make_folder
    from pymobilenet.parity import print_report, read_recordings, write_parity_report
    from pymobilenet.parity.cuts import first_blocks
    from pymobilenet.parity.estimate import describe_duration, describe_replay_duration
    from pymobilenet.parity.report import describe_recording
    from pymobilenet.parity.run import replay, run_parity

    with exit_on_error(), show_progress() as progress:
        names = backend_names(backends)
        if report is not None:
            make_folder(report)
        options = {"isolated": True} if isolated else {}
        reason = why_unavailable("julia", **options) if "julia" in names else None
        if reason is not None:
            recordings = read_recordings()
            other = next((name for name in names if name != "julia"), "torch")
            why = f"because {reason}"
            unused = "" if data is None else f"; {data} is not used"
            console.print(
                f"[bold]julia: {escape(describe_recording(recordings[0]))}[/], {escape(why)}. The "
                f"images are the SYNTHETIC images of the recordings{escape(unused)}.",
                soft_wrap=True,
            )
            errors.print(describe_replay_duration(recordings, other), soft_wrap=True, markup=False)
            result = replay(recordings, other, progress)
        else:
            images = open_cifar100(data, "train")
            configs = chosen_configs(family, width_mult, stem_stride, images.num_classes)
            duration = describe_duration(names, configs, dtype, steps)
            errors.print(duration, soft_wrap=True, markup=False)
            pair = [backend(name, **options if name == "julia" else {}) for name in names]
            result = run_parity(pair, images, steps, dtype, configs, seed, progress)
            if bisect:
                result.first_blocks = first_blocks(pair, result, images, seed, progress)
    print_report(result, console, verbose)
    if report is not None:
        with exit_on_error():
            write_parity_report(result, report)
        print_written(sorted(report.iterdir()))
    raise typer.Exit(0 if result.passed else 1)


def chosen_configs(
    family: list[str], width_mult: list[float], stem_stride: list[int], num_classes: int
) -> list[MobileNetConfig]:
    """Return the nets that `parity` compares."""
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.parity import STANDARD_CONFIGS

    if not (family or width_mult or stem_stride):
        return [replace(config, num_classes=num_classes) for config in STANDARD_CONFIGS]
    return [
        MobileNetConfig(kind, width, resolution=32, num_classes=num_classes, stem_stride=stride)
        for kind in family or ["v1"]
        for width in width_mult or [0.25]
        for stride in stem_stride or [1, 2]
    ]


def record(
    out: Annotated[Path, typer.Option(help="Folder for the recordings.")],
) -> None:
    """Run the standard scenarios in Julia, and write the results to recordings."""
    from pymobilenet.files import make_folder
    from pymobilenet.parity import record as write_recording
    from pymobilenet.parity.recording import STANDARD_SCENARIOS, recording_images
    from pymobilenet.parity.reference import prepared

    with exit_on_error(), show_progress() as progress:
        julia, images = backend("julia"), recording_images()
        make_folder(out)
        for scenario in STANDARD_SCENARIOS:
            advance = progress(scenario.name, 1)
            oracle = backend("numpy").build(scenario.config, dtype="float64")
            inputs = prepared(oracle, scenario.inputs(images))
            write_recording(julia, scenario, inputs, out / f"{scenario.name}.safetensors")
            advance()
    count = len(STANDARD_SCENARIOS)
    console.print(f"Written: {count} recordings in {out}", soft_wrap=True, markup=False)


def verify(
    file: Annotated[Path, typer.Argument(help="A model saved by this project.")],
    backends: Annotated[
        str | None,
        typer.Option(help="From " + ", ".join(BACKENDS) + "; by default all that are available."),
    ] = None,
    changes: SetOption = [],
    config: ConfigOption = None,
    sample: SampleOption = None,
    which: WhichOption = None,
    name_map: MapOption = None,
    isolated: IsolatedOption = False,
) -> None:
    """Recompute the logits that a saved model carries, in each backend; status 1 if they differ."""
    from pymobilenet.formats import Sample
    from pymobilenet.parity.verify import verify as verify_probe
    from pymobilenet.parity.verify import verify_sample

    with exit_on_error():
        options = {"isolated": True} if isolated else {}
        if backends is not None:
            names = list(backend_names(backends))
        else:
            reason = why_unavailable("julia", **options)
            names = [name for name in BACKENDS if name != "julia" or reason is None]
            if reason is not None:
                console.print(f"[bold]julia is skipped:[/] {escape(reason)}", soft_wrap=True)
        loaded = read_model(file, ReadingOptions(changes, config, sample, which, name_map))
        chosen = [backend(name, **options if name == "julia" else {}) for name in names]
        if sample is None:
            checks = verify_probe(loaded, chosen, str(file))
        else:
            checks = verify_sample(loaded, Sample.read(sample), chosen)
    table = folded_table("backend", "dtype", "error", "allowed", "")
    for check in checks:
        verdict = "agrees" if check.passed else "[bold red]differs[/]"
        table.add_row(
            check.backend, check.dtype, f"{check.error:.1e}", f"{check.allowed:.1e}", verdict
        )
    console.print(table)
    raise typer.Exit(0 if all(check.passed for check in checks) else 1)


def equivalence(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    margin: Annotated[
        float,
        typer.Option(help="Of the accuracy: 0.02 is two points. Choose it beforehand."),
    ] = 0.02,
    seeds: Annotated[int, typer.Option(min=2, help="Runs in each backend.")] = 10,
    backends: Annotated[str, typer.Option(help="Two of: " + ", ".join(BACKENDS))] = "torch,julia",
    data: Annotated[str | None, typer.Option(help="See `train`.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the result.")] = Path("seeds"),
    changes: Annotated[list[str], typer.Option("--set", help="See `train`.")] = [],
) -> None:
    """Train a recipe with several seeds in two backends, and test that they end equally (TOST).

    The values are written to equivalence.json, and the curves of both backends to
    curves.png: the mean of the seeds, in a band from the lowest to the highest.

    After an interruption the same command continues: it uses the finished runs in
    --out, resumes the unfinished one from its checkpoint, and gives the same
    result. Runs with other settings are refused.
    """
    from pymobilenet.errors import ConfigError
    from pymobilenet.evaluation import read_runs, write_bands
    from pymobilenet.evaluation.equivalence import equivalence as test_equivalence
    from pymobilenet.evaluation.run_logs import CURVES
    from pymobilenet.files import atomic_write, remove_leftovers
    from pymobilenet.training import load_recipe
    from pymobilenet.training.recipe import absolute
    from pymobilenet.training.seeds import run_seeds

    with exit_on_error():
        names = backend_names(backends)
        if len(names) != 2 or names[0] == names[1]:
            raise ConfigError(f"backends must be two different ones. Received: {backends}")
        test_equivalence((0, 1), (0, 1), margin)  # raises for a bad margin or without SciPy
        data_change = [] if data is None else [f"run.data={absolute(data)}"]
        loaded = load_recipe(recipe, [*changes, *data_change])
        pair = [backend(name) for name in names]
        with show_progress() as progress:
            advance = progress(f"{seeds} seeds in {names[0]} and {names[1]}", 2 * seeds)
            values = run_seeds(loaded, pair, range(seeds), out, _print_run, advance)
        first, second = (values[name] for name in names)
        outcome = test_equivalence(first, second, margin)
        result = {"accuracy": values, **asdict(outcome), "equivalent": outcome.is_equivalent}
        remove_leftovers(out / "equivalence.json")
        with atomic_write(out / "equivalence.json") as file:
            file.write(json.dumps(result, indent=1).encode())
        groups = {name: [out / f"{name}-{seed}" for seed in range(seeds)] for name in names}
        write_bands({name: read_runs(runs) for name, runs in groups.items()}, out / CURVES)
    low, high = outcome.interval
    word = "[green]equivalent[/]" if outcome.is_equivalent else "[red]not shown to be equivalent[/]"
    console.print(
        f"{names[0]} {sum(first) / seeds:.2%}, {names[1]} {sum(second) / seeds:.2%} in the mean of "
        f"{seeds} seeds; difference {100 * outcome.difference:+.2f} points, 90 % interval "
        f"[{100 * low:+.2f}, {100 * high:+.2f}]: {word} within {100 * margin:g} points "
        f"(TOST, p = {outcome.p_value:.1g})",
        soft_wrap=True,
    )
    if not outcome.is_equivalent:
        raise typer.Exit(1)


def _print_run(run: TrainingRun) -> None:
    """Print whether a run of `equivalence` begins, continues or has ended."""
    step, steps = run.state.step, run.train_config.steps
    position = f"continues after step {step} of {steps}" if step else "begins"
    text = position if run.ending is None else f"used as it is, {run.ending}"
    errors.print(f"{run.folder}: {text}", soft_wrap=True, markup=False)


def backend_names(listed: str) -> tuple[str, ...]:
    """Split a list with commas, with or without blanks."""
    return tuple(name.strip() for name in listed.split(","))
