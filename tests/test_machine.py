"""The memory of this process, and how its threads wait."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pymobilenet.machine import SPIN_COUNT, limit_spinning, resident_bytes

by_ps = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no ps")


def without_proc(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("pymobilenet.machine.Path.read_text", refuse)


@by_ps
def test_the_resident_set_grows_and_shrinks_with_the_memory_in_use():
    before = resident_bytes()
    block = np.ones(64 * 2**20, np.uint8)
    during = resident_bytes()
    del block
    after = resident_bytes()
    assert 60 * 2**20 < during - before < 80 * 2**20
    assert after - before < 20 * 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system has no /proc")
def test_ps_gives_the_value_of_proc(monkeypatch):
    expected = resident_bytes()
    without_proc(monkeypatch)
    assert resident_bytes() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("error", [FileNotFoundError("ps"), subprocess.CalledProcessError(1, "ps")])
def test_a_system_with_neither_gives_no_value(monkeypatch, error):
    def run(*_, **__):
        raise error

    without_proc(monkeypatch)
    monkeypatch.setattr(subprocess, "run", run)
    assert resident_bytes() is None


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_waiting_threads_spin_for_a_short_time_unless_the_user_chooses(
    monkeypatch, chosen, expected
):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_the_spinning_is_limited_before_torch_is_loaded():
    script = """
import os, sys
import pymobilenet
print("torch" in sys.modules, os.environ["GOMP_SPINCOUNT"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", SPIN_COUNT]
