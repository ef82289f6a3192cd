"""Fixtures of several tests."""

import pytest
from forks import Forks


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Starts processes that have imported torch; see `forks`."""
    started = Forks(tmp_path_factory.mktemp("forks"))
    yield started
    started.close()
