"""The command `pretrained`: list published weights, and download them into the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from pymobilenet.cli.common import console, exit_on_error


def pretrained(
    names: Annotated[
        list[str] | None, typer.Argument(help="Weights to download; none lists all.")
    ] = None,
) -> None:
    """List pretrained weights, or download some into the cache; any command takes their names."""
    from rich.table import Table

    from pymobilenet.hub import cached_file, fetch, is_cached, pretrained_models
    from pymobilenet.hub.resolve import find_pretrained

    with exit_on_error():
        if names:
            for model in [find_pretrained(name) for name in names]:
                path = fetch(model, lambda text: console.print(text, markup=False, soft_wrap=True))
                console.print(f"{model.name}: {path}", markup=False, soft_wrap=True)
                console.print(
                    f"  {model.title}, {model.licence}, {model.source}",
                    markup=False,
                    soft_wrap=True,
                )
            return
        table = Table(box=None, pad_edge=False)
        for title in ("name", "px", "classes", "top-1", "licence", "cached"):
            table.add_column(title, overflow="fold")
        for model in pretrained_models().values():
            table.add_row(
                model.name,
                str(model.resolution),
                model.classes,
                "" if model.top1 is None else f"{model.top1:.1f} %",
                model.licence,
                "yes" if is_cached(model) else "",
            )
        console.print(table)
        folder = cached_file(next(iter(pretrained_models().values()))).parent
        console.print(f"Cache: {folder}", markup=False, soft_wrap=True)
