"""docs/results.md: every figure of a run is that of the run's log."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| (?P<backend>(?:torch|julia)(?:, then (?:torch|julia))?) "
    r"\| (?P<seed>\d+) \| (?P<epochs>\d+) "
    r"\| (?P<top1>[\d.]+) % \| (?P<minutes>\d+) \| \[log\]\((?P<log>results/[\w.-]+\.jsonl)\) \|$",
    re.MULTILINE,
)
ROWS = [match.groupdict() for match in ROW.finditer((DOCS / "results.md").read_text())]


def test_every_log_has_a_row():
    logs = {f"results/{path.name}" for path in (DOCS / "results").glob("*.jsonl")}
    assert {row["log"] for row in ROWS} == logs
    assert len(ROWS) == len(logs) > 0


@pytest.mark.parametrize("row", ROWS, ids=[row["log"] for row in ROWS])
def test_a_row_states_what_its_log_has(row):
    lines = [json.loads(line) for line in (DOCS / row["log"]).read_text().splitlines()]
    assert row["backend"] == ", then ".join(dict.fromkeys(line["backend"] for line in lines))
    assert [line["epoch"] for line in lines] == list(range(1, int(row["epochs"]) + 1))
    assert row["top1"] == f"{100 * lines[-1]['val_accuracy']:.2f}"
    seconds = sum(line["seconds"] + line["evaluation_seconds"] for line in lines)
    assert int(row["minutes"]) == round(seconds / 60)
