"""A comparison of models as JUnit XML, which CI systems show: a test for each compared quantity."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from pymobilenet.parity.diff.result import Comparison, DiffReport, FailOn
from pymobilenet.parity.tolerances import MAX_RATIO

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold; a name in a file may have them."""


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        quantity: What is compared, which XML calls the class of the test.
        name: The layer, or what else it is.
        ratio: The error in floors; None for a layer without counterpart.
        lines: What is known about the cause.
        is_fault: Whether it fails although `ratio` may be small.
    """

    quantity: str
    name: str
    ratio: float | None
    lines: tuple[str, ...] = ()
    is_fault: bool = False


def as_junit(report: DiffReport, fail_on: FailOn = FailOn.DIFFER) -> str:
    """Return a report as JUnit XML.

    Each pair of layers is a test ``whole model`` and, where it was run alone, a test ``alone``; the
    output of the models is a test, too. With labels, so are the quantities of a training step, and
    each fault in it (``training``). A layer without counterpart is a test that is skipped, or
    one that fails, by the rule.

    Args:
        report: The result of `compare`.
        fail_on: Whether a layer without counterpart fails (``unmatched``). The other rules do not
            change which tests fail.
    """
    suites = ET.Element("testsuites", name="pymobilenet diff")
    for comparison in report.comparisons:
        name = _text(f"{comparison.first} and {comparison.second}")
        suite = ET.SubElement(suites, "testsuite", name=name)
        cases = list(_cases(comparison))
        for case in cases:
            _add(suite, case, fail_on)
        suite.set("tests", str(len(cases)))
        for outcome, attribute in (("failure", "failures"), ("skipped", "skipped")):
            suite.set(attribute, str(len(suite.findall(f"testcase/{outcome}"))))
        suite.set("errors", "0")
    return ET.tostring(suites, encoding="unicode", xml_declaration=True)


def _cases(comparison: Comparison) -> Iterator[Case]:
    names = comparison.first, comparison.second
    for row in comparison.rows:
        faults = comparison.faults_of(row)
        lines = tuple(line for fault in faults for line in fault.describe(*names))
        if row.is_unmatched:
            yield Case("whole model", row.name, None, lines)
            continue
        # a fault of a layer that was run alone is a failure of that test
        is_alone = row.alone_ratio is not None
        has_fault = row.fault is not None
        yield Case("whole model", row.name, row.ratio, lines, has_fault and not is_alone)
        if row.alone_ratio is not None:
            is_fault = row.fault is not None and not row.fault.is_hidden
            yield Case("alone", row.name, row.alone_ratio, lines, is_fault)
    explanation = (comparison.explanation,) if comparison.explanation else ()
    yield Case("output", "output", comparison.output_ratio, explanation)
    training = comparison.training
    if training is None:
        return
    for each in training.rows:
        yield Case(each.quantity, each.name, each.ratio)
    for fault in training.faults:
        name = f"{fault.location}: {fault.name}"
        yield Case("training", name, 0.0, tuple(fault.describe(*names)), is_fault=True)


def _add(suite: ET.Element, case: Case, fail_on: FailOn) -> None:
    element = ET.SubElement(
        suite, "testcase", classname=_text(case.quantity), name=_text(case.name)
    )
    text = _text("\n".join(case.lines))
    if case.ratio is None:
        outcome = "failure" if fail_on is FailOn.UNMATCHED else "skipped"
        message = "only one of the models has this layer"
        ET.SubElement(element, outcome, message=message).text = text
    elif not case.ratio <= MAX_RATIO or case.is_fault:
        words = f"{case.ratio:.3g} noise floors, at most {MAX_RATIO:g} are allowed"
        words = next(iter(case.lines), words) if case.quantity == "training" else words
        ET.SubElement(element, "failure", message=words).text = text


def _text(value: str) -> str:
    return NO_XML.sub("\ufffd", value)
