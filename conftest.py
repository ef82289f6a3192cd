"""Fixtures of the tests of several folders."""

from collections.abc import Iterator

import pytest
from forks import Forks


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts processes that have imported torch; see `forks`."""
    started = Forks(tmp_path_factory.mktemp("forks"))
    yield started
    started.close()
