"""The report as an object, as JSON, and as tables."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console
from synthetic_results import curves, verdict

from pymobilenet import backend
from pymobilenet.parity.judge import Row, Verdict
from pymobilenet.parity.observe import Key
from pymobilenet.parity.report import ParityReport, write_parity_report
from pymobilenet.parity.run import run_parity
from pymobilenet.parity.tables import print_report

INF = float("inf")


@pytest.fixture(scope="module")
def report(config, images, one_handover):  # noqa: ARG001
    """A small one with all levels, between torch and the oracle."""
    return run_parity(("torch", "numpy"), images, 2, ["float64"], [config])


def empty(images):
    return ParityReport.of([backend("torch"), backend("numpy")], images, seed=0)


def test_a_report_with_nothing_compared_does_not_pass(images):
    assert empty(images).to_dict()["verdict"] == "differ"


def test_the_lowest_level_is_the_first_divergence(images, report):
    result = empty(images)
    scenario = report.scenarios[0]
    result.scenarios = [
        dataclasses.replace(scenario, verdicts=[verdict([1.0, 99.0], level)]) for level in (3, 2, 2)
    ]
    result.scenarios[2].verdicts[0] = verdict([99.0], level=2)
    result.curves = [curves([1, 1], [2, 2], [1e-9, 1e-9])]
    assert (result.first_divergence.level, result.first_divergence.name) == (2, "t1")


def test_the_json_has_all_results(report, tmp_path):
    write_parity_report(report, tmp_path / "out")

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "out/report.json").read_text()
    values = json.loads(text, parse_constant=refuse)  # JSON has no NaN and no Infinity
    assert values["verdict"] == "agree"
    assert values["first_divergence"] is None
    assert values["julia"] == "not compared"
    assert values["backends"] == ["torch", "numpy"]
    assert values["synthetic"] is True
    assert values["data"].startswith("SYNTHETIC")
    assert values["seed"] == 0
    assert values["versions"]["torch"]["torch"]
    assert values["versions"]["numpy"]["numpy"]
    assert {"system", "cores", "python", "threads"} <= set(values["machine"])
    (scenario,) = values["scenarios"]
    assert [level["level"] for level in scenario["levels"]] == [0, 1, 2, 3]
    for level in (*scenario["levels"], *values["lockstep"]):
        assert level["verdict"] == "agree"
        for tensor in level["tensors"]:
            assert {"quantity", "name", "errors", "floor", "verdict"} <= set(tensor)
            assert tensor["verdict"] == "within"
    assert [len(one["losses"]) for one in values["lockstep"]] == [2, 2]
    for curve in values["curves"]:
        assert set(curve["losses"]) == {"torch", "numpy"}
        assert len(curve["difference"]) == len(curve["envelope"]) == 2
    assert [one["verdict"] for one in values["handovers"]] == ["agree", "agree"]
    assert (tmp_path / "out/curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_values_that_json_cannot_represent_are_written_as_text(report, images, tmp_path):
    row = Row(Key(1, "eval", "stem.conv"), {"torch": 0.0, "numpy": INF}, 1e-15)
    broken = Verdict("s", 1, "outputs", (row,))
    result = empty(images)
    result.scenarios = [dataclasses.replace(report.scenarios[0], verdicts=[broken])]
    result.curves = [curves([1, np.nan], [1, 2], [1e-9, 1e-9])]
    write_parity_report(result, tmp_path)
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read["verdict"] == "differ"
    assert read["first_divergence"]["name"] == "stem.conv"
    assert read["first_divergence"]["error"] == "inf"
    assert read["scenarios"][0]["levels"][0]["tensors"][0]["verdict"] == "outside"
    assert read["curves"][0]["losses"]["a"] == [1, "nan"]


def printed(report, **options):
    console = Console(width=80, file=io.StringIO())
    print_report(report, console, **options)
    return console.file.getvalue()


def test_a_line_for_each_level_comes_first_and_then_the_verdict(report):
    """Scenario, level, worst error and verdict: the very values of the report, in its order."""
    lines = printed(report).splitlines()
    assert lines[0].split() == ["scenario", "level", "worst"]
    expected = [
        (result.scenario.name, verdict.level, verdict.title, verdict.worst.ratio)
        for result in report.scenarios
        for verdict in result.verdicts
    ]
    expected += [
        (run.verdict.scenario.removeprefix("lockstep, "), 4, "lockstep", run.verdict.worst.ratio)
        for run in report.lockstep
    ]
    expected += [(curves.title, 4, "curve", curves.ratio) for curves in report.curves]
    expected += [
        (run.scenario.removeprefix("hand-over "), 6, "hand-over", run.worst.ratio)
        for run in report.handovers
    ]
    rows = [line.split() for line in lines[2 : 2 + len(expected)]]
    assert [" ".join(row) for row in rows] == [
        f"{name} {level} {title} {ratio:.2f} agree" for name, level, title, ratio in expected
    ]
    assert [row[-4] for row in rows] == list("012344446" + "6")
    assert lines[-1].startswith("torch and numpy agree on SYNTHETIC")
    assert "tensors" not in lines[0]


def test_a_level_that_differs_is_named_before_the_verdict(report, images):
    result = empty(images)
    broken = [verdict([1.0, 2.0], level=1), verdict([1.0, 99.0], level=2)]
    result.scenarios = [dataclasses.replace(report.scenarios[0], verdicts=broken)]
    lines = printed(result).splitlines()
    assert [line.split()[-2:] for line in lines[2:4]] == [["2.00", "agree"], ["99.00", "DIFFER"]]
    assert lines[-2].startswith("s: first divergence at level 2, forward: t1 (eval) of a is off by")
    assert lines[-1].startswith("torch and numpy DIFFER on SYNTHETIC")


def test_details_are_printed_on_request_and_before_the_verdict(report):
    text = printed(report, verbose=True)
    assert text.startswith(printed(report).split("\n\n")[0])
    scenario = report.scenarios[0]
    header = next(line for line in text.splitlines() if "worst tensor" in line)
    column = header.index("worst tensor")
    tensors = "".join(line[column:].strip() for line in text.splitlines())
    worst = scenario.verdicts[1].worst
    assert f"{worst.key.name}({worst.key.quantity})" in tensors.replace(" ", "")
    assert f"{scenario.logits['numpy against torch']:.1e}" in text
    assert f"{report.curves[0].compared_steps} of {len(report.curves[0].envelope)}" in text
    assert text.splitlines()[-1].startswith("torch and numpy agree")


@pytest.mark.parametrize("verbose", [False, True])
def test_the_tables_fit_80_columns_without_cutting_a_name(report, verbose):
    *table, _, verdict = printed(report, verbose=verbose).splitlines()
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)
    assert "\N{HORIZONTAL ELLIPSIS}" not in verdict
