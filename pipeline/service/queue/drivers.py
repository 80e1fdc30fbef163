"""Drivers of submitted jobs: Ray's own job submission starts and watches them on the head."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline.cluster.ray_access import import_ray, prepare_access
from pipeline.errors import JobFailed
from pipeline.logs import last_words

T = TypeVar("T")
_LOGS = "session_*/logs/job-driver-{}.log"


@dataclass(frozen=True)
class DriverState:
    """``code``: the exit code once ``ended``; None if it was killed or could not be started.
    ``message``: what Ray says about the end."""

    ended: bool
    code: int | None = None
    message: str = ""


class RayJob(Protocol):
    """A driver as described by Ray's job submission."""

    submission_id: str | None
    driver_exit_code: int | None
    message: str | None

    @property
    def status(self) -> RayJobStatus: ...


class RayJobStatus(Protocol):
    def is_terminal(self) -> bool: ...


class RayJobs(Protocol):
    """The part of Ray's ``JobSubmissionClient`` that is used."""

    def submit_job(
        self, *, entrypoint: str, submission_id: str, metadata: dict[str, str]
    ) -> str: ...

    def list_jobs(self) -> list[RayJob]: ...


class RayGone(JobFailed):
    """Ray's job submission does not answer."""


class Drivers:
    """``dashboard``: where Ray's job submission answers, only to this machine; ``address``: of the
    rack."""

    def __init__(self, address: str, dashboard: str) -> None:
        self._address, self._dashboard = address, dashboard
        self._client: RayJobs | None = None

    def start(self, submission: str, command: Sequence[str], about: Mapping[str, str]) -> None:
        """Let Ray run ``command`` under the name ``submission``. Raises RayGone."""

        def submit(client: RayJobs) -> None:
            with contextlib.suppress(ValueError):  # it was started before, but the answer was lost
                client.submit_job(
                    entrypoint=shlex.join(command), submission_id=submission, metadata=dict(about)
                )

        self._ask(submit)

    def states(self) -> dict[str, DriverState]:
        """The states of all drivers that this Ray knows, by name. Raises RayGone."""

        def find(client: RayJobs) -> dict[str, DriverState]:
            return {
                job.submission_id: DriverState(
                    job.status.is_terminal(), job.driver_exit_code, job.message or ""
                )
                for job in client.list_jobs()
                if job.submission_id
            }

        return self._ask(find)

    def _ask(self, call: Callable[[RayJobs], T]) -> T:
        try:
            if self._client is None:
                self._client = self._connect()
            return call(self._client)
        except Exception as e:  # the HTTP library and Ray raise all kinds if the head is gone
            self._client = None
            lines = str(e).strip().splitlines() or [type(e).__name__]  # a traceback's end is used
            raise RayGone(f"Ray's job submission does not answer: {lines[-1]}") from e

    def _connect(self) -> RayJobs:
        prepare_access(self._address)
        import_ray()
        from ray.job_submission import JobSubmissionClient

        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):  # they would override ours
            os.environ.pop(name, None)
        client: RayJobs = JobSubmissionClient(self._dashboard)
        return client


def log_of(submission: str) -> Path | None:
    """What a driver said, on the machine where it ran. It survives a restart of Ray."""
    import_ray()
    from ray._common.utils import get_default_ray_temp_dir

    found = sorted(Path(get_default_ray_temp_dir()).glob(_LOGS.format(submission)))
    return found[-1] if found else None


def log_tail(submission: str) -> str:
    """Why a driver ended, in its own words."""
    return last_words(log_of(submission), "its driver said nothing")
