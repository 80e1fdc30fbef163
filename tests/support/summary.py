"""What pytest says at its end, after its own report: the stories of chaos, and what racks were made
of. Tests may have run in other processes: all that is known of them is in their reports."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Outcome
from tests.chaos.many import totals
from tests.service.rack.hosts import namespaces_work

OUTCOME = "outcome"  # a story, among what a test's report carries along
_MANY_ROWS = 10_000  # stories of fewer have no share worth a mean


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    properties = [one for report in ran for one in report.user_properties]
    stories = [Outcome.decode(str(value)) for name, value in properties if name == OUTCOME]
    if stories:
        terminalreporter.section("chaos")
        for story in stories:
            terminalreporter.line(str(story))
        seeds = [story for story in stories if story.rows >= _MANY_ROWS]
        if seeds:
            terminalreporter.line(totals(seeds))
    if any(report.nodeid.startswith("tests/rack/") for report in ran):
        terminalreporter.section("racks")
        terminalreporter.line(
            "hosts were network namespaces"
            if namespaces_work()
            else "hosts were processes on loopback: network namespaces need root and iproute2"
        )
