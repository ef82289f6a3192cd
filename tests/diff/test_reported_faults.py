"""Faults that users have reported are caught, located and diagnosed."""

import pytest
from diff.reported_faults import LABELS, REPORTED, REPORTED_OPTIMIZERS, images

from pymobilenet.backends.torch.minimal_optimizers import OPTIMIZER_PAIRS
from pymobilenet.parity import compare, compare_optimizers


def report_of(fault):
    return compare(
        *fault.pair(),
        inputs=images(),
        labels=LABELS if fault.is_training else None,
        losses=[None, fault.loss],
    )


def faults_of(report):
    comparison = report.comparisons[0]
    return [*comparison.faults, *(comparison.training.faults if comparison.training else ())]


def is_at(fault, place):
    names = [layer.name for layer in (fault.first, fault.second) if layer is not None]
    return place in (fault.place, *(name.partition("#")[0] for name in names))


@pytest.mark.parametrize("fault", REPORTED, ids=str)
def test_a_reported_fault_is_caught_located_and_diagnosed(fault):
    report = report_of(fault)
    assert not report.passed
    first, *_ = faults_of(report)
    assert first.name == (fault.difference or "structure"), str(report)
    assert is_at(first, fault.place), str(report)


@pytest.mark.parametrize("source", REPORTED_OPTIMIZERS)
def test_a_reported_fault_of_an_optimizer_is_diagnosed(source):
    difference = REPORTED_OPTIMIZERS[source]
    report = compare_optimizers(*OPTIMIZER_PAIRS[difference]())
    assert not report.passed
    assert [fault.name for fault in report.faults] == [difference]
