"""The queue's answers to requests: to submit, show or stop a job, and to read its log."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.engine.machine.facts import own_versions
from pipeline.errors import Stopped, UsageError
from pipeline.input.output_apart import whole
from pipeline.job.file.load import job_from
from pipeline.job.job import Job
from pipeline.job.when.deadline import deadline_at
from pipeline.service.queue.drivers import log_of
from pipeline.service.queue.job_db import JobDb, JobState, RowCounts, SubmittedJob
from pipeline.service.queue.progress_poller import ProgressPoller

_LOG_BYTES = 64 << 10
_MOST_ENDED = 200  # jobs that are listed


class QueueApi:
    """``now``: epoch seconds."""

    def __init__(self, db: JobDb, progress: ProgressPoller, now: Callable[[], float]) -> None:
        self._db, self._progress, self._now = db, progress, now

    def __call__(self, what: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the request ``what``. Raises UsageError, and KeyError for an unknown request."""
        answers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "submit": self._submit,
            "jobs": lambda _: self._jobs(),
            "job": self._job,
            "stop": self._stop,
            "enter": self._enter,
            "leave": self._leave,
            "log": self._log,
        }
        return answers[what](about)

    def _submit(self, about: Mapping[str, Any]) -> dict[str, Any]:
        theirs, mine = about["rackmill"], own_versions().get("rackmill")
        if theirs != mine:
            raise UsageError(
                f"rackmill {theirs} submits to a rack of rackmill {mine}",
                "the same version is needed on both: git pull && ./infra/setup",
            )
        job = job_from(about["content"])
        _check_seen(job)
        now = self._now()
        deadline = None
        if job.resources.deadline is not None:
            deadline = deadline_at(job.resources.deadline, datetime.fromtimestamp(now, UTC))
            if deadline.timestamp() <= now:
                raise UsageError(f"resources.deadline: {job.resources.deadline} has passed")
        self._db.add(
            SubmittedJob(
                id=about["id"],
                name=about["name"],
                priority=int(about["priority"]),
                content=about["content"],
                output=whole(job.output.path),
                rows=about["rows"],
                submitted=now,
                deadline=None if deadline is None else deadline.timestamp(),
            )
        )
        waiting = [one.id for one in self._db.open_jobs()]
        place = waiting.index(about["id"]) if about["id"] in waiting else 0
        return self._shown(self._db.job(about["id"])) | {"before": place}

    def _jobs(self) -> dict[str, Any]:
        jobs = self._db.jobs()
        ended = [job for job in jobs if job.state.ended][:_MOST_ENDED]
        return {"jobs": [self._shown(job) for job in [*self._db.open_jobs(), *ended]]}

    def _job(self, about: Mapping[str, Any]) -> dict[str, Any]:
        return self._shown(self._db.job(about["job"]))

    def _stop(self, about: Mapping[str, Any]) -> dict[str, Any]:
        job = self._db.job(about["job"])
        if not job.state.ended:
            self._db.stop(job)
        return self._shown(self._db.job(job.id))

    def _enter(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """From now on a run that was not submitted shares the cards."""
        job, now = job_from(about["content"]), self._now()
        self._db.add(
            SubmittedJob(
                id=about["id"],
                name=about["name"],
                priority=0,
                content=about["content"],
                output=job.output.path,
                rows=None,
                submitted=now,
                guest=True,
                state=JobState.RUNNING,
                began=now,
            )
        )
        return self._shown(self._db.job(about["id"]))

    def _leave(self, about: Mapping[str, Any]) -> dict[str, Any]:
        job, code = self._db.job(about["job"]), int(about["code"])
        states = {0: JobState.SUCCEEDED, Stopped.exit_code: JobState.STOPPED}
        if job.guest and not job.state.ended:
            state = states.get(code, JobState.FAILED)
            if counts := about.get("counts"):
                self._db.count(job.id, RowCounts(**counts))
            self._db.end(job, state, self._now(), str(about["message"]), code)
        return self._shown(self._db.job(job.id))

    def _log(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """What all drivers of the job said, from the byte ``offset`` on, in limited parts."""
        job = self._db.job(about["job"])
        offset = int(about["offset"])
        content, skip = b"", offset
        for number in range(1, job.drivers + 1):
            log = log_of(f"{job.id}-{number}")
            size = log.stat().st_size if log is not None else 0
            if log is not None and skip < size:
                with log.open("rb") as file:
                    file.seek(skip)
                    content += file.read(_LOG_BYTES - len(content))
            if len(content) == _LOG_BYTES:
                break
            skip = max(0, skip - size)
        whole_text = job.state.ended and len(content) < _LOG_BYTES
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(content, whole_text)
        offset += len(content) - len(decoder.getstate()[0])  # a cut character is read again later
        return {"id": job.id, "text": text, "offset": offset, "ended": job.state.ended}

    def _shown(self, job: SubmittedJob) -> dict[str, Any]:
        progress = self._progress.of(job.id) if job.state is JobState.RUNNING else None
        if progress is not None and not job.guest and progress.started < (job.began or 0.0):
            progress = None  # of an earlier job with this output
        known = progress or job.counts
        return {
            "id": job.id,
            "name": job.name,
            "state": str(job.state),
            "priority": job.priority,
            "submitted": job.submitted,
            "began": job.began,
            "ended": job.ended,
            "deadline": job.deadline,
            "output": job.output,
            "guest": job.guest,
            "stopping": job.stop_asked and not job.state.ended,
            "exit_code": job.exit_code,
            "message": job.message,
            "rows": known and known.rows,
            "rows_done": known and known.rows_done,
            "rows_per_second": progress and progress.rows_per_second,
            "seconds_left": progress and progress.seconds_left,
            "failed": known and known.failed,
            "engines": progress and progress.engines,
            "waiting": progress and progress.waiting,
            "watts": progress and progress.watts,
            "celsius": progress and progress.celsius,
            "slowed": progress and progress.slowed,
        }


def _check_seen(job: Job) -> None:
    """Raise UsageError for folders that this machine, the head, does not have."""
    inputs = (job.input.path,) if isinstance(job.input.path, str) else job.input.path
    for key, path in (*(("input.path", path) for path in inputs), ("model", job.model)):
        local = "://" not in path and Path(path).is_absolute()
        fixed = Path(re.split(r"[*?[]", path, maxsplit=1)[0]) if local else None
        if fixed is not None and not (fixed.exists() or fixed.parent.exists()):
            raise UsageError(
                f"{key} {path} is not there on the rack's head",
                "mount the folder there under the same name, or use s3://… or the like",
            )
