"""The driver of one submitted job, as the queue starts it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from pipeline.cluster.rack_state.gcs import HeadGone
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.run import RunOptions, run
from pipeline.driver.stop.stop import Stop
from pipeline.errors import AlreadyRunning, NoCard
from pipeline.job.file.load import job_from
from pipeline.report.summary import Summary
from pipeline.service.queue.job_db import JobDb
from pipeline.service.queue.progress_poller import counted_at

_PATIENCE_SECONDS = 60.0  # with an earlier driver of the job, which is about to end
_LOOK_SECONDS = 2.0


def drive(job: str, state: Path, address: str, watcher: Watcher, stop: Stop) -> Summary:
    """Run a submitted job. ``state``: the queue's database; ``address``: of the rack. Raises as
    ``run``."""
    db = JobDb(state)
    submitted = db.job(job)
    settings = []
    if submitted.deadline is not None:
        at = datetime.fromtimestamp(submitted.deadline, UTC).isoformat()
        settings.append(f"resources.deadline={at}")
    loaded = job_from(submitted.content, settings).model_copy(update={"name": submitted.name})
    options = RunOptions(rows=submitted.rows, address=address, queued=submitted.id)
    patient_until = time.monotonic() + _PATIENCE_SECONDS
    try:
        while True:
            try:
                return run(loaded, options, watcher, stop)
            except HeadGone as e:
                raise NoCard(e.message, "the queue starts the job again when it can") from e
            except AlreadyRunning:
                if time.monotonic() > patient_until:
                    raise
                time.sleep(_LOOK_SECONDS)
    finally:
        counts = counted_at(loaded.output.path)
        if counts is not None:
            db.count(submitted.id, counts)
