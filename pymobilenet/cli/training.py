"""Training: `train` starts a run from a recipe, or continues one; `recipes` lists recipes."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pymobilenet.backends import BACKENDS, backend
from pymobilenet.cli.common import console, errors, exit_on_error
from pymobilenet.cli.reading import MapOption, SampleOption, WhichOption
from pymobilenet.cli.run_progress import evaluation_share, print_start, show_run_progress

if TYPE_CHECKING:
    from pymobilenet.training import TrainingRun

SIGNALLED = 128
"""The status of a command that a signal ended is this and the signal's number: 130 after Ctrl-C,
143 after SIGTERM."""

COUNTS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Number of processes, as set by the mpiexec of Open MPI and of MPICH, or by a cluster."""

TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Only torchrun sets this variable for its processes; a cluster may set WORLD_SIZE for a single
process."""

DEFAULTS = {"device": "cpu", "amp": "no"}
"""Options of the backends whose default is a word; that of others is false."""

FLAGS = {"device": "--device", "amp": "--amp", "sync_norm": "--sync-norm", "compiled": "--compile"}
"""Option of the backends -> command-line option."""


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
    out: Annotated[Path | None, typer.Option(help="Folder of a new run; `run` by default.")] = None,
    changes: Annotated[
        list[str], typer.Option("--set", help="key=value: another value in the recipe.")
    ] = [],
    which: WhichOption = None,
    sample: SampleOption = None,
    name_map: MapOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder, in any backend.")
    ] = None,
    logs: Annotated[
        list[str], typer.Option("--log", help="Also log to tensorboard or wandb.")
    ] = [],
    device: Annotated[str, typer.Option(help="cpu or cuda; in torch also cuda:1 and mps.")] = "cpu",
    amp: Annotated[
        str, typer.Option(help="torch only: bf16 computes forward passes of steps in bfloat16.")
    ] = "no",
    sync_norm: Annotated[
        bool,
        typer.Option("--sync-norm", help="Under torchrun: statistics of the whole batch."),
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="torch only: compile the net. Requires a C++ compiler."),
    ] = False,
) -> None:
    """Train a recipe, or continue a run; Ctrl-C stops after the present step and saves.

    During and after each epoch it prints the time left for the whole run, the
    epoch's seconds and the memory of the process.

    --set train_eval_images=N measures the training accuracy on N images after
    each epoch, 0 on none. Default: 2000 if at least 13,334 are trained on (then
    it costs at most 5 % of their training), else 0.

    --which, --sample and --map are options of the model that --set start=FILE names.

    In several processes: torchrun --standalone --nproc-per-node 2 -m pymobilenet.cli train ...
    or, with the Julia backend: mpiexec -n 2 python -m pymobilenet.cli train ... --backend julia
    """
    from pymobilenet.errors import ConfigError
    from pymobilenet.training import begin, load_recipe
    from pymobilenet.training import resume as resume_run
    from pymobilenet.training.log import check_loggers, new_logger
    from pymobilenet.training.recipe import absolute

    with exit_on_error():
        if (recipe is None) == (resume is None):
            raise ConfigError("either a recipe or --resume FOLDER must be given, and not both")
        start = {"which": which, "sample": sample, "map": name_map}
        changes = [
            *changes,
            *(f"run.start_{key}={json.dumps(str(v))}" for key, v in start.items() if v is not None),
        ]
        if resume is not None and changes:
            raise ConfigError(f"a run keeps its recipe: --set belongs to a new one. {changes[0]}")
        if resume is not None and out is not None:
            raise ConfigError(
                f"a run keeps its folder: --out belongs to a new one. Received: {out}"
            )
        check_loggers(logs)
        requested = {
            "device": device,
            "amp": amp,
            "sync_norm": sync_norm,
            "compiled": compiled,
            "distributed": _in_several_processes(),
        }
        options = {
            name: value for name, value in requested.items() if value != DEFAULTS.get(name, False)
        }
        chosen = backend(backend_name)
        if recipe is not None:
            data_change = [] if data is None else [f"run.data={absolute(data)}"]
            loaded = load_recipe(recipe, [*changes, *data_change])
            run = begin(loaded, chosen, out or Path("run"), **options)
        else:
            assert resume is not None
            run = resume_run(resume, chosen, None if data is None else absolute(data), **options)
        if not run.model.is_main_process:
            with _stoppable(lambda: None) as stop:
                ending = run.train(is_stopping=stop.is_asked)
            raise typer.Exit(stop.status if ending == "interrupted" else 0)
        settings = run.train_config.to_dict() | run.run.to_dict() | run.model.config.to_dict()
        loggers = [new_logger(name, run.folder, settings, run.state.log) for name in logs]
        print_start(run)
        with _stoppable(_print_stopping) as stop, show_run_progress(run) as (on_step, on_line):
            ending = run.train([on_step], [*loggers, on_line], stop.is_asked)
        _print_end(run, ending, options, logs)
    if ending == "interrupted":
        raise typer.Exit(stop.status)


def recipes() -> None:
    """List the recipes that `train` knows by name, with their descriptions."""
    from pymobilenet.training.recipe import FOLDER, SHIPPED

    for name in SHIPPED:
        lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
        description = " ".join(
            line.removeprefix("# ").strip() for line in lines if line.startswith("#")
        )
        console.print(f"[bold]{name}[/]\n  {escape(description)}\n")


def _in_several_processes() -> bool:
    """Return whether this is one of the processes that torchrun or mpiexec has started."""
    if TORCHRUN in os.environ:
        from pymobilenet.backends.torch.processes import REQUIRED_VARIABLES

        if all(name in os.environ for name in REQUIRED_VARIABLES):
            return True
    return any(int(os.environ.get(name, 1)) > 1 for name in COUNTS)


def _print_stopping() -> None:
    errors.print("Stopping after this step; once more stops at once, without saving.")


class _Stop:
    """A request to stop, by a signal of this process or, where `number` is None, of another."""

    number: int | None = None

    def is_asked(self) -> bool:
        return self.number is not None

    @property
    def status(self) -> int:
        return SIGNALLED + (self.number or signal.SIGINT)


@contextmanager
def _stoppable(notify: Callable[[], None]) -> Iterator[_Stop]:
    """Handle SIGINT and SIGTERM as a request to stop; a second one stops Python at once."""
    stop = _Stop()

    def handle(number: int, _frame: object) -> None:
        stop.number = number
        notify()
        signal.signal(number, handlers[signal.Signals(number)])

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _command(run: TrainingRun, options: Mapping[str, object], logs: Sequence[str]) -> str:
    """Return the shell command that continues a run with the same options."""
    words = ["--resume", str(run.folder), "--backend", run.model.backend.name]
    for name, flag in FLAGS.items():
        if name in options:
            words += [flag] if options[name] is True else [flag, str(options[name])]
    for log in logs:
        words += ["--log", log]
    return shlex.join(["pymobilenet", "train", *words])


def _print_end(
    run: TrainingRun, ending: str, options: Mapping[str, object], logs: Sequence[str]
) -> None:
    folder, best = run.folder, run.state.best
    if ending == "interrupted":
        suffix = ", in as many processes" if "distributed" in options else ""
        console.print(
            f"Stopped after step {run.state.step} of {run.train_config.steps} and saved. "
            f"Continue, in any backend{suffix}, with: {_command(run, options, logs)}",
            soft_wrap=True,
            markup=False,
        )
        return
    from pymobilenet.evaluation import read_runs, write_curves
    from pymobilenet.evaluation.run_logs import CURVES

    if best is None:
        console.print(f"{folder}: finished; the recipe has no epochs", markup=False)
        return
    chance = 1 / run.images.train.num_classes
    write_curves(read_runs([folder]), folder / CURVES, chance)
    share = evaluation_share(run.state.log)
    evaluation = "" if share is None else f"; evaluation: {share:.0%} of the time"
    console.print(
        f"{ending.capitalize()}. Best validation accuracy {best['val_accuracy']:.2%} "
        f"(chance: {chance:.2%}), epoch {best['epoch']}: {folder / 'best.safetensors'}; "
        f"curves: {folder / CURVES}{evaluation}",
        soft_wrap=True,
        markup=False,
    )
