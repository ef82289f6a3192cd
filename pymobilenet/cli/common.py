"""Consoles, error handling and progress, shared by all commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from pymobilenet.errors import PymobilenetError

console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="CIFAR-100: a folder or archive of either official layout."),
]


def replace_unencodable() -> None:
    r"""Print characters that the terminal's encoding lacks as escapes, such as ``\u4e2d``.

    With cp1252 or ASCII, Python would otherwise raise UnicodeEncodeError on a file name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print an error of this package or of the system in one line, and exit with status 2."""
    try:
        yield
    except (PymobilenetError, OSError) as error:
        message = f"[bold red]{type(error).__name__}[/]: {escape(str(error))}"
        errors.print(message, markup=True, soft_wrap=True)
        raise typer.Exit(2) from None


def print_written(paths: Iterable[Path], output: Console = console) -> None:
    """Print the names of files that were written, as they are."""
    output.print(f"Written: {', '.join(map(str, paths))}", soft_wrap=True, markup=False)


class ProgressLines:
    """Prints a line when a part of the work starts and one when it ends: for logs and CI."""

    def __init__(self, output: Console) -> None:
        """Print to `output`, with seconds from now on."""
        self.output, self.begin = output, time.monotonic()
        self.current: tuple[str, float] | None = None

    def start(self, title: str, total: int) -> Callable[[], None]:
        """Print that a part starts, and return the function to call after each of its steps."""
        self.end()
        self.current = (title, time.monotonic())
        self._print(f"{title} ...")
        remaining = total

        def advance() -> None:
            nonlocal remaining
            remaining -= 1
            if remaining == 0:
                self.end()

        return advance

    def end(self) -> None:
        """Print that the present part has ended, with its seconds."""
        if self.current is not None:
            title, begin = self.current
            self.current = None
            self._print(f"{title}: done in {time.monotonic() - begin:.1f} s")

    def _print(self, text: str) -> None:
        seconds = time.monotonic() - self.begin
        self.output.print(f"[{seconds:4.0f} s] {text}", soft_wrap=True, markup=False)


@contextmanager
def show_progress() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """Show the progress of each part of the work on the standard error.

    On a terminal a part has a bar, elsewhere a line when it starts and one when it ends.

    Yields:
        A function of a title and a number of steps, which returns the function to call after each
        step.
    """
    if not errors.is_terminal:
        lines = ProgressLines(errors)
        yield lines.start
        lines.end()
        return
    columns = (
        TextColumn("{task.description}", table_column=Column(overflow="fold")),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=errors) as bars:

        def start_bar(title: str, total: int) -> Callable[[], None]:
            task = bars.add_task(title, total=total)
            return lambda: bars.advance(task)

        yield start_bar
