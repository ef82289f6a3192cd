"""The test vectors in julia/test/vectors equal those that this package computes."""

import json

import pytest
from shared_vectors import VECTORS, contents

CONTENTS = contents()


@pytest.mark.parametrize("name", CONTENTS)
def test_the_recorded_vectors_are_those_of_the_package(name):
    assert (VECTORS / name).read_text(encoding="utf-8") == CONTENTS[name]


def test_the_vectors_contain_results_and_errors():
    for content in CONTENTS.values():
        cases = json.loads(content)["cases"]
        errors = [case for case in cases if "error" in case]
        assert 4 <= len(errors) < len(cases)
