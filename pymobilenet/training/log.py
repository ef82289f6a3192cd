"""The log of a run: one entry per epoch as JSON and CSV, optionally in TensorBoard or W&B."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.evaluation.run_logs import LOG
from pymobilenet.files import atomic_write

TABLE = "log.csv"

WANDB_ID = Path("wandb", "run-id")
"""The file in a run's folder with the run's id in W&B."""

Line = Mapping[str, Any]
Logger = Callable[[Line], None]
"""A function that is called with the entry of each finished epoch."""


def write_log(folder: Path, lines: Sequence[Line]) -> None:
    """Write the whole log, each file atomically. A resumed run overwrites repeated epochs.

    Args:
        folder: The run's folder.
        lines: One entry per epoch.
    """
    objects = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    table = io.StringIO(newline="")
    columns = dict.fromkeys(key for line in lines for key in line)  # earlier versions had fewer
    writer = csv.DictWriter(table, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    for name, text in ((LOG, objects), (TABLE, table.getvalue())):
        with atomic_write(folder / name) as file:
            file.write(text.encode())


def tensorboard(folder: Path, _settings: Mapping[str, Any], _lines: Sequence[Line]) -> Logger:
    """Log scalars for TensorBoard in `folder`/tensorboard.

    Args:
        folder: The run's folder.

    Returns:
        The logger.
    """
    writer = _client("tensorboard").Writer(str(folder / "tensorboard"))

    def log(line: Line) -> None:
        for name, value in _numbers(line).items():
            writer.add_scalar(name, value, step=line["epoch"])
        writer.flush()

    return log


def wandb(folder: Path, settings: Mapping[str, Any], lines: Sequence[Line]) -> Logger:
    """Log to Weights & Biases in `folder`/wandb; offline unless WANDB_MODE is set.

    A resumed run continues the W&B run of its folder. Offline, W&B creates a new folder each time,
    of which the latest is to be uploaded: it has the same id and contains all entries, because an
    upload replaces the previous one.

    Args:
        folder: The run's folder.
        settings: The settings of the run.
        lines: The entries of the finished epochs.

    Returns:
        The logger.
    """
    run = _client("wandb").init(
        project="pymobilenet",
        id=_wandb_id(folder),
        resume="allow",
        name=folder.resolve().name,
        dir=str(folder),
        config=dict(settings),
        mode=None if "WANDB_MODE" in os.environ else "offline",
    )

    def log(line: Line) -> None:
        run.log(_numbers(line), step=line["epoch"], commit=True)

    if not run.resumed:  # offline, or new on the server
        for line in lines:
            log(line)
    return log


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb}

CLIENTS = {"tensorboard": "tensorboard.summary", "wandb": "wandb"}
"""The module that each logger requires."""


def check_loggers(names: Iterable[str]) -> None:
    """Check loggers before a run starts.

    Args:
        names: Keys of `LOGGERS`.

    Raises:
        ConfigError: An unknown logger.
        BackendUnavailable: Its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise ConfigError(f"a logger must be one of {', '.join(LOGGERS)}. Received: {name!r}")
        _client(name)


def new_logger(
    name: str, folder: Path, settings: Mapping[str, Any], lines: Sequence[Line] = ()
) -> Logger:
    """Create a logger for a run.

    Args:
        name: A key of `LOGGERS`.
        folder: The run's folder, which must exist.
        settings: The settings of the run, by name.
        lines: The entries of the finished epochs.

    Returns:
        The logger.

    Raises:
        ConfigError: An unknown logger.
        BackendUnavailable: Its package is not installed.
    """
    check_loggers([name])
    return LOGGERS[name](folder, settings, lines)


def _numbers(line: Line) -> dict[str, float]:
    return {name: value for name, value in line.items() if isinstance(value, (int, float))}


def _wandb_id(folder: Path) -> str:
    """Return the W&B id of the run in `folder`; it is created once and stored there."""
    path = folder / WANDB_ID
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            file.write(uuid.uuid4().hex.encode())
    return path.read_text().strip()


def _client(name: str) -> Any:
    try:
        return importlib.import_module(CLIENTS[name])
    except ImportError as error:
        raise BackendUnavailable(
            f"{name} is not installed ({error}): pip install 'pymobilenet[{name}]'"
        ) from None
