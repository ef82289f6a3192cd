"""The command line: thin, everything it does can be called from Python."""

from __future__ import annotations

from typing import Annotated

import typer

import pymobilenet
from pymobilenet.cli import agreement, machine, models, pretrained, results, training
from pymobilenet.cli.common import console

app = typer.Typer(
    help="MobileNet in PyTorch and in Flux.jl: is it the same model?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

COMMANDS = (
    agreement.backends,
    agreement.parity,
    agreement.record,
    agreement.verify,
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
    machine.bench,
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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    """MobileNet in PyTorch and in Flux.jl: is it the same model?"""
