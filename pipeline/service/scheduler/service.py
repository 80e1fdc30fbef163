"""The scheduler's loop: it begins runs when they are due, handles their ends, and sends notices.

It may be killed at any moment. Each run is written down before it begins (``schedule_db``), and the
next service begins it again: a run goes on from what is committed, so this costs little and repeats
nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import UsageError
from pipeline.job.when.cron import Cron
from pipeline.job.when.schedule import Schedule
from pipeline.service.scheduler.due import decide
from pipeline.service.scheduler.schedule_db import Run, RunState, ScheduleDb, StoredSchedule

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunEnd:
    """How a run ended."""

    state: RunState
    result: Mapping[str, Any] | None = None
    reason: str | None = None


class RunOnce(Protocol):
    """A run that was begun."""

    def ended(self) -> RunEnd | None:
        """None while it goes on."""

    def stop(self) -> None:
        """End it soon, and wait until it has ended; what it has committed stays."""


class Service:
    """``begin``: starts a run in another process. ``tell``: sends notices that a run has ended, and
    notes this in the database. ``now``: the clock, in UTC."""

    def __init__(
        self,
        db: ScheduleDb,
        begin: Callable[[StoredSchedule, Run], RunOnce],
        tell: Callable[[StoredSchedule, Run], None] = lambda schedule, run: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._db, self._begin, self._tell, self._now = db, begin, tell, now
        self._running: dict[tuple[str, datetime], tuple[Run, RunOnce]] = {}

    def tick(self) -> datetime | None:
        """Do what is due. Returns when to look again; None if all schedules are suspended."""
        self._see_ends()
        schedules = self._db.schedules()
        looks = [self._look(schedule) for schedule in schedules]
        known = {schedule.name: schedule for schedule in schedules}
        for run in self._db.untold():
            if run.schedule in known:
                self._tell(known[run.schedule], run)
        return min((look for look in looks if look is not None), default=None)

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
                self._db.end(run, ended.state, self._now(), ended.result, ended.reason)

    def _look(self, schedule: StoredSchedule) -> datetime | None:
        under_way = self._db.runs(schedule.name, RunState.UNDER_WAY)
        for run in under_way:
            if run.key not in self._running:  # of a killed service, or asked for by hand
                self._start(schedule, run)
        if schedule.suspended:
            return None
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
                self._db.end(run, RunState.REPLACED, self._now())
        if decision.start is not None:
            run_or_none = self._db.begin(schedule.name, decision.start, now)
            if run_or_none is not None:
                self._start(schedule, run_or_none)
        return decision.look_again

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
