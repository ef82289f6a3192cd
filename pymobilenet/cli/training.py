"""Training: `train` begins a run from a recipe, or takes one on."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pymobilenet.backends import BACKENDS, backend
from pymobilenet.cli.common import console, errors, exit_on_error

if TYPE_CHECKING:
    from pymobilenet.training import StepRecord, TrainingRun
    from pymobilenet.training.log import Line

INTERRUPTED = 130
"""The status of a command that Ctrl-C ended."""

COUNTS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""How many processes Open MPI's mpiexec and MPICH's, or a cluster's, say that they have started."""

TORCHRUN = "TORCHELASTIC_RUN_ID"
"""What no other than torchrun puts into the environment of the processes that it starts; a cluster
may set WORLD_SIZE for a program that is one process."""

USUAL = {"device": "cpu", "amp": "no"}
"""The backends' options that are something where nobody asked for anything; others are false."""

WORDS = {"device": "--device", "amp": "--amp", "sync_norm": "--sync-norm", "compiled": "--compile"}
"""How options of the backends are typed."""


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name, or a TOML file. `recipes` lists them.")
    ] = None,
    backend_name: Annotated[
        str, typer.Option("--backend", help="One of " + ", ".join(BACKENDS))
    ] = "torch",
    data: Annotated[
        str | None,
        typer.Option(help="cifar-100, cifar-10, synthetic, or a folder or archive with images."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A new run's folder; `run` if left out.")] = None,
    changes: Annotated[
        list[str], typer.Option("--set", help="key=value: another value in the recipe.")
    ] = [],
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder, in any backend.")
    ] = None,
    logs: Annotated[
        list[str], typer.Option("--log", help="tensorboard, wandb: log there too.")
    ] = [],
    device: Annotated[str, typer.Option(help="cpu or cuda; of torch cuda:1 and mps too.")] = "cpu",
    amp: Annotated[
        str, typer.Option(help="Of torch: bf16 computes forward passes of steps in bfloat16.")
    ] = "no",
    sync_norm: Annotated[
        bool, typer.Option("--sync-norm", help="Under torchrun: norms see the whole batch.")
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Of torch: compile the net, which needs a C++ compiler."),
    ] = False,
) -> None:
    """Train a recipe, or go on with a run; Ctrl-C stops after the step and saves.

    In several processes: torchrun --standalone --nproc-per-node 2 -m pymobilenet.cli train ...
    or, with the Julia backend: mpiexec -n 2 python -m pymobilenet.cli train ... --backend julia
    """
    from pymobilenet.errors import ConfigError
    from pymobilenet.training import begin, load_recipe
    from pymobilenet.training import resume as go_on
    from pymobilenet.training.log import check_loggers, new_logger
    from pymobilenet.training.recipe import absolute

    with exit_on_error():
        if (recipe is None) == (resume is None):
            raise ConfigError("either a recipe or --resume FOLDER must be given, and not both")
        if resume is not None and changes:
            raise ConfigError(f"a run keeps its recipe: --set belongs to a new one. {changes[0]}")
        if resume is not None and out is not None:
            raise ConfigError(
                f"a run keeps its folder: --out belongs to a new one. Received: {out}"
            )
        check_loggers(logs)
        asked = {
            "device": device,
            "amp": amp,
            "sync_norm": sync_norm,
            "compiled": compiled,
            "distributed": _in_several_processes(),
        }
        options = {name: value for name, value in asked.items() if value != USUAL.get(name, False)}
        chosen = backend(backend_name)
        if recipe is not None:
            place = [] if data is None else [f"run.data={absolute(data)}"]
            loaded = load_recipe(recipe, [*changes, *place])
            run = begin(loaded, chosen, out or Path("run"), **options)
        else:
            assert resume is not None
            run = go_on(resume, chosen, None if data is None else absolute(data), **options)
        if not run.model.is_main_process:
            with _stoppable(lambda: None) as is_stopping:
                ending = run.train(is_stopping=is_stopping)
            raise typer.Exit(INTERRUPTED if ending == "interrupted" else 0)
        settings = run.train_config.to_dict() | run.run.to_dict() | run.model.config.to_dict()
        loggers = [new_logger(name, run.folder, settings, run.state.log) for name in logs]
        _print_start(run)
        with _stoppable(_say_stopping) as is_stopping, _bars(run) as (on_step, on_line):
            ending = run.train([on_step], [*loggers, on_line], is_stopping)
        _print_end(run, ending, options, logs)
    if ending == "interrupted":
        raise typer.Exit(INTERRUPTED)


