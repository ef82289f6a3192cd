"""Hybrids of two backends: `hybrids`, and the bisection of `parity --bisect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pymobilenet.backends import backend
from pymobilenet.cli.agreement import DTYPES, backend_names, chosen_configs
from pymobilenet.cli.common import DataOption, console, exit_on_error, show_progress
from pymobilenet.errors import ConfigError
from pymobilenet.terminal import folded_table

if TYPE_CHECKING:
    from pymobilenet.parity.cuts import CutResult


def hybrids(
    backends: Annotated[str, typer.Option(help="Two of: torch, julia")] = "torch,julia",
    data: DataOption = None,
    cuts: Annotated[
        str, typer.Option(help="Numbers of blocks in front of the cut, with commas; or all.")
    ] = "all",
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each hybrid.")] = 50,
    dtype: Annotated[list[str], typer.Option(help="float64, float32")] = list(DTYPES),
    family: Annotated[list[str], typer.Option(help="v1, v1_bottleneck, v2")] = [],
    width_mult: Annotated[list[float], typer.Option(help="Width multipliers (alpha).")] = [],
    stem_stride: Annotated[list[int], typer.Option(help="1, 2")] = [],
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batches.")] = 0,
) -> None:
    """Compare hybrids, some blocks in one framework the rest in the other; status 1 if one differs.

    Outputs, gradients and first steps are compared with the oracle, all training steps with the
    first backend's model, in noise floors, for both orders of the backends.
    """
    from pymobilenet.backends.part import block_count
    from pymobilenet.data import open_cifar100
    from pymobilenet.parity.cuts import compare_cuts
    from pymobilenet.parity.scenario import Scenario

    with exit_on_error(), show_progress() as progress:
        pair = [backend(name) for name in backend_names(backends)]
        images = open_cifar100(data, "train")
        chosen = _cuts(cuts)
        results: dict[str, list[CutResult]] = {}
        for config in chosen_configs(family, width_mult, stem_stride, images.num_classes):
            for kind in dtype:
                scenario = Scenario(config, kind, seed=seed)
                count = block_count(config) + 1 if chosen is None else len(chosen)
                advance = progress(f"hybrids, {scenario.name}", 2 * count + steps)
                results[scenario.name] = compare_cuts(
                    pair, scenario, images, chosen, steps, advance
                )
    for name, found in results.items():
        table = folded_table("front", "blocks", "back", *found[0].ratios, "", title=name)
        for result in found:
            verdict = "agrees" if result.passed else "[bold red]differs[/]"
            ratios = (f"{ratio:.2f}" for ratio in result.ratios.values())
            table.add_row(result.first, str(result.cut), result.second, *ratios, verdict)
        console.print(table)
    console.print(
        "blocks: in front of the cut. Largest errors are in noise floors; the limit is 30."
    )
    passed = all(result.passed for found in results.values() for result in found)
    raise typer.Exit(0 if passed else 1)


def _cuts(text: str) -> Sequence[int] | None:
    """Return the numbers of a list with commas; None for all."""
    if text == "all":
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"cuts must be numbers of blocks with commas between, or all. Received: {text}"
        ) from None
