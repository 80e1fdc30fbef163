r"""rackmill: batch inference for people who own gaming GPUs.

import rackmill

result = rackmill.run(frame, prompt="Tweet: {text}\nSentiment:", choices=["bad", "good"])
frame = result.to_pandas()

job = rackmill.load_job("job.yaml")     # or a mapping
print(rackmill.plan(job))
print(rackmill.forecast(rackmill.plan(job), gpus="2x rtx3090").prediction.seconds)
print(rackmill.run(job).accuracy)
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import (
    AlreadyRunning,
    CommitFailed,
    CommitStateUnknown,
    EngineFailed,
    JobFailed,
    RackmillError,
    Stopped,
    UsageError,
)

if TYPE_CHECKING:
    from pipeline.driver.comparison.quality import compare
    from pipeline.driver.forecast.types import Forecast
    from pipeline.driver.plan.plan import Plan
    from pipeline.driver.progress.watcher import Watcher
    from pipeline.driver.run import RunOptions
    from pipeline.driver.stop.cancel import Cancelled
    from pipeline.driver.stop.stop import Stop
    from pipeline.interactive.decide import decide
    from pipeline.interactive.run import run
    from pipeline.job.file.load import job_from, load_job
    from pipeline.job.job import Job
    from pipeline.output.growing.status import RunStatus
    from pipeline.output.runs.status import Status
    from pipeline.output.verify.dataset import Verification
    from pipeline.report.summary import Summary


# set up logging to see what we log; otherwise it goes only to a run's log
logging.getLogger(__name__).addHandler(logging.NullHandler())


def plan(job: Job, *, rows: int | None = None, fresh: bool = False) -> Plan:
    """What ``run`` would do: shards, rows, token counts, what a resume skips. Loads no engine.

    ``rows``: only the first so many. Raises UsageError.
    """
    from pipeline.driver.plan.plan import check_input, make_plan
    from pipeline.engine.load import check_answer_shape

    inputs = check_input(job, rows)
    check_answer_shape(job)
    return make_plan(inputs, fresh=fresh, fetch=False)


def forecast(made: Plan, gpus: str | None = None) -> Forecast:
    """How long a plan's missing rows take, whether they fit, and what they cost.

    ``gpus``: "4x rtx3090,2x rtx4090"; None: what this machine has. Raises UsageError when the job
    cannot run there.
    """
    from pipeline.cluster.engine_groups import asked_groups, local_groups
    from pipeline.driver.forecast.forecast import Forecaster
    from pipeline.report.profile import load_profile

    forecaster = Forecaster(made, load_profile())
    if gpus is not None:
        groups = asked_groups(made.job, gpus, forecaster.spread)
    else:
        groups = local_groups(made.job, made.most_engines, forecaster.spread)
    return forecaster.forecast(forecaster.usable(groups, lambda _: None))


def cancel(output: str, grace_seconds: float | None = None, *, wait: bool = True) -> Cancelled:
    """Ask the run that works on ``output``, on whatever machine, to stop gracefully, and wait
    until it has. Raises UsageError, JobFailed."""
    from pipeline.driver.stop.cancel import cancel as cancel_run

    return cancel_run(output, grace_seconds=grace_seconds, wait=wait)


def status(output: str) -> Status:
    """How far the job is whose output this is, and whether a run is at work on it. Raises
    UsageError, also for the output of a schedule (see ``schedule_status``)."""
    from pipeline.output.growing.status import is_schedules
    from pipeline.output.runs.status import read_status
    from pipeline.storage.base import open_storage

    if is_schedules(output):
        raise UsageError(
            f"{output} holds the runs of a schedule", "schedule_status(…) says how each is"
        )
    return read_status(open_storage(output))


def schedule_status(output: str) -> list[RunStatus]:
    """How far each run of the schedule is whose output this is, the oldest first. Raises
    UsageError."""
    from pipeline.output.growing.status import read_statuses

    return read_statuses(output)


def verify(output: str) -> Verification:
    """What is wrong with a finished dataset: ``faults`` is empty when nothing is. Raises
    UsageError."""
    from pipeline.output.verify.dataset import verify as verify_dataset
    from pipeline.storage.base import open_storage

    return verify_dataset(open_storage(output))


def retry(output: str, only: Sequence[str] = (), watcher: Watcher | None = None) -> Summary:
    """Do the error rows of ``output`` again, all or those of some types; all other rows stay what
    they are. Raises UsageError, JobFailed."""
    from pipeline.driver.retry import RetryOptions
    from pipeline.driver.retry import retry as retry_rows

    return retry_rows(output, RetryOptions(tuple(only)), watcher)


# what is imported when it is asked for: the command begins with an import of this package, and
# shall heed Ctrl-C before a few tenths of a second have gone by
_LATER = {
    "Job": "pipeline.job.job",
    "RunOptions": "pipeline.driver.run",
    "Stop": "pipeline.driver.stop.stop",
    "Watcher": "pipeline.driver.progress.watcher",
    "compare": "pipeline.driver.comparison.quality",
    "decide": "pipeline.interactive.decide",
    "job_from": "pipeline.job.file.load",
    "load_job": "pipeline.job.file.load",
    "run": "pipeline.interactive.run",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


__all__ = [
    "AlreadyRunning",
    "CommitFailed",
    "CommitStateUnknown",
    "EngineFailed",
    "Job",
    "JobFailed",
    "RackmillError",
    "RunOptions",
    "Stop",
    "Stopped",
    "UsageError",
    "Watcher",
    "cancel",
    "compare",
    "decide",
    "forecast",
    "job_from",
    "load_job",
    "plan",
    "retry",
    "run",
    "schedule_status",
    "status",
    "verify",
]
