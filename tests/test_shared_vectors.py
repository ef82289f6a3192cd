"""The test vectors in julia/test/vectors equal those that this package computes."""

import json

import pytest
from shared_vectors import VECTORS, contents


@pytest.fixture(scope="module")
def computed():
    """File name -> text, from this package."""
    return contents()


def test_the_recorded_vectors_are_those_of_the_package(computed):
    assert set(computed) == {"config.json", "infer_config.json"}
    for name, content in computed.items():
        assert (VECTORS / name).read_text(encoding="utf-8") == content, name


def test_the_vectors_contain_results_and_errors(computed):
    for content in computed.values():
        cases = json.loads(content)["cases"]
        errors = [case for case in cases if "error" in case]
        assert 4 <= len(errors) < len(cases)
