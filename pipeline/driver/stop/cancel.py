"""Asking a run to stop from outside, through its output folder: on this machine or another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import JobFailed, UsageError
from pipeline.output.commit.records import CANCEL
from pipeline.output.dataset import Dataset
from pipeline.output.runs.run_registry import (
    BEAT_SECONDS,
    CancelRequest,
    Life,
    RunRecord,
    live_runs,
    read_run,
    read_runs,
)
from pipeline.storage.base import Storage, open_storage

_LOOK_SECONDS = 0.5
_NOTICE_SECONDS = 10 * BEAT_SECONDS  # by then a run that lives has seen the request
_CLOSING_SECONDS = 60.0  # after the grace: for the last commits, and to end its processes


@dataclass(frozen=True)
class Cancelled:
    """``run``: as it was seen last, None where there never was one; ``was_alive``: before it was
    asked; ``waited``: until it had ended."""

    output: str
    run: RunRecord | None
    was_alive: bool
    waited: bool
    seconds: float = 0.0

    @property
    def died(self) -> bool:
        """It ended without having been able to say so."""
        return self.run is not None and self.run.life() is Life.DEAD

    def as_json(self) -> dict[str, Any]:
        run = self.run
        return {
            "output": self.output,
            "was_alive": self.was_alive,
            "state": None if run is None else "died" if self.died else run.state,
            "run": run and run.run,
            "host": run and run.host,
            "pid": run and run.pid,
            "rows": run and run.rows,
            "rows_done": run and run.rows_done,
            "rows_left": run and run.rows - run.rows_done,
            "seconds": round(self.seconds, 1),
        }


def cancel(
    output: str,
    *,
    grace_seconds: float | None = None,
    wait: bool = True,
    note: Callable[[str], None] = lambda line: None,
) -> Cancelled:
    """Ask the run that works on ``output`` to stop, and wait until it has.

    ``grace_seconds``: for what its engines are at, None as its job says. Raises UsageError when
    there is no output of rackmill, JobFailed when the run does not stop.
    """
    storage = open_storage(output)
    if Dataset(storage).manifest() is None:
        raise UsageError(f"{storage.address()} is not an output of rackmill")
    alive = live_runs(storage)
    if not alive:
        runs = read_runs(storage)
        return Cancelled(storage.address(), runs[-1] if runs else None, False, True)
    started = time.monotonic()
    storage.replace(CANCEL, CancelRequest(time.time(), grace_seconds).encode())
    last = alive[-1]
    grace = last.grace_seconds if grace_seconds is None else grace_seconds
    note(f"{last.place} is asked to stop, {last.course}; it has {grace:.0f} s")
    if not wait:
        return Cancelled(storage.address(), last, True, False)
    for record in alive:
        last = _wait_for(record, grace, started, storage)
    seconds = time.monotonic() - started
    return Cancelled(storage.address(), last, True, True, seconds)


def _wait_for(record: RunRecord, grace: float, started: float, storage: Storage) -> RunRecord:
    """The record as it is when the run has ended. Raises JobFailed."""
    while record.life() is Life.ALIVE:
        passed = time.monotonic() - started
        if record.state == "running" and passed > _NOTICE_SECONDS:
            raise JobFailed(
                f"{record.place} does not answer: it has not seen the request for {passed:.0f} s",
                f"it may hang or be suspended; to end it at once, there: kill -9 {record.pid}",
            )
        if passed > grace + _NOTICE_SECONDS + _CLOSING_SECONDS:
            raise JobFailed(
                f"{record.place} has not ended within {passed:.0f} s",
                f"what is committed stays; to end it at once, there: kill -9 {record.pid}",
            )
        time.sleep(_LOOK_SECONDS)
        record = read_run(storage, record.path) or record
    return record
