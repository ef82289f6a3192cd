"""The recordings of the package, replayed without Julia."""

import json
import os
import subprocess
import sys

import pytest

from pymobilenet.parity import read_recordings
from pymobilenet.parity.recording import RECORDED_CURVES, STANDARD_SCENARIOS
from pymobilenet.parity.run import replay

SMALLEST = STANDARD_SCENARIOS[:2]
"""The scenarios of the smallest net."""


@pytest.fixture(scope="module")
def no_julia():
    """Return an environment without Julia, in which none may be downloaded."""
    hidden = ("JULIA", "PYTHON_JULIA")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return environment | {"PATH": os.devnull, "PYTHON_JULIAPKG_OFFLINE": "yes", "COLUMNS": "200"}


def python(environment, *arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def pymobilenet(environment, *arguments):
    return python(environment, "-m", "pymobilenet.cli", *arguments)


def test_there_is_a_recording_of_each_standard_scenario():
    recordings = read_recordings()
    assert {one.scenario for one in recordings} == set(STANDARD_SCENARIOS)
    for one in recordings:
        assert one.backend == "julia"
        assert {"julia", "Flux", "MobileNets"} <= set(one.versions)
        assert set(one.curves) == (
            set(RECORDED_CURVES) if one.scenario.dtype == "float64" else set()
        )


REPLAY_THE_SMALLEST = """
import sys
from pymobilenet import parity
from pymobilenet.cli import app

every = parity.read_recordings()
config = min((one.scenario.config for one in every), key=lambda config: config.width_mult)
parity.read_recordings = lambda: [one for one in every if one.scenario.config == config]
app(sys.argv[1:])
"""


@pytest.mark.slow
def test_parity_without_julia_reports_it_and_replays_recordings(no_julia, tmp_path):
    """Those of the smallest net: the next test replays the others."""
    done = python(no_julia, "-c", REPLAY_THE_SMALLEST, "parity", "--report", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("julia: recorded, Julia 1.")
    assert "julialang.org" in first
    assert "SYNTHETIC" in first
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "agree"
    assert report["julia"].startswith("recorded, Julia 1.")
    assert report["synthetic"] is True
    replayed = [one["scenario"] for one in report["scenarios"]]
    assert {one["dtype"] for one in replayed} == {scenario.dtype for scenario in SMALLEST}
    assert {one["config"]["width_mult"] for one in replayed} == {SMALLEST[0].config.width_mult}
    assert len(report["curves"]) == len(RECORDED_CURVES)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", STANDARD_SCENARIOS[len(SMALLEST) :], ids=lambda scenario: scenario.name
)
def test_torch_agrees_with_the_recording_of_each_larger_net(scenario):
    (recording,) = [one for one in read_recordings() if one.scenario == scenario]
    report = replay([recording])
    assert report.to_dict()["verdict"] == "agree"
    assert [one.scenario for one in report.scenarios] == [scenario]
    assert len(report.curves) == len(recording.curves)


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
