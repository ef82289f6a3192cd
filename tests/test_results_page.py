"""docs/results.md: every figure of a run is that of the run's log."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pymobilenet.evaluation.equivalence import equivalence

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


NUMBERS = {2: "two", 3: "three"}
MARGIN = 0.015


def ends(recipe, backend):
    """The accuracies of the last epoch of each seed of a recipe in one backend."""
    logs = [
        row["log"] for row in ROWS if row["name"] == f"`{recipe}`" and row["backend"] == backend
    ]
    return [
        json.loads((DOCS / log).read_text().splitlines()[-1])["val_accuracy"]
        for log in sorted(logs)
    ]


@pytest.mark.parametrize(
    ("recipe", "is_equivalent"), [("cifar100_transfer", True), ("cifar100_fast", False)]
)
def test_means_deviations_and_equivalence_are_those_of_the_logs(recipe, is_equivalent):
    torch, julia = ends(recipe, "torch"), ends(recipe, "julia")
    assert len(torch) == len(julia) > 1
    result = equivalence(torch, julia, MARGIN)
    assert result.is_equivalent == is_equivalent
    low, high = (100 * bound for bound in result.interval)
    text = " ".join((DOCS / "results.md").read_text().split())
    assert (
        f"torch ends at {100 * np.mean(torch):.2f} % in the mean of {NUMBERS[len(torch)]} seeds "
        f"(standard deviation {100 * np.std(torch, ddof=1):.2f}), "
        f"Julia at {100 * np.mean(julia):.2f} % ({100 * np.std(julia, ddof=1):.2f}). "
        f"The difference is {100 * result.difference:.2f} points with a 90 % confidence interval "
        f"of {low:.2f} to {high:.2f}"
    ) in text
    assert f"(TOST, p = {result.p_value:.1g})" in text
