"""The scheduler's loop: it begins runs when they are due, handles their ends, and sends notices.

It may be killed at any moment. Each run is written down before it begins (``schedule_db``), and the
next service begins it again: a run goes on from what is committed, so this costs little and repeats
nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.job.when.cron import Cron
from pipeline.job.when.schedule import Schedule
from pipeline.service.scheduler.due import decide
from pipeline.service.scheduler.process import RunProcess
from pipeline.service.scheduler.schedule_db import (
    Run,
    RunEnd,
    RunState,
    ScheduleDb,
    StoredSchedule,
)

_log = logging.getLogger(__name__)


class Service:
    """``begin``: starts a run in another process. ``tell``: sends notices that a run has ended, and
    notes this in the database. ``now``: the clock, in UTC."""

    def __init__(
        self,
        db: ScheduleDb,
        begin: Callable[[StoredSchedule, Run], RunProcess],
        tell: Callable[[StoredSchedule, Run], None] = lambda schedule, run: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._db, self._begin, self._tell, self._now = db, begin, tell, now
        self._running: dict[tuple[str, datetime], tuple[Run, RunProcess]] = {}

    def tick(self) -> None:
        """Do what is due."""
        self._see_ends()
        known = {schedule.name: schedule for schedule in self._db.schedules()}
        for schedule in known.values():
            self._look(schedule)
        for run in self._db.untold():
            if run.schedule in known:
                self._tell(known[run.schedule], run)

    def stop(self) -> None:
        """End all runs; the next service goes on with them."""
        for _, process in self._running.values():
            process.stop()
        self._running.clear()

    def _see_ends(self) -> None:
        for key, (run, process) in list(self._running.items()):
            ended = process.ended()
            if ended is not None:
                del self._running[key]
                _log.info("%s: run of %s %s: %s", *key, ended.state, ended.reason or "as it should")
                self._db.end(run, ended, self._now())

    def _look(self, schedule: StoredSchedule) -> None:
        under_way = self._db.runs(schedule.name, RunState.UNDER_WAY)
        for run in under_way:
            if run.key not in self._running:  # of a killed service, or asked for by hand
                self._start(schedule, run)
        if schedule.suspended:
            return
        times = Schedule.model_validate(schedule.job["schedule"])
        now = self._now()
        decision = decide(
            Cron(times.cron, times.timezone),
            times.concurrencyPolicy,
            times.startingDeadlineSeconds,
            last=schedule.dealt_with,
            now=now,
            under_way=bool(under_way),
        )
        for due in decision.missed:
            _log.warning("%s: run of %s is missed: %s", schedule.name, due, decision.why_missed)
            self._db.miss(schedule.name, due, decision.why_missed)
        if decision.replaces:
            for run in under_way:
                _, process = self._running.pop(run.key)
                process.stop()
                self._db.end(run, RunEnd(RunState.REPLACED), self._now())
        if decision.start is not None:
            begun = self._db.begin(schedule.name, decision.start, now)
            if begun is not None:
                self._start(schedule, begun)

    def _start(self, schedule: StoredSchedule, run: Run) -> None:
        _log.info("%s: run of %s begins", schedule.name, run.due)
        self._running[run.key] = (run, self._begin(schedule, run))


@contextmanager
def only_one(db: Path) -> Iterator[None]:
    """Within this, no other service works with this database. Raises UsageError if one does."""
    with db.with_suffix(".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UsageError(
                f"another scheduler works with {db} (process {lock.read().strip() or '?'})",
                "stop it first, or give another --state",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def is_running(db: Path) -> bool:
    """Whether a service works with this database."""
    try:
        with only_one(db):
            return False
    except UsageError:
        return True
