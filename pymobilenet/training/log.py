"""A run's log: a line for each epoch, as JSON and as CSV always, elsewhere if asked."""

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
"""The file of a run's folder that keeps the name by which W&B knows the run."""

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


def tensorboard(folder: Path, _settings: Mapping[str, Any], _lines: Sequence[Line]) -> Logger:
    """Scalars for TensorBoard, in `folder`/tensorboard."""
    writer = _client("tensorboard").Writer(str(folder / "tensorboard"))

    def log(line: Line) -> None:
        for name, value in _numbers(line).items():
            writer.add_scalar(name, value, step=line["epoch"])
        writer.flush()

    return log


def wandb(folder: Path, settings: Mapping[str, Any], lines: Sequence[Line]) -> Logger:
    """Weights & Biases, offline unless WANDB_MODE says otherwise, in `folder`/wandb.

    A resumed run goes on in W&B's run of the same folder. Offline, W&B begins a folder of its own
    each time, of which the latest is to be uploaded: it has the same id, and `lines` from the first
    on, since an upload takes the place of what that run had before.
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

    if not run.resumed:  # only a server can tell what is there already
        for line in lines:
            log(line)
    return log


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb}

CLIENTS = {"tensorboard": "tensorboard.summary", "wandb": "wandb"}
"""The module that each of `LOGGERS` needs."""


def check_loggers(names: Iterable[str]) -> None:
    """Refuse, before a run begins, what `new_logger` would refuse once it has begun.

    Raises:
        ConfigError: There is no such logger.
        BackendUnavailable: Its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise ConfigError(f"a log must be one of {', '.join(LOGGERS)}. Received: {name!r}")
        _client(name)


def new_logger(
    name: str, folder: Path, settings: Mapping[str, Any], lines: Sequence[Line] = ()
) -> Logger:
    """One of `LOGGERS`, for the run in `folder`.

    Args:
        name: Which.
        folder: The run's, which is there.
        settings: Those of the run, by name.
        lines: The run's so far.

    Raises:
        ConfigError, BackendUnavailable: See `check_loggers`.
    """
    check_loggers([name])
    return LOGGERS[name](folder, settings, lines)


def _numbers(line: Line) -> dict[str, float]:
    return {name: value for name, value in line.items() if isinstance(value, (int, float))}


def _wandb_id(folder: Path) -> str:
    """The id of the run in `folder`, made once and kept there."""
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
