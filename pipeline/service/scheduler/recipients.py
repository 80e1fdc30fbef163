"""Who is told that a scheduled run has ended, and what."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from pipeline.job.when.schedule import Schedule
from pipeline.service.scheduler.notify import SECRET, post, run_command
from pipeline.service.scheduler.schedule_db import Run, ScheduleDb, StoredSchedule


class Notifier:
    """Tells beside the service's loop: a webhook may take minutes to answer. Whoever is told may
    be told twice, after a crash; ``id`` tells notices apart.

    ``command``: gets every notice on stdin. It is the scheduler's, not a job file's: who writes job
    files is not trusted to run programs.
    """

    def __init__(self, db: ScheduleDb, command: str | None = None) -> None:
        self._db, self._command = db, command
        self._at_it: set[tuple[str, datetime]] = set()

    def __call__(self, schedule: StoredSchedule, run: Run) -> None:
        """Tell, and note in the database that it is done or what went wrong."""
        if run.key in self._at_it:
            return
        self._at_it.add(run.key)
        threading.Thread(target=self.tell, args=(schedule, run), daemon=True).start()

    def tell(self, schedule: StoredSchedule, run: Run) -> None:
        """The same, and wait for it."""
        webhook = Schedule.model_validate(schedule.job["schedule"]).notify.webhook
        content, failures = notice(schedule, run), []
        if webhook is not None:
            secret = os.environ.get(SECRET)
            why = post(webhook, content, SecretStr(secret) if secret else None)
            failures += [f"webhook: {why}"] if why else []
        if self._command is not None:
            why = run_command(self._command, content)
            failures += [f"command: {why}"] if why else []
        self._db.told(run, "; ".join(failures))
        self._at_it.discard(run.key)


def notice(schedule: StoredSchedule, run: Run) -> dict[str, Any]:
    """What is said of a run. Times in ISO 8601, UTC."""
    times = {"due": run.due, "began": run.began, "ended": run.ended}
    return {
        "id": f"{schedule.name}/{run.due.isoformat()}",
        "schedule": schedule.name,
        "output": schedule.output,
        "state": str(run.state),
        **{name: time.isoformat() if time else None for name, time in times.items()},
        "reason": run.reason,
        "result": dict(run.result) if run.result is not None else None,
    }
