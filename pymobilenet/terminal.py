"""Tables for a terminal of 80 columns: long values are folded, and never cut."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table


def folded_table(*columns: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """Return an empty table whose cells continue on the next line where they are too long.

    Args:
        columns: The headers. If all are empty, there is no header line.
        right: The headers of the columns that are aligned to the right.
        title: A line above the table.
    """
    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        show_edge=False,
        show_header=any(columns),
        title=title,
        title_justify="left",
    )
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table
