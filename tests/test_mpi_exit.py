"""The end of a process of a distributed run, while another waits for it in a step."""

import os
import subprocess
import sys
import time

import pytest

from pymobilenet.backends import julia
from pymobilenet.backends.julia import JuliaBackend


@pytest.fixture
def exiting_backend(monkeypatch):
    monkeypatch.setattr(sys, "exit", sys.exit)  # put back after the test
    backend = JuliaBackend.__new__(JuliaBackend)
    backend._exit_status = None
    backend._record_exit_status()
    return backend


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        (0, julia.EXIT_TIMEOUT_SECONDS),
        (None, julia.EXIT_TIMEOUT_SECONDS),
        (1, 0),
        (2, 0),
        ("a message", 0),
        (130, julia.INTERRUPTED_TIMEOUT_SECONDS),
        (143, julia.INTERRUPTED_TIMEOUT_SECONDS),
    ],
)
def test_a_status_other_than_0_ends_the_other_processes(exiting_backend, status, seconds):
    with pytest.raises(SystemExit) as raised:
        sys.exit(status)
    assert raised.value.code == status
    assert exiting_backend._exit_timeout() == seconds <= 15 or seconds == julia.EXIT_TIMEOUT_SECONDS


ENDING = """
import atexit, os, types
import typer
from pymobilenet.backends.julia import JuliaBackend
from pymobilenet.cli.common import exit_on_error

class Waiting:
    COMM_WORLD = None
    def Ibarrier(self, _): return None
    def Test(self, _): return ARRIVED
    def Abort(self, _, status): os._exit(9)

backend = JuliaBackend.__new__(JuliaBackend)
backend.main, backend._exit_status = types.SimpleNamespace(MPI=Waiting()), None
backend._record_exit_status()
atexit.register(backend._leave_processes)
app = typer.Typer()

@app.command()
def train():
    with exit_on_error():
        END

app()
"""
"""A command that ends in one process. The other calls of MPI are those of a process whose partner
has come to its end (ARRIVED) or never will."""


@pytest.mark.parametrize(
    ("end", "arrived", "status"),
    [
        ("raise OSError(28, 'No space left on device')", False, 9),
        ("raise typer.Exit(1)", False, 9),
        ("raise ZeroDivisionError", False, 9),
        ("pass", True, 0),
    ],
)
def test_a_command_that_fails_in_one_process_aborts_all_at_once(end, arrived, status):
    code = ENDING.replace("END", end).replace("ARRIVED", str(arrived))
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stderr
    assert time.monotonic() - start < 15
