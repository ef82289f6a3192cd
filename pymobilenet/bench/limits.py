"""How close contenders come to the limit of the roofline model, and where their time goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from rich.console import Console

from pymobilenet.bench.contenders import Contender
from pymobilenet.bench.measure import Case, Timing, case_to_dict
from pymobilenet.bench.onnx_peers import FLOAT32
from pymobilenet.bench.peak import Peaks
from pymobilenet.bench.profiles import OTHER, RUNS, Seconds
from pymobilenet.bench.roofline import KINDS, Kernel, KindLimit, kernels, kind_limits
from pymobilenet.terminal import folded_table

_HYPHENATED = {
    "depthwise": "depth-\nwise",
    "pointwise": "point-\nwise",
    "optimizer": "opti-\nmizer",
}
"""Headers that leave room for the names of contenders in 80 columns."""


class Share(NamedTuple):
    """How close one contender comes to the limit.

    Attributes:
        contender: Its name.
        share: The limit divided by the median of its hot runs. None in int8, for which the limit,
            that of float32, is none.
        seconds: Of each kind of kernel in a profiled run; None if it has no profiler.
    """

    contender: str
    share: float | None
    seconds: Seconds | None


@dataclass(frozen=True)
class CaseLimit:
    """The limit of one case, and its contenders.

    Attributes:
        case: What was measured.
        kernels: Of one call.
        kinds: Their limits, by kind.
        shares: One for each contender.
    """

    case: Case
    kernels: tuple[Kernel, ...]
    kinds: tuple[KindLimit, ...]
    shares: tuple[Share, ...]

    @property
    def seconds(self) -> float:
        """The least time of a call."""
        return sum(kind.seconds for kind in self.kinds)


def measure_limit(
    case: Case, peaks: Peaks, timings: Sequence[Timing], contenders: Sequence[Contender]
) -> CaseLimit:
    """Compute the limit of a case, and run each contender's profiler.

    Args:
        case: What was measured.
        peaks: Of the machine.
        timings: Of the case.
        contenders: What was timed.

    Returns:
        The limit and the shares of all contenders that were timed.
    """
    parts = kernels(case)
    kinds = kind_limits(parts, peaks)
    limit = sum(kind.seconds for kind in kinds)
    medians = {timing.contender: timing.median for timing in timings}
    shares = []
    for one in contenders:
        if one.name in medians:
            share = limit / medians[one.name] if one.precision == FLOAT32 else None
            profile = one.profiles.get(case.job)
            seconds = None if profile is None else profile(case.config, *case.inputs())
            shares.append(Share(one.name, share, seconds))
    return CaseLimit(case, tuple(parts), tuple(kinds), tuple(shares))


def limits_to_dict(peaks: Peaks, limits: Sequence[CaseLimit]) -> dict[str, Any]:
    """Return peaks and limits as plain values for JSON.

    Args:
        peaks: Of the machine.
        limits: Of each case.
    """
    return {
        "library": peaks.library,
        "gflops": peaks.gflops,
        **peaks.bandwidth._asdict(),
        "cases": [
            {
                **case_to_dict(one.case),
                "limit": one.seconds,
                "kinds": [asdict(kind) for kind in one.kinds],
                "kernels": [
                    {**each._asdict(), "limit": each.limit(peaks), "bound": each.bound(peaks)}
                    for each in one.kernels
                ],
                "contenders": [share._asdict() for share in one.shares],
            }
            for one in limits
        ],
    }


def print_limits(peaks: Peaks, limits: Sequence[CaseLimit], console: Console) -> None:
    """Print the peaks and, for each case, the limit and the time of each kind of kernel.

    Args:
        peaks: Of the machine.
        limits: Of each case.
        console: Where to print.
    """
    for one in limits:
        _print_kinds(one, console)
        _print_shares(one, console)
    bandwidth = peaks.bandwidth
    console.print(
        f"Limits are those of {peaks.gflops:.0f} GFLOP/s (products of large matrices, "
        f"{peaks.library}) and {bandwidth.gbytes_per_second:.1f} GB/s (triad of arrays of "
        f"{bandwidth.array_bytes / 1e6:.0f} MB)."
    )
    caches = bandwidth.cache_bytes
    known = "of unknown size" if caches is None else f"of {caches / 1e6:.0f} MB"
    if not bandwidth.exceeds_caches:
        console.print(
            f"There is not enough memory for arrays of four times the caches {known}: part of them "
            "may be in the caches, and the bandwidth is that of both."
        )
    if caches and any(sum(k.bytes for k in one.kernels) < caches for one in limits):
        console.print(
            f"The data of at least one case fit into the caches {known}, and can be faster than "
            "the limit."
        )


def _print_kinds(one: CaseLimit, console: Console) -> None:
    numbers = ("GFLOP", "MB", "limit, ms")
    table = folded_table("", *numbers, "bound by", right=numbers, title=f"Limit: {one.case}")
    for kind in one.kinds:
        sizes = (f"{kind.operations / 1e9:.3f}", f"{kind.bytes / 1e6:.2f}")
        table.add_row(kind.kind, *sizes, f"{kind.seconds * 1e3:.3f}", kind.bound)
    sums = (sum(k.operations for k in one.kinds) / 1e9, sum(k.bytes for k in one.kinds) / 1e6)
    table.add_row("all", f"{sums[0]:.3f}", f"{sums[1]:.2f}", f"{one.seconds * 1e3:.3f}", "")
    console.print(table)
    console.print()


def _print_shares(one: CaseLimit, console: Console) -> None:
    limits = {kind.kind: kind.seconds for kind in one.kinds}
    profiled = [share.seconds for share in one.shares if share.seconds is not None]
    present = [k for k in (*KINDS, OTHER) if k in limits or any(s.get(k) for s in profiled)]
    columns = ("share", *(_HYPHENATED.get(kind, kind) for kind in present))
    table = folded_table("ms in each kind", *columns, right=columns)
    table.add_row("limit", "100%", *(_milliseconds(limits, kind) for kind in present))
    for contender, share, seconds in one.shares:
        shown = "" if share is None else f"{share:.0%}"
        table.add_row(contender, shown, *(_milliseconds(seconds, kind) for kind in present))
    console.print(table)
    console.print()
    console.print(f"share: the limit divided by the hot median. Times: of a run of {RUNS} in the")
    console.print("library's profiler, which adds some to each operator.")
    unknown = [share.contender for share in one.shares if share.seconds is None]
    if unknown:
        console.print(f"Without times of each kind, as no profiler tells: {'; '.join(unknown)}.")
    console.print()


def _milliseconds(seconds: Seconds | None, kind: str) -> str:
    if seconds is None or kind not in seconds:
        return ""
    value = seconds[kind] * 1e3
    return f"{value:.2f}" if value < 1000 else f"{value:.0f}"
