"""A run's log: a line for each epoch, as JSON and as CSV always, elsewhere if asked."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.evaluation.runs import LOG
from pymobilenet.files import atomic_write

TABLE = "log.csv"

Line = Mapping[str, Any]
Logger = Callable[[Line], None]
"""Gets each line once its epoch is over."""


def write_log(folder: Path, lines: Sequence[Line]) -> None:
    """Write all lines anew, each file atomically: what a resumed run repeats stands there once."""
    objects = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    for name, text in ((LOG, objects), (TABLE, table.getvalue())):
        with atomic_write(folder / name) as file:
            file.write(text.encode())


def tensorboard(folder: Path, _settings: Mapping[str, Any]) -> Logger:
    """Scalars for TensorBoard, in `folder`/tensorboard."""
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise _missing("tensorboard", error) from None
    writer = Writer(str(folder / "tensorboard"))

    def log(line: Line) -> None:
        for name, value in _numbers(line).items():
            writer.add_scalar(name, value, step=line["epoch"])
        writer.flush()

    return log


def wandb(folder: Path, settings: Mapping[str, Any]) -> Logger:
    """Weights & Biases, offline unless WANDB_MODE says otherwise, in `folder`/wandb.

    A resumed run goes on in W&B's run of the same folder.
    """
    try:
        import wandb as client
    except ImportError as error:
        raise _missing("wandb", error) from None
    run = client.init(
        project="pymobilenet",
        name=folder.resolve().name,
        dir=str(folder),
        config=dict(settings),
        mode=None if "WANDB_MODE" in os.environ else "offline",
    )
    return lambda line: run.log(_numbers(line), step=line["epoch"], commit=True)


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb}


def new_logger(name: str, folder: Path, settings: Mapping[str, Any]) -> Logger:
    """One of `LOGGERS`; `settings` are those of the run, by name.

    Raises:
        ConfigError: There is no such logger.
        BackendUnavailable: Its package is not installed.
    """
    if name not in LOGGERS:
        raise ConfigError(f"a log must be one of {', '.join(LOGGERS)}. Received: {name!r}")
    return LOGGERS[name](folder, settings)


def _numbers(line: Line) -> dict[str, float]:
    return {name: value for name, value in line.items() if isinstance(value, (int, float))}


def _missing(name: str, error: ImportError) -> BackendUnavailable:
    return BackendUnavailable(
        f"{name} is not installed ({error}): pip install 'pymobilenet[{name}]'"
    )
