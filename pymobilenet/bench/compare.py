"""Compare timings with those of an earlier run: which contenders have become slower?

A series of times is slower if its median is larger than the earlier one by more than

- `SPREADS` times the half interquartile distance h of the series that spreads more. With n repeats
  of normal noise, the difference of two medians has a standard deviation of 2.6 h / sqrt(n): for
  nine repeats, 3 h are 3.4 of them. It exceeds that by chance in one of 3000 comparisons;
- and `LEAST_GROWTH`, below which the placement of a process in memory is enough to explain it.

The rule knows the noise within a run and not that between runs: a virtual machine can be slower for
an hour. The speed of matrix products in both runs tells whether it was.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from pymobilenet.bench.contenders import Contender
from pymobilenet.bench.measure import Case, Timing, half_interquartile
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.machine import cores, processor
from pymobilenet.strict_json import parse_object
from pymobilenet.terminal import folded_table

SPREADS = 3.0
LEAST_GROWTH = 0.05


@dataclass(frozen=True)
class EarlierRun:
    """What is compared of a ``bench.json``.

    Attributes:
        path: The file.
        timings: Its timings.
        peaks: Backend -> GFLOP/s of matrix products.
        conditions: The processor, the cores and the threads of each backend, by name.
    """

    path: Path
    timings: tuple[Timing, ...]
    peaks: dict[str, float]
    conditions: dict[str, Any]


class Change(NamedTuple):
    """One series of times beside the earlier one.

    Attributes:
        series: hot or rested.
        quotient: The new median divided by the old.
        is_slower: Whether it is slower by the rule of this module.
    """

    series: str
    quotient: float
    is_slower: bool


def read_bench(path: Path) -> EarlierRun:
    """Read the ``bench.json`` of an earlier run.

    Args:
        path: The file. Rested times may be missing: earlier versions did not measure them.

    Returns:
        What is compared.

    Raises:
        ConfigError: The file is not one that `pymobilenet bench` wrote.
        OSError: The file cannot be read.
    """
    try:
        values = parse_object(path.read_bytes())
        timings = tuple(map(_timing, values["timings"]))
        peaks = {name: float(gflops) for name, gflops in values["gemm_gflops"].items()}
        return EarlierRun(path, timings, peaks, _conditions(values["about"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"{path} must be a bench.json that `pymobilenet bench` wrote. Received: {reason}"
        ) from None


def _timing(values: dict[str, Any]) -> Timing:
    config = MobileNetConfig.from_dict(values["config"])
    case = Case(config, int(values["batch_size"]), values["job"])
    hot, rested = (
        tuple(map(float, values.get(name, ()))) for name in ("seconds", "rested_seconds")
    )
    if not hot or min(hot + rested) <= 0:
        raise ValueError(f"seconds of {values['contender']!r} that are missing or not positive")
    return Timing(case, str(values["contender"]), hot, rested_seconds=rested)


def _conditions(about: dict[str, Any]) -> dict[str, Any]:
    """Return what has to be equal for times to be comparable; versions may differ."""
    threads = {
        f"threads of {name}": {kind: count for kind, count in values.items() if _is_count(count)}
        for name, values in about.items()
        if isinstance(values, dict)
    }
    return {"processor": about["processor"], "cores": about["cores"], **threads}


def _is_count(value: Any) -> bool:
    return isinstance(value, int)


def differences(earlier: EarlierRun, versions: dict[str, Any]) -> list[str]:
    """Return in which conditions this machine and process differ from those of an earlier run.

    Args:
        earlier: The earlier run.
        versions: Backend -> versions and threads, of this process.

    Returns:
        A text for each condition; empty if the times can be judged.
    """
    now = _conditions({**versions, "processor": processor(), "cores": cores()})
    return [
        f"{name}: {earlier.conditions[name]} there, {now[name]} here"
        for name in now
        if name in earlier.conditions and earlier.conditions[name] != now[name]
    ]


def changes(old: Timing, new: Timing) -> list[Change]:
    """Compare the hot runs and, where both have any, the rested runs.

    Args:
        old: Of the earlier run.
        new: Of this one.

    Returns:
        One change for each series.
    """
    pairs = {
        "hot": (old.seconds, new.seconds),
        "rested": (old.rested_seconds, new.rested_seconds),
    }
    return [_change(series, *pair) for series, pair in pairs.items() if all(pair)]


def _change(series: str, old: Sequence[float], new: Sequence[float]) -> Change:
    before, after = map(statistics.median, (old, new))
    allowed = max(SPREADS * max(map(half_interquartile, (old, new))), LEAST_GROWTH * before)
    return Change(series, after / before, after - before > allowed)


def check_common(
    earlier: EarlierRun, cases: Sequence[Case], contenders: Iterable[Contender]
) -> None:
    """Check before anything is measured that there will be something to compare.

    Args:
        earlier: The earlier run.
        cases: Of this run.
        contenders: Of this run.

    Raises:
        ConfigError: The earlier run has no case and contender of this one.
    """
    names = [one.name for one in contenders]
    if not any(old.case in cases and old.contender in names for old in earlier.timings):
        measured = "; ".join(dict.fromkeys(str(old.case) for old in earlier.timings))
        raise ConfigError(
            f"{earlier.path} must have a case and a contender of this run. Received: {measured}"
        )


def print_comparison(
    earlier: EarlierRun,
    timings: Iterable[Timing],
    peaks: dict[str, float],
    different: Sequence[str],
    console: Console,
) -> list[str]:
    """Print the quotients new / old of each case and contender that both runs have.

    Args:
        earlier: The earlier run.
        timings: Of this run.
        peaks: Backend -> GFLOP/s of matrix products, in this run.
        different: Of `differences`; if there are any, nothing is judged.
        console: Where to print.

    Returns:
        What has become slower: a text for each case, contender and series.
    """
    slower, old = [], {(timing.case, timing.contender): timing for timing in earlier.timings}
    both = [(old[key], new) for new in timings if (key := (new.case, new.contender)) in old]
    numbers = ("hot\nnew / old", "rested\nnew / old")
    for case in dict.fromkeys(new.case for _, new in both):
        table = folded_table("", *numbers, "", right=numbers, title=str(case))
        for before, after in both:
            if after.case == case:
                found = {change.series: change for change in changes(before, after)}
                quotients = [
                    f"{found[series].quotient:.2f}" if series in found else ""
                    for series in ("hot", "rested")
                ]
                names = [name for name, one in found.items() if one.is_slower and not different]
                note = f"{' and '.join(names)} slower" if names else ""
                table.add_row(after.contender, *quotients, note)
                slower += [
                    f"{after.contender}, {case}, {name}: {found[name].quotient:.2f}"
                    for name in names
                ]
        console.print(table)
        console.print()
    common = [name for name in peaks if name in earlier.peaks]
    speeds = ", ".join(f"{name} {peaks[name] / earlier.peaks[name]:.2f}" for name in common)
    console.print(f"Speed of matrix products, new / old: {speeds}")
    return slower
