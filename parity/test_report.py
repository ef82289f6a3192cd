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
    found = empty(images)
    scenario = report.scenarios[0]
    found.scenarios = [
        dataclasses.replace(scenario, verdicts=[verdict([1.0, 99.0], level)]) for level in (3, 2, 2)
    ]
    found.scenarios[2].verdicts[0] = verdict([99.0], level=2)
    found.curves = [curves([1, 1], [2, 2], [1e-9, 1e-9])]
    assert (found.first_divergence.level, found.first_divergence.name) == (2, "t1")


def test_the_json_says_everything(report, tmp_path):
    write_parity_report(report, tmp_path / "out")

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "out/report.json").read_text()
    found = json.loads(text, parse_constant=refuse)  # JSON has no NaN and no Infinity
    assert found["verdict"] == "agree"
    assert found["first_divergence"] is None
    assert found["julia"] == "not compared"
    assert found["backends"] == ["torch", "numpy"]
    assert found["synthetic"] is True
    assert found["data"].startswith("SYNTHETIC")
    assert found["seed"] == 0
    assert found["versions"]["torch"]["torch"]
    assert found["versions"]["numpy"]["numpy"]
    assert {"system", "cores", "python", "threads"} <= set(found["machine"])
    (scenario,) = found["scenarios"]
    assert [level["level"] for level in scenario["levels"]] == [0, 1, 2, 3]
    for level in (*scenario["levels"], *found["lockstep"]):
        assert level["verdict"] == "agree"
        for tensor in level["tensors"]:
            assert {"quantity", "name", "errors", "floor", "verdict"} <= set(tensor)
            assert tensor["verdict"] == "within"
    assert [len(one["losses"]) for one in found["lockstep"]] == [2, 2]
    for curve in found["curves"]:
        assert set(curve["losses"]) == {"torch", "numpy"}
        assert len(curve["difference"]) == len(curve["envelope"]) == 2
    assert [one["verdict"] for one in found["handovers"]] == ["agree", "agree"]
    assert (tmp_path / "out/curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_json_has_no_number_for_is_written_as_text(report, images, tmp_path):
    row = Row(Key(1, "eval", "stem.conv"), {"torch": 0.0, "numpy": INF}, 1e-15)
    broken = Verdict("s", 1, "outputs", (row,))
    found = empty(images)
    found.scenarios = [dataclasses.replace(report.scenarios[0], verdicts=[broken])]
    found.curves = [curves([1, np.nan], [1, 2], [1e-9, 1e-9])]
    write_parity_report(found, tmp_path)
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read["verdict"] == "differ"
    assert read["first_divergence"]["name"] == "stem.conv"
    assert read["first_divergence"]["error"] == "inf"
    assert read["scenarios"][0]["levels"][0]["tensors"][0]["verdict"] == "outside"
    assert read["curves"][0]["losses"]["a"] == [1, "nan"]


def test_the_tables_end_with_the_verdict(report):
    console = Console(width=200, file=io.StringIO())
    print_report(report, console)
    assert "torch and numpy agree on SYNTHETIC" in console.file.getvalue()
