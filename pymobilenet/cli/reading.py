"""Options for reading a model: settings that its file lacks, and the scaling of images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pymobilenet.cli.common import errors

if TYPE_CHECKING:
    from pymobilenet.formats import ConversionReport, Loaded

SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="field=value: a setting that the file lacks, as stem_stride=1; repeatable.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help=escape("TOML with [model]: settings that the file does not state.")
    ),
]
SampleOption = Annotated[
    Path | None,
    typer.Option(
        "--sample",
        help="NPZ with inputs and outputs of the original net: it decides the settings.",
    ),
]
WhichOption = Annotated[
    str | None,
    typer.Option(
        "--which", help="Which state dict of a checkpoint that has several, as ema; or a prefix."
    ),
]
MapOption = Annotated[
    Path | None,
    typer.Option("--map", help="JSON that names each tensor, as --write-map writes it."),
]
MeanOption = Annotated[
    str | None,
    typer.Option("--mean", help="Mean of each channel in [0, 1], as 0.485,0.456,0.406."),
]
StdOption = Annotated[
    str | None, typer.Option("--std", help="Standard deviation of each channel, as --mean.")
]


@dataclass(frozen=True)
class ReadingOptions:
    """What a user says of a model; see the options of the same names."""

    changes: Sequence[str] = ()
    config: Path | None = None
    sample: Path | None = None
    which: str | None = None
    name_map: Path | None = None
    mean: str | None = None
    std: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `load_any`.

        Raises:
            ConfigError: A setting or a map that breaks a rule.
        """
        from pymobilenet.formats import parse_settings
        from pymobilenet.formats.settings import read_map

        return {
            "settings": parse_settings(self.changes, self.config),
            "sample": self.sample,
            "which": self.which,
            "name_map": read_map(self.name_map) if self.name_map else None,
        }


def read_model(path: Path, options: ReadingOptions) -> Loaded:
    """Read a model, and print what was assumed of it on the error output."""
    from pymobilenet.formats import load_any

    loaded = load_any(path, **options.arguments())
    loaded.metadata.update(scaling_metadata(options))
    print_assumption(path, loaded.report, is_scaled=options.mean is not None)
    return loaded


def print_assumption(path: Path, report: ConversionReport, is_scaled: bool = False) -> None:
    """One line where something was assumed, and the notes of a file of another project."""
    for line in report.notes:
        if is_scaled:
            line = line.replace("; images are scaled as there (--mean, --std)", "")
        errors.print(f"{path.name}: {line}", soft_wrap=True, markup=False)


def scaling_metadata(options: ReadingOptions) -> Mapping[str, str]:
    """The metadata that --mean and --std stand for; nothing without them.

    Raises:
        ConfigError: One without the other, or no numbers.
    """
    from pymobilenet.errors import ConfigError
    from pymobilenet.formats.unit_names import scaled_by

    if (options.mean is None) != (options.std is None):
        raise ConfigError("--mean and --std must be given together")
    if options.mean is None or options.std is None:
        return {}
    return scaled_by(_numbers("--mean", options.mean), _numbers("--std", options.std))


def write_map(path: Path, name_map: Mapping[str, str]) -> None:
    """Write a map as JSON, a tensor a line."""
    from pymobilenet.files import atomic_write

    with atomic_write(path) as file:
        file.write((json.dumps(dict(name_map), indent=1, ensure_ascii=False) + "\n").encode())


def _numbers(option: str, text: str) -> list[float]:
    from pymobilenet.errors import ConfigError

    try:
        values = [float(number) for number in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ConfigError(f"{option} must be three numbers with commas. Received: {text!r}")
    return values