def recipes() -> None:
    """List the recipes that `train` knows by name, with what they say of themselves."""
    from pymobilenet.training.recipe import FOLDER, SHIPPED

    for name in SHIPPED:
        lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
        said = " ".join(line.removeprefix("# ").strip() for line in lines if line.startswith("#"))
        console.print(f"[bold]{name}[/]\n  {said}\n", soft_wrap=False)


def _in_several_processes() -> bool:
    """Whether this is one of the processes that torchrun or an MPI's mpiexec has started."""
    if TORCHRUN in os.environ:
        from pymobilenet.backends.torch.processes import NEEDED

        if all(name in os.environ for name in NEEDED):
            return True
    return any(int(os.environ.get(name, 1)) > 1 for name in COUNTS)


def _say_stopping() -> None:
    errors.print("Stopping after this step; once more stops at once, without saving.")


@contextmanager
def _stoppable(say: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Whether the user has asked to stop; asked a second time, Python stops at once."""
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        asked.append(number)
        say()
        signal.signal(number, kept[signal.Signals(number)])

    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in kept:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def _bars(
    run: TrainingRun,
) -> Iterator[tuple[Callable[[StepRecord], None], Callable[[Line], None]]]:
    """A bar for the epoch, and a line for each that is over."""
    epochs = run.run.epochs
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        total = run.steps_per_epoch
        bar = progress.add_task("", total=total, told="", completed=run.state.step % total)

        def show(told: str) -> None:
            epoch = min(len(run.state.log) + 1, epochs)
            done = run.state.step - len(run.state.log) * total
            progress.update(bar, description=f"epoch {epoch}/{epochs}", completed=done, told=told)

        def on_step(record: StepRecord) -> None:
            taken = run.state.step - len(run.state.log) * total
            speed = taken * run.train_config.batch_size / run.state.epoch_seconds
            mean = run.state.epoch_loss / taken
            best = run.state.best
            accuracy = f"  best {best['val_accuracy']:.2%}" if best else ""
            show(f"rate {record.rate:.3g}  loss {mean:.4f}{accuracy}  {speed:,.0f} images/s")

        def on_line(line: Line) -> None:
            mark = "  best so far" if line is run.state.best else ""
            console.print(
                f"epoch {line['epoch']}/{epochs}  loss {line['train_loss']:.4f}  "
                f"accuracy {line['train_accuracy']:.2%}  validation {line['val_accuracy']:.2%}  "
                f"rate {line['rate']:.3g}  {line['images_per_second']:,.0f} images/s{mark}",
                soft_wrap=True,
            )

        yield on_step, on_line


def _print_start(run: TrainingRun) -> None:
    images = run.images
    where = f"step {run.state.step} of {run.train_config.steps}"
    with run.model.fitting():
        compute_options = ", ".join(
            f"{key} {value}" for key, value in run.model.compute_options.items()
        )
    console.print(
        f"{run.folder}: {where}, in {run.model.backend.name} ({compute_options}), "
        f"{run.model.dtype}; "
        f"{len(images.train):,} images of {images.train.source}, "
        f"{len(images.validation):,} for validation",
        soft_wrap=True,
        markup=False,
    )


def _command(run: TrainingRun, options: Mapping[str, object], logs: Sequence[str]) -> str:
    """What goes on with a run as it went so far, to be pasted into a shell."""
    words = ["--resume", str(run.folder), "--backend", run.model.backend.name]
    for name, word in WORDS.items():
        if name in options:
            words += [word] if options[name] is True else [word, str(options[name])]
    for log in logs:
        words += ["--log", log]
    return shlex.join(["pymobilenet", "train", *words])


def _print_end(
    run: TrainingRun, ending: str, options: Mapping[str, object], logs: Sequence[str]
) -> None:
    folder, best = run.folder, run.state.best
    if ending == "interrupted":
        how = ", in processes started as these" if "distributed" in options else ""
        console.print(
            f"Stopped after step {run.state.step} of {run.train_config.steps} and saved. "
            f"Go on, in any backend{how}, with: {_command(run, options, logs)}",
            soft_wrap=True,
            markup=False,
        )
        return
    from pymobilenet.evaluation import read_runs, write_curves
    from pymobilenet.evaluation.run_logs import CURVES

    if best is None:
        console.print(f"{folder}: finished; no epoch was asked for", markup=False)
        return
    write_curves(read_runs([folder]), folder / CURVES)
    console.print(
        f"{ending.capitalize()}. Best validation accuracy {best['val_accuracy']:.2%}, epoch "
        f"{best['epoch']}: {folder / 'best.safetensors'}; curves: {folder / CURVES}",
        soft_wrap=True,
        markup=False,
    )
