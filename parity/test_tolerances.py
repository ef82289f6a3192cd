"""The constants that decide verdicts: documented, and the same in both languages."""

import ast
import json
from pathlib import Path

import pytest

from pymobilenet.parity import tolerances

VECTORS = Path(__file__).parents[1] / "julia/test/vectors/tolerances.json"


def documented(source):
    """Return constant -> the text below it, for each assignment of a module's source."""
    body = ast.parse(source).body
    return {
        statement.targets[0].id: after.value.value
        for statement, after in zip(body, [*body[1:], None], strict=True)
        if isinstance(statement, ast.Assign) and isinstance(after, ast.Expr)
    }


def test_every_tolerance_has_a_reason_and_the_measurement_behind_it():
    texts = documented(Path(tolerances.__file__).read_text(encoding="utf-8"))
    assert set(texts) == {name for name in dir(tolerances) if name.isupper()}
    for name, text in texts.items():
        assert "\nReason: " in text, name
        assert "\nMeasured: " in text, name


def test_they_are_the_values_that_julia_is_tested_with():
    expected = json.loads(VECTORS.read_text())
    values = {name: getattr(tolerances, name.upper()) for name in expected}
    assert values == expected
    assert set(values) == {"max_ratio", "draws", "min_floor_ulps"}


def test_the_constants_are_consistent():
    assert tolerances.USUAL_RATIO < tolerances.MAX_RATIO < tolerances.REMEASURE_RATIO
    assert tolerances.FIRST_DRAWS < tolerances.DRAWS < tolerances.MORE_DRAWS
    assert tolerances.MAX_RATIO * tolerances.MAX_FLOOR["float32"] == pytest.approx(1)
    assert tolerances.MAX_FLOOR["float64"] ** 2 == 2.0**-52
