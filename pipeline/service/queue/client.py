"""Submit jobs to a rack's queue and ask it about them, from any machine that has the token."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

from pipeline.cluster.rack_state.gcs import Gcs, HeadGone
from pipeline.engine.machine.facts import own_versions
from pipeline.errors import JobFailed, UsageError
from pipeline.input.output_apart import check_places
from pipeline.job.job import Job
from pipeline.output.runs.job_file import job_content
from pipeline.service.queue.mailbox import NobodyAnswers, ask

_LOOK_SECONDS = 1.0
_GONE_SECONDS = 60.0  # in which the head may be restarted
_HIGHEST = 1_000_000_000  # priority, as in Kubernetes


class QueueClient:
    """``address``: HOST:PORT of the rack's head. Raises UsageError if no Ray answers there, or it
    refuses our token. All methods raise HeadGone, NobodyAnswers."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._gcs = Gcs(address)

    def submit(
        self, job: Job, *, priority: int = 0, name: str | None = None, rows: int | None = None
    ) -> dict[str, Any]:
        """Put ``job`` into the queue, without secrets and with absolute addresses. Returns what the
        queue says about it. Raises UsageError."""
        if abs(priority) > _HIGHEST:
            raise UsageError(f"--priority {priority}: from -{_HIGHEST} to {_HIGHEST}")
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise UsageError(f"--name {name}: letters, digits, and . _ - between them")
        check_places(job)
        name = name or job.name
        return ask(
            self._gcs,
            "submit",
            {
                "id": f"{name}-{secrets.token_hex(3)}",
                "name": name,
                "priority": priority,
                "content": job_content(job),
                "rows": rows,
                "rackmill": own_versions().get("rackmill"),
            },
        )

    def jobs(self) -> list[dict[str, Any]]:
        """First jobs that have not ended, in their order; then ended ones, the last one first."""
        found: list[dict[str, Any]] = ask(self._gcs, "jobs")["jobs"]
        return found

    def stop(self, job: str) -> dict[str, Any]:
        """Ask the job to stop gracefully. Raises UsageError."""
        return ask(self._gcs, "stop", {"job": job})

    def follow(self, job: str) -> Iterator[dict[str, Any]]:
        """What is known of the job with this id or name, every second until it has ended. Waits for
        a head that is being restarted. Raises UsageError."""
        while True:
            found = self._patiently("job", {"job": job})
            job = found["id"]
            yield found
            if found["ended"] is not None:
                return
            time.sleep(_LOOK_SECONDS)

    def log(self, job: str, *, follow: bool = False) -> Iterator[str]:
        """What the job's driver says. ``follow``: until the job has ended; waits for a head that is
        being restarted."""
        offset = 0
        while True:
            about = {"job": job, "offset": offset}
            found = self._patiently("log", about) if follow else ask(self._gcs, "log", about)
            job, offset = found["id"], found["offset"]
            if found["text"]:
                yield found["text"]
            elif found["ended"] or not follow:
                return
            else:
                time.sleep(_LOOK_SECONDS)

    def _patiently(self, what: str, about: dict[str, Any]) -> dict[str, Any]:
        """The answer; waits a while for a head that is away."""
        deadline = time.monotonic() + _GONE_SECONDS
        while True:
            try:
                return ask(self._gcs, what, about)
            except (HeadGone, NobodyAnswers):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_SECONDS)


def exit_code(job: dict[str, Any]) -> int:
    """The exit code of a command that waited for the job. Raises JobFailed if the job failed."""
    if job["state"] == "FAILED":
        raise JobFailed(f"{job['id']} failed: {job['message']}", f"rackmill logs {job['id']}")
    return int(job["exit_code"] or 0)
