"""What every story of chaos came to, at the end of the tests' own report."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.harness import Outcome
from tests.chaos.many import Places, totals

_MANY_ROWS = 10_000  # stories of fewer have no share worth a mean
_OUTCOMES = pytest.StashKey[list[Outcome]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_OUTCOMES] = []


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> list[Outcome]:
    """Stories to be shown at the end."""
    return pytestconfig.stash[_OUTCOMES]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    places = Places(tmp_path_factory.mktemp("chaos"))
    yield places
    places.close()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    found = config.stash[_OUTCOMES]
    if found:
        terminalreporter.section("chaos")
        for outcome in found:
            terminalreporter.line(str(outcome))
        seeds = [outcome for outcome in found if outcome.rows >= _MANY_ROWS]
        if seeds:
            terminalreporter.line(totals(seeds))
