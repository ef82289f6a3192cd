"""The pytest plugin of pymobilenet: the fixture `assert_same_model`.

pytest imports this module in every run where pymobilenet is installed. So it imports neither
pymobilenet nor a framework; the fixture does, when a test uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def assert_same_model(tmp_path: Path) -> Callable[..., None]:
    """Assert that models compute the same; where they differ, an HTML page shows each layer.

    Called as ``assert_same_model(first, second, inputs=images)``, with the arguments of
    `pymobilenet.parity.compare`. A failure says which layer differs and, where it is known, why.
    Its last line names the page, in the temporary folder of the test.
    """
    from pymobilenet.parity.diff import compare

    def check(*models: Any, **arguments: Any) -> None:
        __tracebackhide__ = True
        report = compare(*models, **arguments)
        if not report.passed:
            page = next(each for each in report.save(tmp_path) if each.suffix == ".html")
            pytest.fail(f"{report}\n\neach layer: {page}", pytrace=False)

    return check
