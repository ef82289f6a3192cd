"""Setting up the Julia packages: once for all processes, again after a kill, never in a read-only
environment. A script takes the place of Julia."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accounts import CAN_USE_ANOTHER_ACCOUNT, as_another_account

JULIA = """#!/bin/sh
case "$*" in
  --version) echo julia version 1.10.8 ;;
  *Sys.BINDIR*) printf '/lib/libjulia.so\\0/bin' ;;
  *) touch "$PROJECT/Manifest.toml"; echo install >> "$INSTALLS"
    echo "  Installed Flux" >&2; sleep "$SECONDS"; echo "Precompiling" >&2 ;;
esac
"""

ENSURE = """
from pymobilenet.backends.julia.project import ensure_julia, is_set_up, julia_executable_and_project
before = is_set_up(); ensure_julia()
print(before, is_set_up(), *julia_executable_and_project())
"""


@pytest.fixture
def environment(tmp_path):
    julia = tmp_path / "bin" / "julia"
    julia.parent.mkdir()
    julia.write_text(JULIA)
    julia.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{julia.parent}:{os.environ['PATH']}",
        "PYTHON_JULIAPKG_PROJECT": str(tmp_path / "project"),
        "PROJECT": str(tmp_path / "project"),
        "INSTALLS": str(tmp_path / "installs"),
        "SECONDS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment.pop("PYTHON_JULIACALL_EXE", None)
    return environment


def start(environment, account=list):
    return subprocess.Popen(
        account([sys.executable, "-c", ENSURE]),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return said.split(), errors


def installs(environment):
    with open(environment["INSTALLS"]) as file:
        return len(file.readlines())


@pytest.mark.slow
def test_of_eight_processes_that_start_together_one_installs(environment):
    processes = [start(environment) for _ in range(8)]
    for (before, after, executable, _), errors in map(end, processes):
        assert (before, after) == ("False", "True"), errors
        assert executable.endswith("julia")
    assert installs(environment) == 1
    assert end(start(environment))[0][:2] == ["True", "True"]
    assert installs(environment) == 1


@pytest.mark.slow
def test_an_installation_that_was_killed_is_done_again(environment):
    end(start(environment))
    os.remove(os.path.join(environment["PROJECT"], "Manifest.toml"))
    process = start(environment | {"SECONDS": "6"})
    deadline = time.monotonic() + 60
    while installs(environment) == 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert end(start(environment))[0][:2] == ["False", "True"]
    assert installs(environment) == 3


def test_the_words_of_juliapkg_and_pkg_arrive_while_they_are_said(environment):
    process = start(environment | {"SECONDS": "4"})
    times = [(line.strip(), time.monotonic()) for line in process.stderr]
    process.communicate()
    lines = [line for line, _ in times]
    assert lines[0].startswith("pymobilenet: first use of the Julia backend in this environment")
    assert "takes some minutes" in lines[0]
    juliapkg = next(n for n, line in enumerate(lines) if line.startswith("[juliapkg] Locating"))
    installed, compiled = lines.index("Installed Flux"), lines.index("Precompiling")
    assert 0 < juliapkg < installed < compiled
    assert times[compiled][1] - times[installed][1] > 3


def test_a_damaged_record_is_written_again(environment):
    end(start(environment))
    record = os.path.join(environment["PROJECT"], "pyjuliapkg", "meta.json")
    with open(record, "w") as file:
        file.write('{"meta_version')
    assert end(start(environment))[0][:2] == ["False", "True"]
    with open(record) as file:
        json.load(file)


def test_an_environment_that_is_set_up_is_neither_locked_nor_written(environment):
    end(start(environment))
    project = environment["PROJECT"]
    os.remove(os.path.join(project, "pymobilenet.lock"))
    os.remove(os.path.join(project, "lock.pid"))
    before = {entry.path: entry.stat().st_mtime_ns for entry in os.scandir(project)}
    assert end(start(environment))[0][:2] == ["True", "True"]
    assert {entry.path: entry.stat().st_mtime_ns for entry in os.scandir(project)} == before


@pytest.mark.skipif(not CAN_USE_ANOTHER_ACCOUNT, reason="requires root and setpriv")
def test_an_environment_that_is_set_up_is_used_by_an_account_that_may_not_write(environment):
    end(start(environment))
    os.chmod(environment["PROJECT"], 0o555)
    assert end(start(environment, as_another_account))[0][:2] == ["True", "True"]
    julia = Path(environment["PATH"].split(":")[0]) / "julia"
    julia.write_text(julia.read_text().replace("1.10.8", "1.10.9"))  # so that it is not set up
    process = start(environment, as_another_account)
    _, errors = process.communicate(timeout=120)
    assert "BackendUnavailable: the Julia packages could not be installed" in errors
    assert "Check the connection and that the folder can be written" in errors
