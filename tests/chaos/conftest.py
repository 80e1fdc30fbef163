"""What every story of chaos came to, at the end of the tests' own report."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.chaos.harness import Outcome
from tests.chaos.many import Places, totals

_MANY_ROWS = 10_000  # stories of fewer have no share worth a mean
_OUTCOME = "outcome"  # among what a test's report carries along, also from another process


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[Outcome], None]:
    """Has a story shown at the end."""
    return lambda outcome: record_property(_OUTCOME, outcome.encode())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    places = Places(tmp_path_factory.mktemp("chaos"))
    yield places
    places.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        Outcome.decode(str(value))
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == _OUTCOME
    ]
    if found:
        terminalreporter.section("chaos")
        for outcome in found:
            terminalreporter.line(str(outcome))
        seeds = [outcome for outcome in found if outcome.rows >= _MANY_ROWS]
        if seeds:
            terminalreporter.line(totals(seeds))
