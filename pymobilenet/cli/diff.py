"""Compare any two models: `diff`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pymobilenet.cli.common import console, exit_on_error, print_written


def diff(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: a file (.onnx or any format of `convert`), package.module:function, "
            "file.py:function, file.jl:function."
        ),
    ],
    inputs: Annotated[
        Path | None,
        typer.Option(help="An .npy file, or an .npz file whose first array is (N, ...)."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Of one random input, such as 3,32,32, where there is no --inputs."),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Number of random inputs.")] = 4,
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
) -> None:
    """Compare models of any framework, layer by layer; status 1 if they differ.

    A module or a file with a function is run: compare only code that you trust.
    """
    from pymobilenet.errors import ConfigError
    from pymobilenet.parity.diff import compare, participant, port_weights, save_report

    with exit_on_error():
        if len(models) < 2 or (port is not None and len(models) != 2):
            wanted = "two or more" if port is None else "two, for --port,"
            raise ConfigError(f"models must be {wanted}. Received: {len(models)}")
        values = _read_inputs(inputs) if inputs is not None else _random_inputs(shape, batch, seed)
        names = None if name_map is None else json.loads(name_map.read_text(encoding="utf-8"))
        participants = [participant(model) for model in models]
        if port is not None:
            count = port_weights(participants[0], participants[1], values, names)
            code = participants[1].save_weights(port)
            console.print(f"Carried over: {count} layers. Load them with", markup=False)
            console.print(f"    {code}", soft_wrap=True, markup=False)
        result = compare(*participants, inputs=values, names=names)
        console.print(str(result), soft_wrap=True, markup=False)
        if report is not None:
            print_written(save_report(result, report))
    raise typer.Exit(0 if result.passed else 1)


def _read_inputs(path: Path) -> np.ndarray:
    from pymobilenet.errors import ConfigError

    try:
        loaded = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ConfigError(f"{path}: must be an .npy or .npz file. Received: {error}") from error
    return loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]


def _random_inputs(shape: str | None, batch: int, seed: int) -> np.ndarray:
    """Return normal random inputs (batch, *shape)."""
    from pymobilenet.errors import ConfigError

    try:
        sizes = [int(size) for size in (shape or "").split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise ConfigError(
            "without --inputs, --shape must state the shape of one input, such as 3,224,224. "
            f"Received: {shape}"
        )
    return np.random.default_rng(seed).standard_normal((batch, *sizes))
