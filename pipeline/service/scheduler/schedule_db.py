"""Schedules and their runs, in one SQLite file.

A run is written down before it begins, with its schedule and its due time as a unique key: so no
run is done twice, whatever process is killed at whatever moment. The next service begins again each
run that was written down but has not ended: so none is lost.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError, did_you_mean
from pipeline.sqlite_file import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS schedule (
    name TEXT PRIMARY KEY,
    job TEXT NOT NULL,               -- the job file's content as JSON, addresses absolute
    output TEXT NOT NULL UNIQUE,     -- the dataset that grows: one schedule owns it
    suspended INTEGER NOT NULL,
    dealt_with REAL NOT NULL         -- the due time that was dealt with last (or of creation)
) STRICT;
CREATE TABLE IF NOT EXISTS run (
    schedule TEXT NOT NULL REFERENCES schedule(name) ON DELETE CASCADE,
    due REAL NOT NULL,
    manual INTEGER NOT NULL,
    full INTEGER NOT NULL,
    state TEXT NOT NULL,
    began REAL,
    ended REAL,
    result TEXT,                     -- JSON
    reason TEXT,
    notice TEXT,                     -- NULL: nobody was told yet; '': told; else why not
    PRIMARY KEY (schedule, due)
) STRICT;
CREATE INDEX IF NOT EXISTS run_state ON run (schedule, state);
"""


class RunState(StrEnum):
    """``UNDER_WAY``: also a run whose service was killed; it is begun again."""

    UNDER_WAY = "under way"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MISSED = "missed"
    REPLACED = "replaced"


@dataclass(frozen=True)
class StoredSchedule:
    """``dealt_with``: due times up to this one are settled."""

    name: str
    job: Mapping[str, Any]
    output: str
    suspended: bool
    dealt_with: datetime


@dataclass(frozen=True)
class Run:
    """One run of a schedule. ``manual``: asked for by hand, not by the cron line; ``full``: it does
    all of the input again. ``notice``: None: not sent yet, "": sent, else why not."""

    schedule: str
    due: datetime
    manual: bool
    full: bool
    state: RunState
    began: datetime | None = None
    ended: datetime | None = None
    result: Mapping[str, Any] | None = None
    reason: str | None = None
    notice: str | None = None

    @property
    def key(self) -> tuple[str, datetime]:
        return self.schedule, self.due

    def as_json(self) -> dict[str, Any]:
        """All but the schedule's name. Times in ISO 8601, UTC."""
        times = {"due": self.due, "began": self.began, "ended": self.ended}
        return {
            "state": str(self.state),
            "manual": self.manual,
            "full": self.full,
            **{name: at.isoformat() if at else None for name, at in times.items()},
            "reason": self.reason,
            "notice": self.notice,
            "result": self.result,
        }


@dataclass(frozen=True)
class RunEnd:
    """How a run ended."""

    state: RunState
    result: Mapping[str, Any] | None = None
    reason: str | None = None


