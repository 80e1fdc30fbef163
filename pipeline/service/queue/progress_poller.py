"""How far jobs are, from what their drivers write beside their outputs."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from pipeline.errors import RackmillError
from pipeline.output.runs.run_registry import RunRecord, read_runs
from pipeline.output.runs.status import read_status
from pipeline.service.queue.job_db import RowCounts
from pipeline.storage.base import open_storage

_LOOK_SECONDS = 2.0


def counted_at(output: str) -> RowCounts | None:
    """The row counts when a driver ends; None if there is no output, or it cannot be read now."""
    try:
        status = read_status(open_storage(output, patience_seconds=0))
    except (OSError, RackmillError):
        return None
    return RowCounts(status.rows, status.rows_done, status.failed)


class ProgressPoller:
    """Looks in a thread of its own: storage may be slow, and the queue must not wait for it."""

    def __init__(self) -> None:
        self._outputs: Mapping[str, str] = {}
        self._found: dict[str, RunRecord] = {}
        self._thread = threading.Thread(target=self._live, name="progress", daemon=True)
        self._stop = threading.Event()
        self._thread.start()

    def follow(self, outputs: Mapping[str, str]) -> None:
        """From now on look at these outputs, by job."""
        self._outputs = dict(outputs)
        for job in self._found.keys() - outputs.keys():
            self._found.pop(job, None)

    def of(self, job: str) -> RunRecord | None:
        """What the job's run said last."""
        return self._found.get(job)

    def close(self) -> None:
        self._stop.set()

    def _live(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            for job, output in self._outputs.items():
                try:
                    storage = open_storage(output, patience_seconds=0)
                    runs = read_runs(storage)
                except (OSError, RackmillError):
                    continue
                if runs and job in self._outputs:
                    self._found[job] = runs[-1]
