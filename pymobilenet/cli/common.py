"""What the commands share: where they print, how they refuse, and their bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pymobilenet.errors import PymobilenetError

console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="CIFAR-100: a folder or archive of either official layout."),
]


@contextmanager
def exit_on_error() -> Iterator[None]:
    """One line and status 2 for what a user can put right."""
    try:
        yield
    except (PymobilenetError, OSError) as error:
        said = f"[bold red]{type(error).__name__}[/]: {escape(str(error))}"
        errors.print(said, markup=True, soft_wrap=True)
        raise typer.Exit(2) from None


def print_written(paths: Iterable[Path]) -> None:
    """A line that names files, whatever brackets are in their names."""
    console.print(f"Written: {', '.join(map(str, paths))}", soft_wrap=True, markup=False)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """A bar for each part of the work, on the standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bars:

        def start_bar(title: str, total: int) -> Callable[[], None]:
            task = bars.add_task(title, total=total)
            return lambda: bars.advance(task)

        yield start_bar
