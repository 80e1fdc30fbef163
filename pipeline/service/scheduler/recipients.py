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
    """Sends notices outside of the service's loop: a webhook may take minutes to answer. After a
    crash a notice may be sent twice; ``id`` identifies it.

    ``command``: gets every notice on stdin. The scheduler sets it, not a job file: authors of job
    files are not trusted to run programs.
    """

    def __init__(self, db: ScheduleDb, command: str | None = None) -> None:
        self._db, self._command = db, command
        self._at_it: set[tuple[str, datetime]] = set()

    def __call__(self, schedule: StoredSchedule, run: Run) -> None:
        """Send the notices, and note in the database that they were sent or what went wrong."""
        if run.key in self._at_it:
            return
        self._at_it.add(run.key)
        threading.Thread(target=self.tell, args=(schedule, run), daemon=True).start()

    def tell(self, schedule: StoredSchedule, run: Run) -> None:
        """The same, and wait until it is done."""
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
    """What is said about a run. Times in ISO 8601, UTC."""
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
