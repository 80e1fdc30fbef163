"""The driver's sign of life: a thread that keeps its record, and looks whether it is to stop."""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.plan.plan import Plan
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.stop.stop import Stop
from pipeline.engine.machine.card_notes import CardsNow
from pipeline.errors import RackmillError, Stopped
from pipeline.output.commit.records import CANCEL, RUNS
from pipeline.output.runs.run_registry import (
    BEAT_SECONDS,
    Life,
    RunRecord,
    cancel_request,
    own_process,
    read_run,
    this_machine,
)
from pipeline.printable import shown
from pipeline.report.pace import Pace
from pipeline.storage.base import Storage

_TROUBLES = (OSError, RackmillError)


class Heartbeat(Watcher):
    """Beats from ``with`` to its end, which says how the run ended. Never ends a run: where
    storage fails, only the record is old.

    It watches the run to know how far it is (see ``Watchers``).
    """

    def __init__(
        self, storage: Storage, plan: Plan | None, stop: Stop, run: str, rows: int = 0
    ) -> None:
        """``run``: its name. Without a ``plan`` nothing is computed: ``rows`` are there."""
        self._storage = storage
        self._stop = stop
        self._pace = Pace()
        self._hours = plan.job.resources.when if plan else None
        self._reused = plan.reused.rows if plan else rows
        self._closed = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._live, name="heartbeat", daemon=True)
        pid, pid_started = own_process()
        now = time.time()
        self._record = RunRecord(
            run=run,
            host=platform.node(),
            machine=this_machine(),
            pid=pid,
            pid_started=pid_started,
            started=now,
            beat=now,
            rows=plan.input.rows if plan else rows,
            rows_done=self._reused,
            grace_seconds=plan.job.faults.grace_seconds if plan else 0.0,
        )

    def __enter__(self) -> Self:
        with contextlib.suppress(*_TROUBLES):
            self._storage.delete(CANCEL)  # it was meant for an earlier run
            self._forget_others()
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()
        if error is None:
            self._note(state="ended", rows_done=self._record.rows, seconds_left=None)
        else:
            state = "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
            self._note(state=state, message=_words(error), seconds_left=None)
        self._beat()
        if self._stop.asked:
            with contextlib.suppress(*_TROUBLES):
                self._storage.delete(CANCEL)

    def committed(self, rows: int) -> None:
        """So many rows of the whole input are, counted from the commit records."""
        self._note(rows_done=rows)

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:  # noqa: ARG002
        pace = self._pace
        pace.note(time.monotonic(), snapshot.workers.values())
        done = self._reused + snapshot.committed.rows
        left = pace.seconds_for(self._record.rows - self._reused - pace.rows)
        if left is not None and self._hours is not None:
            now = datetime.now(UTC)
            done_at = self._hours.when_done(now, 0.0, left)
            left = None if done_at is None else (done_at - now).total_seconds()
        self._note(
            rows_done=done,
            rows_per_second=round(pace.rows_per_second, 3),
            seconds_left=None if left is None else round(left, 1),
            failed=sum(worker.error_rows for worker in snapshot.workers.values()),
            engines=len(snapshot.engines),
            **CardsNow.of(snapshot.active.values()).as_json(),
        )

    def waiting(self, why: str) -> None:
        if why != self._record.waiting:
            self._note(waiting=why)

    def _note(self, **changes: object) -> None:
        with self._writing:
            self._record = replace(self._record, **changes)  # type: ignore[arg-type]

    def _live(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            with contextlib.suppress(*_TROUBLES):
                if not self._stop.asked and (request := cancel_request(self._storage)) is not None:
                    self._stop.ask(request.grace_seconds, by="rackmill stop")
            self._beat()

    def _beat(self) -> None:
        if self._stop.asked and self._record.state == "running":
            self._note(state="stopping")
        self._note(beat=time.time())
        with contextlib.suppress(*_TROUBLES):
            self._storage.replace(self._record.path, self._record.encode())

    def _forget_others(self) -> None:
        """Records of runs that are no more: this one's takes their place."""
        for path, _ in self._storage.files(RUNS):
            record = read_run(self._storage, path)
            if record is None or record.life() is not Life.ALIVE:
                self._storage.delete(path)


def _words(error: BaseException) -> str:
    return shown(error.message if isinstance(error, RackmillError) else str(error))
