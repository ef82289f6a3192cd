"""What the benchmark measures by means of torch: memory bandwidth, and the time of operators."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

Shapes = list[list[int]]
"""Of the arguments of an operator; empty for an argument that is no tensor."""

SILENT = "6"
"""The level of Kineto, torch's profiler, at which it logs nothing: at each start and stop it would
print a line on the standard error."""


def triad(count: int) -> Callable[[], Any]:
    """Return a function that computes ``a = b + 3 * c`` once, in all threads.

    Args:
        count: Values in each of the three float32 arrays.
    """
    a, b, c = (torch.full((count,), float(number)) for number in range(3))
    return lambda: torch.add(b, c, alpha=3.0, out=a)


def operator_seconds(
    job: Callable[[], Any], group: Callable[[str, Shapes], str | None]
) -> tuple[dict[str, float], float]:
    """Run a job once in torch's profiler.

    Args:
        job: What to run.
        group: Returns the group of an operator by its name, such as ``aten::conv2d``, and its
            shapes. None if it has none: then the operators that it calls are looked at.

    Returns:
        Group -> seconds; and the seconds of the job.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", SILENT)
    with torch.autograd.profiler.profile(record_shapes=True) as profiler:
        start = time.perf_counter()
        job()
        total = time.perf_counter() - start
    seconds: Counter[str] = Counter()
    pending = [event for event in profiler.function_events if event.cpu_parent is None]
    while pending:
        event = pending.pop()
        name = group(event.name, event.input_shapes)
        if name is None:
            pending.extend(event.cpu_children)
        else:
            seconds[name] += event.cpu_time_total / 1e6
    return dict(seconds), total
