"""The recordings of the package, replayed without Julia."""

import json
import os
import subprocess
import sys

import pytest

from pymobilenet.parity import read_recordings
from pymobilenet.parity.recording import RECORDED_CURVES, STANDARD_SCENARIOS


@pytest.fixture(scope="module")
def no_julia():
    """Return an environment without Julia, in which none may be downloaded."""
    hidden = ("JULIA", "PYTHON_JULIA")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return environment | {"PATH": os.devnull, "PYTHON_JULIAPKG_OFFLINE": "yes", "COLUMNS": "200"}


def pymobilenet(environment, *arguments):
    command = [sys.executable, "-m", "pymobilenet.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def test_there_is_a_recording_of_each_standard_scenario():
    recordings = read_recordings()
    assert {one.scenario for one in recordings} == set(STANDARD_SCENARIOS)
    for one in recordings:
        assert one.backend == "julia"
        assert {"julia", "Flux", "MobileNets"} <= set(one.versions)
        assert set(one.curves) == (
            set(RECORDED_CURVES) if one.scenario.dtype == "float64" else set()
        )


@pytest.mark.long
def test_parity_without_julia_reports_it_and_replays_the_recordings(no_julia, tmp_path):
    done = pymobilenet(no_julia, "parity", "--report", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("julia: recorded, Julia 1.")
    assert "julialang.org" in first
    assert "SYNTHETIC" in first
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "agree"
    assert report["julia"].startswith("recorded, Julia 1.")
    assert report["synthetic"] is True
    assert len(report["scenarios"]) == len(STANDARD_SCENARIOS)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_requested_backend_that_is_missing_is_an_error(no_julia, tmp_path):
    done = pymobilenet(no_julia, "record", "--out", str(tmp_path / "new"))
    assert done.returncode == 2
    assert "no Julia is installed" in done.stderr
    assert not (tmp_path / "new").exists()


def test_backends_states_what_is_missing_and_how_to_install_it(no_julia):
    done = pymobilenet(no_julia, "backends")
    assert done.returncode == 0
    assert "julia  unavailable: no Julia is installed" in done.stdout
    assert "https://julialang.org/downloads" in done.stdout
