"""The command line. All that it does can be called from Python."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import pymobilenet
from pymobilenet.cli import (
    agreement,
    bench,
    diff,
    hybrids,
    machine,
    models,
    pretrained,
    results,
    training,
)
from pymobilenet.cli.common import console, replace_unencodable

OPTIMIZE_VARIABLE = "PYTHON_JULIACALL_OPTIMIZE"
"""Julia's optimization level. A comparison runs a model only a few times: most of its time is
Julia's compiler's, which is twice as fast at level 1."""

app = typer.Typer(
    help="MobileNet in PyTorch and in Flux.jl, and comparisons of the two.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

COMMANDS = (
    agreement.backends,
    agreement.parity,
    agreement.record,
    agreement.verify,
    hybrids.hybrids,
    diff.diff,
    models.convert,
    models.quantize,
    models.info,
    pretrained.pretrained,
    training.train,
    training.recipes,
    agreement.equivalence,
    results.evaluate,
    results.predict,
    results.compare,
    machine.doctor,
    machine.sysimage,
    machine.bundle,
    bench.bench,
)
for command in COMMANDS:
    app.command()(command)


def _version(show: bool) -> None:
    if show:
        console.print(f"pymobilenet {pymobilenet.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """MobileNet in PyTorch and in Flux.jl, and comparisons of the two."""


def entry_point() -> None:
    """Run the command line in this process."""
    replace_unencodable()
    if sys.argv[1:2] == ["diff"]:
        os.environ.setdefault(OPTIMIZE_VARIABLE, "1")
    app()