class ScheduleDb:
    """The file. Any process may read it; writers wait for each other."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError if ``path`` cannot be such a file."""
        self.path = path
        self._open = Database(path, _SCHEMA, "schedules", "give another --state").transaction

    def apply(
        self, name: str, job: Mapping[str, Any], output: str, now: datetime, *, suspended: bool
    ) -> bool:
        """Add the schedule, or give it another job; True if it is new.

        Raises UsageError when another schedule owns ``output``.
        """
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            owner = db.execute("SELECT name FROM schedule WHERE output = ?", (output,)).fetchone()
            if owner is not None and owner["name"] != name:
                raise UsageError(
                    f"output.path {output} belongs to the schedule {owner['name']}",
                    f"give another output.path, or: rackmill schedule delete {owner['name']}",
                )
            known = db.execute("SELECT 1 FROM schedule WHERE name = ?", (name,)).fetchone()
            db.execute(
                "INSERT INTO schedule VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
                " job = excluded.job, output = excluded.output, suspended = excluded.suspended",
                (name, json.dumps(job), output, suspended, now.timestamp()),
            )
            return known is None

    def schedule(self, name: str) -> StoredSchedule:
        """The schedule of this name. Raises UsageError if there is none."""
        found = {schedule.name: schedule for schedule in self.schedules()}
        if name not in found:
            hints = did_you_mean(name, found) or ["rackmill schedule list shows what there is"]
            raise UsageError(f"there is no schedule {name}", *hints)
        return found[name]

    def schedules(self) -> list[StoredSchedule]:
        """All schedules, sorted by name."""
        with self._open() as db:
            return [_schedule(row) for row in db.execute("SELECT * FROM schedule ORDER BY name")]

    def suspend(self, name: str, *, suspended: bool) -> None:
        """Suspend the schedule (no run begins), or resume it. Raises UsageError."""
        self.schedule(name)
        with self._open() as db:
            db.execute("UPDATE schedule SET suspended = ? WHERE name = ?", (suspended, name))

    def delete(self, name: str) -> None:
        """Forget the schedule and its runs; what they made stays."""
        self.schedule(name)
        with self._open() as db:
            db.execute("DELETE FROM schedule WHERE name = ?", (name,))

    def begin(
        self, name: str, due: datetime, now: datetime, *, manual: bool = False, full: bool = False
    ) -> Run | None:
        """Write down that the run begins; None if there is a run of this time already."""
        run = Run(name, due, manual, full, RunState.UNDER_WAY, now)
        return run if self._write_down(run) else None

    def miss(self, name: str, due: datetime, reason: str) -> None:
        """Note that this run will not happen."""
        self._write_down(Run(name, due, False, False, RunState.MISSED, reason=reason, notice=""))

    def _write_down(self, run: Run) -> bool:
        """Whether there was no run of this time yet."""
        due, began = run.due.timestamp(), run.began.timestamp() if run.began else None
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            written = db.execute(
                "INSERT INTO run (schedule, due, manual, full, state, began, reason, notice)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (run.schedule, due, run.manual, run.full, run.state, began, run.reason, run.notice),
            ).rowcount
            if not run.manual:
                db.execute(
                    "UPDATE schedule SET dealt_with = max(dealt_with, ?) WHERE name = ?",
                    (due, run.schedule),
                )
        return bool(written)

    def end(self, run: Run, end: RunEnd, now: datetime) -> None:
        """Note that the run has ended."""
        result = json.dumps(end.result) if end.result is not None else None
        with self._open() as db:
            db.execute(
                "UPDATE run SET state = ?, ended = ?, result = ?, reason = ?"
                " WHERE schedule = ? AND due = ?",
                (end.state, now.timestamp(), result, end.reason, run.schedule, run.due.timestamp()),
            )

    def told(self, run: Run, failure: str = "") -> None:
        """Note that the notice of the run's end was sent, or that it failed: ``failure`` says
        why."""
        with self._open() as db:
            db.execute(
                "UPDATE run SET notice = ? WHERE schedule = ? AND due = ?",
                (failure, run.schedule, run.due.timestamp()),
            )

    def run(self, key: tuple[str, datetime]) -> Run | None:
        """The run of that schedule and time."""
        return next((run for run in self.runs(key[0]) if run.due == key[1]), None)

    def runs(self, name: str, state: RunState | None = None) -> list[Run]:
        """The runs of one schedule, the newest first."""
        wanted = "schedule = ?" + (" AND state = ?" if state is not None else "")
        given = (name,) if state is None else (name, state)
        with self._open() as db:
            query = f"SELECT * FROM run WHERE {wanted} ORDER BY due DESC"
            return [_run(row) for row in db.execute(query, given)]

    def untold(self) -> list[Run]:
        """Runs that have ended and whose notice was not sent."""
        with self._open() as db:
            rows = db.execute("SELECT * FROM run WHERE notice IS NULL AND ended IS NOT NULL")
            return [_run(row) for row in rows]


def _schedule(row: sqlite3.Row) -> StoredSchedule:
    found = dict(row) | {
        "job": json.loads(row["job"]),
        "suspended": bool(row["suspended"]),
        "dealt_with": _time(row["dealt_with"]),
    }
    return StoredSchedule(**found)


def _run(row: sqlite3.Row) -> Run:
    found = dict(row) | {
        "manual": bool(row["manual"]),
        "full": bool(row["full"]),
        "state": RunState(row["state"]),
        "result": json.loads(row["result"]) if row["result"] is not None else None,
    }
    return Run(**found | {name: _time(row[name]) for name in ("due", "began", "ended")})


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
