"""Every row of docs/layouts.md, measured again."""

import os
from pathlib import Path

import pytest

os.environ["KERAS_BACKEND"] = "torch"

for package in ("keras", "timm", "torchvision", "transformers"):
    pytest.importorskip(package)

from layout_table import ROOT, errors, rows  # noqa: E402  # it imports these packages

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras"),
]

ROUNDING = 1e-5
"""Of float32 outputs, relative: two orders of summation differ by some 1e-7 in each layer."""

ROWS = {f"{row.project}, {row.net}": row for row in rows()}


@pytest.mark.parametrize("name", ROWS)
def test_a_layout_is_read_and_written_to_rounding(name):
    read, written = errors(ROWS[name])
    assert read < ROUNDING
    assert written < ROUNDING


def test_the_page_has_the_rows_that_are_measured():
    page = Path(ROOT, "docs/layouts.md").read_text(encoding="utf-8")
    lines = [line.split(" | ")[:2] for line in page.splitlines() if line.startswith("| ")][1:]
    assert [", ".join(cells).removeprefix("| ") for cells in lines] == list(ROWS)
