"""The time for which a process of a distributed run waits for the others at its exit."""

import sys

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
