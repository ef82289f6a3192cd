"""A start of Julia that fails says what to do."""

import json
import os
import subprocess
import sys

import pytest

from pymobilenet.backends.julia.start import problem_of_home

START = """
import json
from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable
try:
    backend("julia")
except BackendUnavailable as error:
    print(json.dumps(str(error)))
"""


def test_a_home_that_is_no_folder_is_named_unless_packages_are_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("JULIA_DEPOT_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert problem_of_home() is None
    monkeypatch.setenv("HOME", str(tmp_path / "absent"))
    assert f"HOME={tmp_path}/absent" in problem_of_home()
    monkeypatch.setenv("JULIA_DEPOT_PATH", str(tmp_path))
    assert problem_of_home() is None


@pytest.mark.julia
def test_a_start_without_a_home_names_it(tmp_path):
    environment = {name: text for name, text in os.environ.items() if name != "JULIA_DEPOT_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", START],
        env=environment | {"HOME": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert f"HOME={tmp_path}/absent" in said
    assert "resolve" not in said
