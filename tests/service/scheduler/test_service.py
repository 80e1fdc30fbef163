"""The scheduler's loop and its ledger: whoever dies when, each due time has one run."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.service.scheduler.schedule_db import (
    Run,
    RunEnd,
    RunState,
    ScheduleDb,
    StoredSchedule,
)
from pipeline.service.scheduler.service import Service, is_running, only_one

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class ScheduledRun:
    """A run that ends when it is told to."""

    def __init__(self) -> None:
        self.end: RunEnd | None = None
        self.stopped = False

    def ended(self) -> RunEnd | None:
        return self.end

    def stop(self) -> None:
        self.stopped = True


class Clockwork:
    """A service with a clock that is set by hand, and runs that are seen."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, NOON
        self.runs: list[tuple[Run, ScheduledRun]] = []
        self.told: list[Run] = []
        self.restart()

    def restart(self) -> None:
        """As after a kill: nothing is known but the file."""
        self.ledger = ScheduleDb(self.path)
        self.service = Service(self.ledger, self._begin, self._tell, lambda: self.now)

    def _begin(self, schedule: StoredSchedule, run: Run) -> ScheduledRun:
        self.runs.append((run, ScheduledRun()))
        return self.runs[-1][1]

    def _tell(self, schedule: StoredSchedule, run: Run) -> None:
        self.told.append(run)
        self.ledger.told(run)

    def apply(self, name: str = "nightly", output: str = "/out", **times: Any) -> None:
        job = {"name": name, "schedule": {"cron": "0 * * * *"} | times}
        self.ledger.apply(name, job, output, self.now, suspended=False)

    def tick(self, after: timedelta = timedelta(0)) -> None:
        self.now += after
        self.service.tick()

    def end_all(self, state: RunState = RunState.SUCCEEDED) -> None:
        for _, performed in self.runs:
            performed.end = RunEnd(state, {"summary": None})

    def states(self) -> list[tuple[int, RunState]]:
        return [(run.due.hour, run.state) for run in reversed(self.ledger.runs("nightly"))]


@pytest.fixture
def clock(tmp_path: Path) -> Clockwork:
    return Clockwork(tmp_path / "schedules.db")


def test_a_run_begins_at_its_time_and_its_end_is_written_down(clock: Clockwork) -> None:
    clock.apply()
    clock.tick()
    assert clock.states() == []
    clock.tick(HOUR)
    assert clock.states() == [(13, RunState.UNDER_WAY)]
    clock.end_all()
    clock.tick()
    assert clock.states() == [(13, RunState.SUCCEEDED)]


def test_a_run_whose_service_was_killed_is_begun_again_and_no_other(clock: Clockwork) -> None:
    clock.apply()
    clock.tick(HOUR)
    clock.restart()
    clock.tick()
    assert [run.due for run, _ in clock.runs] == [NOON + HOUR, NOON + HOUR]
    assert clock.states() == [(13, RunState.UNDER_WAY)]


def test_forbid_lets_the_next_time_wait(clock: Clockwork) -> None:
    clock.apply(concurrencyPolicy="Forbid")
    clock.tick(HOUR)
    clock.tick(HOUR)
    assert clock.states() == [(13, RunState.UNDER_WAY)]
    clock.end_all()
    clock.tick()
    assert clock.states() == [(13, RunState.SUCCEEDED), (14, RunState.UNDER_WAY)]


def test_replace_stops_the_run_under_way(clock: Clockwork) -> None:
    clock.apply(concurrencyPolicy="Replace")
    clock.tick(HOUR)
    clock.tick(HOUR)
    assert clock.runs[0][1].stopped
    assert clock.states() == [(13, RunState.REPLACED), (14, RunState.UNDER_WAY)]


def test_allow_runs_both(clock: Clockwork) -> None:
    clock.apply(concurrencyPolicy="Allow")
    clock.tick(HOUR)
    clock.tick(HOUR)
    assert clock.states() == [(13, RunState.UNDER_WAY), (14, RunState.UNDER_WAY)]


def test_a_time_past_its_deadline_is_written_down_as_missed(clock: Clockwork) -> None:
    clock.apply(startingDeadlineSeconds=60)
    clock.tick(1.5 * HOUR)
    [missed] = clock.ledger.runs("nightly")
    assert missed.state is RunState.MISSED
    assert missed.reason == "it could not begin within 1 min of its time"
    assert not clock.runs


def test_a_suspended_schedule_begins_nothing_and_catches_up_once(clock: Clockwork) -> None:
    clock.apply()
    clock.ledger.suspend("nightly", suspended=True)
    clock.tick(3 * HOUR)
    assert not clock.runs
    clock.ledger.suspend("nightly", suspended=False)
    clock.tick()
    assert [run.due.hour for run, _ in clock.runs] == [15]


def test_who_is_to_know_is_told_of_each_end_once(clock: Clockwork) -> None:
    clock.apply()
    clock.tick(HOUR)
    clock.end_all(RunState.FAILED)
    clock.tick()
    clock.restart()
    clock.tick()
    assert [(run.due.hour, run.state) for run in clock.told] == [(13, RunState.FAILED)]


def test_a_run_that_was_asked_for_moves_no_due_time(clock: Clockwork) -> None:
    clock.apply()
    clock.ledger.begin("nightly", NOON + HOUR / 2, NOON + HOUR / 2, manual=True)
    clock.tick(HOUR / 2)
    clock.end_all()
    clock.tick(HOUR / 2)
    assert [run.due for run, _ in clock.runs] == [NOON + HOUR / 2, NOON + HOUR]


def test_an_output_has_one_schedule(clock: Clockwork) -> None:
    clock.apply("first")
    with pytest.raises(UsageError, match="belongs to the schedule first"):
        clock.apply("second")


def test_a_schedule_that_is_applied_again_keeps_its_history(clock: Clockwork) -> None:
    clock.apply()
    clock.tick(HOUR)
    clock.apply(cron="30 * * * *")
    assert len(clock.ledger.runs("nightly")) == 1
    clock.end_all()
    clock.tick(HOUR / 2)
    assert clock.runs[-1][0].due == NOON + 1.5 * HOUR


def test_there_is_one_scheduler_for_a_file(clock: Clockwork) -> None:
    with only_one(clock.path):
        assert is_running(clock.path)
        with pytest.raises(UsageError, match="another scheduler works with"), only_one(clock.path):
            pass
    assert not is_running(clock.path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database, but long enough to be looked into " * 40)
    with pytest.raises(UsageError, match="is not a file of schedules"):
        ScheduleDb(tmp_path / "x.db")


def test_the_ledger_outlives_its_writer_at_any_moment(clock: Clockwork) -> None:
    clock.apply()
    with sqlite3.connect(clock.path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
