"""Compare any two models: `diff`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from pymobilenet.cli.common import console, errors, exit_on_error, print_written

if TYPE_CHECKING:
    from rich.console import Console

    from pymobilenet.backends.trace import Participant
    from pymobilenet.parity.diff import DiffReport, FailOn
FORMATS = ("text", "json", "junit")
"""In what form the result is printed."""


def diff(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Two or more: a file (.onnx or any format of `convert`), package.module:function, "
            "file.py:function, file.jl:function."
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            "--images",
            help="An .npy file, an .npz file whose first array is (N, ...), or a folder or archive "
            "with images, of which --batch are taken, evenly spaced.",
        ),
    ] = None,
    preprocessing: Annotated[
        str, typer.Option(help="How the images of a folder are scaled: unit, standard, keras.")
    ] = "unit",
    labels: Annotated[
        str | None,
        typer.Option(
            help="Also compare a training step: an .npy file of N integers from 0, or `random`. An "
            ".npz file of --inputs may have them as `labels`."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Of one input, such as 3,32,32: of random ones where there is no --inputs, or of "
            "the images of a folder."
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=2, help="Number of random inputs, or of images of a folder.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs.")] = 0,
    name_map: Annotated[
        Path | None,
        typer.Option("--map", help="JSON: name of a layer in the first -> in the second."),
    ] = None,
    port: Annotated[
        Path | None,
        typer.Option(help="Carry the first's weights to the second and write them to this file."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.html, report.json and JUnit XML.")
    ] = None,
    save_outputs: Annotated[
        Path | None,
        typer.Option(
            help="Write what each layer of the first model computes to this npz file; there may "
            "be no other model."
        ),
    ] = None,
    load_outputs: Annotated[
        list[Path] | None,
        typer.Option(help="A file of --save-outputs: the first model, and the inputs."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float64 or float32; by default the first that the models compute in."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="Of the result: text, json, or junit, which is XML.")
    ] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Write the result to this file and not to standard output.")
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            help="What gives status 1: never; output, if the outputs differ; differ, if any layer "
            "does, too; unmatched, also if a layer has no counterpart."
        ),
    ] = "differ",
) -> None:
    """Compare models of any framework, layer by layer.

    The exit status is 0 if they agree, 1 if they differ (see --fail-on), and 2 if they could not be
    compared. A module or a file with a function is run: compare only code that you trust.
    """
    from pymobilenet.cli.diff_inputs import labels_of, random_inputs, read_images, read_inputs
    from pymobilenet.formats.settings import read_map
    from pymobilenet.parity.diff import (
        FailOn,
        RecordedOutputs,
        compare,
        participant,
        record_outputs,
    )
    from pymobilenet.parity.diff.loading_code import write_loading_code

    notes = console if format_ == "text" or out is not None else errors
    with exit_on_error():
        _check_choice("--format", format_, FORMATS)
        _check_choice("--fail-on", fail_on, [each.value for each in FailOn])
        recorded = [RecordedOutputs(path) for path in load_outputs or ()]
        _check_count(len(models or ()) + len(recorded), port, save_outputs)
        targets = None
        if recorded:
            values, targets = recorded[0].inputs, recorded[0].labels
        elif inputs is None:
            values = random_inputs(shape, batch, seed)
        elif inputs.suffix in (".npy", ".npz"):
            values, targets = read_inputs(inputs)
        else:
            values = read_images(inputs, shape, batch, preprocessing)
        names = None if name_map is None else read_map(name_map)
        participants = [*recorded, *(participant(model) for model in models or ())]
        if labels is not None:
            targets = labels_of(labels, participants[0], values, seed)
        if save_outputs is not None:
            record_outputs(participants[0], values, save_outputs, dtype, targets)
            print_written([save_outputs], notes)
            if len(participants) == 1:
                return
        if port is not None:
            _port(participants, values, names, port, notes)
            spec = (models or [""])[-1]
            code = write_loading_code(spec, port, participants[-1].framework)
            print_written([port, code], notes)
        result = compare(*participants, inputs=values, names=names, labels=targets, dtype=dtype)
        _print_result(_formatted(result, format_, FailOn(fail_on)), out)
        if report is not None:
            written = result.save(report, FailOn(fail_on), _command(context))
            print_written(written, notes)
    raise typer.Exit(1 if result.fails(FailOn(fail_on)) else 0)


def _command(context: typer.Context) -> str:
    """Return the command line, without options that have their default."""
    words = ["pymobilenet", "diff"]
    for parameter in context.command.params:
        value = context.params[str(parameter.name)]
        if value == parameter.get_default(context) or value is None:
            continue
        for each in value if isinstance(value, (list, tuple)) else [value]:
            is_option = parameter.param_type_name == "option"
            words += [parameter.opts[0], str(each)] if is_option else [str(each)]
    return shlex.join(words)


def _check_count(count: int, port: Path | None, save_outputs: Path | None) -> None:
    from pymobilenet.errors import ConfigError

    if port is not None and count != 2:
        raise ConfigError(f"models must be two, for --port. Received: {count}")
    if count < (1 if save_outputs is not None else 2):
        raise ConfigError(f"models must be two or more. Received: {count}")


def _port(
    participants: Sequence[Participant],
    values: np.ndarray,
    names: dict[str, str] | None,
    path: Path,
    notes: Console,
) -> None:
    """Carry weights over, write them, and print how they are loaded."""
    from pymobilenet.parity.diff import port_weights

    count = port_weights(participants[0], participants[1], values, names)
    code = participants[1].save_weights(path)
    notes.print(f"Carried over: {count} layers. Load them with", markup=False)
    notes.print(f"    {code}", soft_wrap=True, markup=False)


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    from pymobilenet.errors import ConfigError

    if value not in choices:
        raise ConfigError(f"{option} must be one of {', '.join(choices)}. Received: {value}")


def _formatted(result: DiffReport, format_: str, fail_on: FailOn) -> str:
    from pymobilenet.parity.diff.report import as_json, as_junit

    if format_ == "text":
        return str(result)
    return as_json(result) if format_ == "json" else as_junit(result, fail_on)


def _print_result(text: str, out: Path | None) -> None:
    """Print text as it is, or write it to a file."""
    from pymobilenet.files import atomic_write

    if out is None:
        console.print(text, soft_wrap=True, markup=False)
        return
    with atomic_write(out) as file:
        file.write(f"{text}\n".encode())
