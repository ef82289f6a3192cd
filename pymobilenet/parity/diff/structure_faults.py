"""Which layers only one model has, which come in another order, which take in something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymobilenet.backends.trace import Layer, Trace
from pymobilenet.parity.diff.diagnosis import Diagnosis, known
from pymobilenet.parity.diff.differences import NORMS
from pymobilenet.parity.diff.fault import Fault
from pymobilenet.parity.diff.pairing import Pair
from pymobilenet.parity.diff.result import PairRow
from pymobilenet.parity.diff.wiring import wiring_faults
from pymobilenet.parity.tolerances import MAX_RATIO


def structural_faults(
    rows: Sequence[PairRow], traces: Sequence[Trace], inputs: np.ndarray, output_ratio: float
) -> list[Fault]:
    """Find exchanged layers, layers that only one model has, and inputs from other layers.

    Args:
        rows: The pairs of layers, in order of execution.
        traces: Of both models.
        inputs: What both models got.
        output_ratio: The error of the models' output, in floors.

    Returns:
        A fault for each.
    """
    pairs = [Pair(row.first, row.second) for row in rows]
    faults = _exchanged(pairs)
    exchanged = {id(layer) for fault in faults for layer in (fault.first, fault.second)}
    faults += [
        fault
        for fault in _additional(rows, output_ratio)
        if not {id(fault.first), id(fault.second)} & exchanged
    ]
    for a, b, own_source, other_source in wiring_faults(pairs, traces[0], traces[1], inputs):
        words = f"takes {own_source} in the first model and {other_source} in the second"
        diagnosis = known("residual from another layer", words) if a.kind == "add" else None
        faults.append(Fault(a, b, words=words, diagnosis=diagnosis))
    return faults


def _additional(rows: Sequence[PairRow], output_ratio: float) -> list[Fault]:
    """Find layers that only one model has and that change what it computes.

    Frameworks build some layers of several others, such as a group norm. So layers between two
    pairs are no fault where the models agree behind them, or where both models have some there and
    already differ before.
    """
    faults: list[Fault] = []
    gap: list[PairRow] = []
    before: PairRow | None = None
    for row in [*rows, None]:
        if row is not None and row.chained is None:
            gap.append(row)
            continue
        ratio = output_ratio if row is None else row.ratio
        sides = {side for each in gap for side in ("first", "second") if getattr(each, side)}
        differs_before = before is not None and before.ratio > MAX_RATIO
        if ratio > MAX_RATIO and not (len(sides) == 2 and differs_before):
            faults += [_missing(each, before) for each in gap]
        gap, before = [], row
    return faults


def _missing(row: PairRow, before: PairRow | None) -> Fault:
    """Say that a model has no such layer, and behind which of its layers it is missing."""
    layer, other = (row.first, "second") if row.first else (row.second, "first")
    assert layer is not None
    after = None if before is None else getattr(before, other)
    place = "at its start" if after is None else f"after {after}"
    words = f"has no {layer.settings.get('function', layer.kind.replace('_', ' '))} {place}"
    name = {"add": "missing residual", "softmax": "softmax", "log_softmax": "softmax"}.get(
        layer.kind, "missing norm" if layer.kind in NORMS else ""
    )
    return Fault(row.first, row.second, words=words, diagnosis=known(name, words) if name else None)


def _exchanged(pairs: Sequence[Pair]) -> list[Fault]:
    """Find layers that come before their neighbour in one model and after it in the other."""
    faults = []
    for before, middle, after in zip(pairs, pairs[1:], pairs[2:], strict=False):
        first, second = before.first or after.first, before.second or after.second
        if before.is_complete or after.is_complete or not middle.is_complete:
            continue
        if first is None or second is None or first.kind != second.kind:
            continue
        order = ("before", "after") if before.first else ("after", "before")
        words = (
            f"comes {order[0]} {middle.first} in the first model and {order[1]} it in the second"
        )
        diagnosis = _order_of_norm(first, middle.first, words)
        faults.append(Fault(first, second, words=words, diagnosis=diagnosis))
    return faults


def _order_of_norm(layer: Layer, neighbour: Layer | None, words: str) -> Diagnosis | None:
    """Return the known difference of two layers in the other order, if one of them is a norm."""
    kinds = {layer.kind, "" if neighbour is None else neighbour.kind}
    is_known = "activation" in kinds and kinds & set(NORMS)
    return known("activation before norm", words) if is_known else None
