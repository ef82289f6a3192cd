"""This machine: `doctor`, `sysimage` and `bundle`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pymobilenet.cli.common import console, exit_on_error, print_written, show_progress
from pymobilenet.terminal import folded_table


def doctor(
    topic: Annotated[
        str | None,
        typer.Argument(help="`port`: the known differences between frameworks that hold here."),
    ] = None,
) -> None:
    """Report on the environment: libraries, threads, and the speed of matrix products.

    With `port`, try each known difference between torch, Flux, NNlib, Keras and ONNX Runtime on the
    installed versions.
    """
    from pymobilenet.doctor import environment_report
    from pymobilenet.errors import ConfigError
    from pymobilenet.parity.diff.installed import port_report

    with exit_on_error():
        if topic not in (None, "port"):
            raise ConfigError(f"the topic must be port. Received: {topic}")
        rows = environment_report() if topic is None else port_report()
        table = folded_table(*(("", "", "") if topic is None else ("difference", "in", "result")))
        for row in rows:
            table.add_row(*map(escape, row))
    console.print(table)


def sysimage(
    path: Annotated[
        Path | None,
        typer.Argument(help="The image file to write, 300 MB. Default: in the Julia project."),
    ] = None,
) -> None:
    """Build a system image for programs that use Flux: 9 to 19 minutes, 4 GB of memory.

    They start seconds sooner, and others up to one later.

    Without PATH, every later start in this Python environment uses it, until packages change.
    """
    from pymobilenet.backends.julia.executable import SYSIMAGE_VARIABLE
    from pymobilenet.backends.julia.sysimage import build_sysimage

    with exit_on_error():
        image = build_sysimage(path)
    message = (
        f"{image} is used from now on."
        if path is None
        else f"To use it, set {SYSIMAGE_VARIABLE}={image}."
    )
    console.print(message, soft_wrap=True, markup=False)


def bundle(
    archive: Annotated[
        Path, typer.Argument(help="The bundle: a file that ends with .tar, .tar.gz or .tgz.")
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="With --use: a new or empty folder.")
    ] = None,
    use: Annotated[
        bool, typer.Option("--use", help="Unpack the bundle into the folder, and start Julia.")
    ] = False,
    sha256: Annotated[
        str | None,
        typer.Option(help="With --use: the digest that was printed where the bundle was made."),
    ] = None,
) -> None:
    """Pack Julia and its compiled packages into one file, for machines without network.

    Making a bundle takes minutes: its packages are compiled again. With --use, the bundle is
    checked, unpacked and tried on this machine, in seconds.
    """
    from pymobilenet.backends.julia.bundle.make import make_bundle
    from pymobilenet.errors import ConfigError

    with exit_on_error():
        if use and folder is not None:
            _use_bundle(archive, folder, sha256)
            return
        if use or folder is not None or sha256 is not None:
            raise ConfigError(
                "with --use, a bundle and a folder are required; without it, only a bundle is "
                f"allowed. Received: {archive} {folder or ''}"
            )
        _, digest = make_bundle(archive)
    print_written([archive])
    message = f"To unpack it: pymobilenet bundle --use {shlex.quote(archive.name)} DIR --sha256 "
    console.print(message + digest, soft_wrap=True, markup=False)


def _use_bundle(archive: Path, folder: Path, sha256: str | None) -> None:
    from pymobilenet.backends.julia.bundle.installed import BUNDLE_VARIABLE
    from pymobilenet.backends.julia.bundle.use import use_bundle

    with show_progress() as progress:
        installed = use_bundle(archive, folder, progress, sha256)
    info = installed.info()
    console.print(f"Julia {info.julia} was started from {folder}.", soft_wrap=True, markup=False)
    choice = f"export {BUNDLE_VARIABLE}={shlex.quote(str(installed.folder))}"
    console.print(f"To use it: {choice}", soft_wrap=True, markup=False)
    if "PYTHON_JULIACALL_EXE" in os.environ:
        console.print("PYTHON_JULIACALL_EXE is set and comes first: unset it.", soft_wrap=True)
