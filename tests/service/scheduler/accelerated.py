"""A scheduler whose clock runs as fast as it can; the test kills it again and again.

    python -m tests.service.scheduler.accelerated FOLDER RUNS

The clock stands still while no scheduler runs: it is a file. What a run does is as a real one does
it: over several ticks, and in the end something that can only be done once for each due time.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.service.scheduler.schedule_db import (
    Run,
    RunEnd,
    RunState,
    ScheduleDb,
    StoredSchedule,
)
from pipeline.service.scheduler.service import Service, only_one

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(minutes=20)
CRON = "0 * * * *"
_TICKS = 2  # that a run takes


class SlowRun:
    """Notes that it did its work, once; done again, it finds that it is done."""

    def __init__(self, folder: Path, run: Run) -> None:
        self._mark = folder / "done" / f"{run.due:%Y-%m-%dT%H}"
        self._log = folder / "finished.log"
        self._ticks = 0

    def ended(self) -> RunEnd | None:
        self._ticks += 1
        if self._ticks < _TICKS:
            return None
        try:
            os.close(os.open(self._mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return RunEnd(RunState.SUCCEEDED, {"work": "was done"})
        with self._log.open("a") as log:
            log.write(f"{self._mark.name}\n")
        return RunEnd(RunState.SUCCEEDED, {"work": "done"})

    def stop(self) -> None: ...


def main(folder: Path, runs: int) -> None:
    clock = folder / "clock"
    ledger = ScheduleDb(folder / "schedules.db")

    def now() -> datetime:
        return START + int(clock.read_text()) * TICK

    def begin(_: StoredSchedule, run: Run) -> SlowRun:
        return SlowRun(folder, run)

    with only_one(ledger.path):
        service = Service(ledger, begin, lambda _, run: ledger.told(run), now)
        while len(ledger.runs("hourly", RunState.SUCCEEDED)) < runs:
            service.tick()
            new = folder / "clock.new"
            new.write_text(str(int(clock.read_text()) + 1))
            new.replace(clock)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
