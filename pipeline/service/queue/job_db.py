"""Submitted jobs and their results, in one SQLite file of the rack's head.

A job is written down before its submitter gets an answer, and each driver before Ray is asked to
start it: whatever dies, the queue goes on from this file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError, did_you_mean
from pipeline.sqlite_file import Database

_GUESTS_KEPT = 100  # of those that have ended
_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    priority INTEGER NOT NULL,
    content TEXT NOT NULL,           -- the job file's as JSON, addresses absolute
    output TEXT NOT NULL,
    rows INTEGER,                    -- only the first so many
    submitted REAL NOT NULL,         -- epoch seconds, as all times here
    deadline REAL,
    guest INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    stop_asked INTEGER NOT NULL DEFAULT 0,
    drivers INTEGER NOT NULL DEFAULT 0,  -- that were started for it, one after the other
    crashes INTEGER NOT NULL DEFAULT 0,  -- those of them that died without an exit code of ours
    began REAL,
    ended REAL,
    exit_code INTEGER,
    message TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS job_state ON job (state);
CREATE TABLE IF NOT EXISTS counted (  -- rows of a job as its last driver left them
    job TEXT PRIMARY KEY,
    all_rows INTEGER NOT NULL,
    done_rows INTEGER NOT NULL,
    failed_rows INTEGER NOT NULL
) STRICT;
"""
_KNOWN_AT_FIRST = ("id", "name", "priority", "content", "output", "rows", "submitted", "deadline",
                   "guest", "state", "began")  # fmt: skip
_SELECT = (
    "SELECT job.*, all_rows, done_rows, failed_rows FROM job"
    " LEFT JOIN counted ON counted.job = job.id"
)


class JobState(StrEnum):
    """Ray's words for a submitted job. ``PENDING``: also one that gave its cards back for now."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        return self not in (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True)
class RowCounts:
    """``rows``: of the whole input; ``rows_done``: committed ones, ``failed`` among them."""

    rows: int
    rows_done: int
    failed: int


@dataclass(frozen=True)
class SubmittedJob:
    """Times in epoch seconds. ``guest``: its driver is a run that was not submitted; ``exit_code``:
    of `rackmill run`; ``message``: why it ended so; ``counts``: what its last driver left."""

    id: str
    name: str
    priority: int
    content: Mapping[str, Any]
    output: str
    rows: int | None
    submitted: float
    deadline: float | None = None
    guest: bool = False
    state: JobState = JobState.PENDING
    stop_asked: bool = False
    drivers: int = 0
    crashes: int = 0
    began: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    message: str = ""
    counts: RowCounts | None = None

    @property
    def submission(self) -> str:
        """Ray's name for the driver that was started last."""
        return f"{self.id}-{self.drivers}"


class JobDb:
    """The file. Only the queue of the head writes it, except a job's counts: its driver writes
    those."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError if ``path`` cannot be such a file."""
        self.path = path
        fix = "move it away: it is made anew"
        self._open = Database(path, _SCHEMA, "submitted jobs", fix).transaction

    def add(self, job: SubmittedJob) -> None:
        """Add a job; a job that is there already changes nothing. Raises UsageError if another job
        that has not ended writes to the same output."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT 1 FROM job WHERE id = ?", (job.id,)).fetchone():
                return
            other = db.execute(
                "SELECT id FROM job WHERE output = ? AND guest = 0 AND state IN (?, ?)",
                (job.output, JobState.PENDING, JobState.RUNNING),
            ).fetchone()
            if other is not None and not job.guest:  # a guest checks this itself
                raise UsageError(
                    f"output.path {job.output} is what the job {other['id']} works on",
                    f"give another --output, or: rackmill stop {other['id']}",
                )
            if job.guest:
                db.execute(
                    "DELETE FROM job WHERE guest = 1 AND ended IS NOT NULL AND id NOT IN (SELECT id"
                    " FROM job WHERE guest = 1 AND ended IS NOT NULL ORDER BY ended DESC LIMIT ?)",
                    (_GUESTS_KEPT,),
                )
                db.execute("DELETE FROM counted WHERE job NOT IN (SELECT id FROM job)")
            values = {name: getattr(job, name) for name in _KNOWN_AT_FIRST}
            values["content"] = json.dumps(job.content)
            names, places = ", ".join(values), ", ".join("?" * len(values))
            db.execute(f"INSERT INTO job ({names}) VALUES ({places})", tuple(values.values()))

    def job(self, name: str) -> SubmittedJob:
        """The job with that id; else the last one with that name. Raises UsageError."""
        with self._open() as db:
            row = db.execute(
                f"{_SELECT} WHERE id = ? OR name = ? ORDER BY id = ? DESC, submitted DESC LIMIT 1",
                (name, name, name),
            ).fetchone()
            known = [] if row else [r["id"] for r in db.execute("SELECT id FROM job")]
        if row is None:
            hints = did_you_mean(name, known) or ["rackmill jobs shows what there is"]
            raise UsageError(f"there is no job {name}", *hints)
        return _job(row)

    def jobs(self) -> list[SubmittedJob]:
        """All jobs, the last submitted one first."""
        with self._open() as db:
            return [_job(row) for row in db.execute(f"{_SELECT} ORDER BY submitted DESC")]

    def open_jobs(self) -> list[SubmittedJob]:
        """Jobs that have not ended, by priority, then by age."""
        with self._open() as db:
            rows = db.execute(
                f"{_SELECT} WHERE state IN (?, ?) ORDER BY priority DESC, submitted",
                (JobState.PENDING, JobState.RUNNING),
            )
            return [_job(row) for row in rows]

    def start(self, job: SubmittedJob, now: float) -> SubmittedJob:
        """Note that a driver is about to be started for the job."""
        began = job.began or now
        self._set(job, state=JobState.RUNNING, drivers=job.drivers + 1, began=began, message="")
        return self.job(job.id)

    def back(self, job: SubmittedJob, message: str, *, crashed: bool = False) -> None:
        """Note that the job has no driver any more, and waits for another."""
        crashes = job.crashes + crashed
        self._set(job, state=JobState.PENDING, crashes=crashes, message=message)

    def note(self, job: SubmittedJob, message: str) -> None:
        """Set the job's message."""
        if message != job.message:
            self._set(job, message=message)

    def stop(self, job: SubmittedJob) -> None:
        """Note that the job was asked to stop."""
        self._set(job, stop_asked=True)

    def end(
        self, job: SubmittedJob, state: JobState, now: float, message: str, code: int | None = None
    ) -> None:
        self._set(job, state=state, ended=now, message=message, exit_code=code)

    def count(self, job: str, counts: RowCounts) -> None:
        """Store the current row counts of the job with that id."""
        with self._open() as db:
            db.execute(
                "INSERT OR REPLACE INTO counted VALUES (?, ?, ?, ?)",
                (job, counts.rows, counts.rows_done, counts.failed),
            )

    def _set(self, job: SubmittedJob, **values: object) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        with self._open() as db:
            db.execute(f"UPDATE job SET {names} WHERE id = ?", (*values.values(), job.id))


def _job(row: sqlite3.Row) -> SubmittedJob:
    found = dict(row)
    counts = [found.pop(name) for name in ("all_rows", "done_rows", "failed_rows")]
    found |= {
        "content": json.loads(row["content"]),
        "state": JobState(row["state"]),
        "stop_asked": bool(row["stop_asked"]),
        "guest": bool(row["guest"]),
        "counts": None if counts[0] is None else RowCounts(*counts),
    }
    return SubmittedJob(**found)
