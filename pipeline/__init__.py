"""rackmill: batch inference for people who own gaming GPUs.

from pipeline import Job, forecast, plan, run

job = Job.model_validate({...})     # or load_job(Path("job.yaml"))
print(plan(job).input.rows)
print(forecast(plan(job), gpus="2x rtx3090").prediction.seconds)
print(run(job).accuracy)
"""

from __future__ import annotations

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
    from pipeline.data.plan import Plan
    from pipeline.data.prove import Verdict
    from pipeline.data.status import Status
    from pipeline.fleet.cancel import Cancelled
    from pipeline.fleet.foretold import Forecast
    from pipeline.fleet.quality import Comparison
    from pipeline.fleet.run import RunOptions
    from pipeline.fleet.stop import Stop
    from pipeline.fleet.watcher import Watcher
    from pipeline.report.summary import Summary
    from pipeline.spec.job import Job
    from pipeline.spec.load import job_from, load_job


def plan(job: Job, *, rows: int | None = None, fresh: bool = False) -> Plan:
    """What ``run`` would do: shards, rows, token counts, what a resume skips. Loads no engine.

    ``rows``: only the first so many. Raises UsageError.
    """
    from pipeline.data.plan import check_input, make_plan
    from pipeline.engine.grammar import check_answer_shape

    inputs = check_input(job, rows)
    check_answer_shape(job)
    return make_plan(inputs, fresh=fresh, fetch=False)


def forecast(made: Plan, gpus: str | None = None) -> Forecast:
    """How long a plan's missing rows take, whether they fit, and what they cost.

    ``gpus``: "4x rtx3090,2x rtx4090"; None: what this machine has. Raises UsageError when the job
    cannot run there.
    """
    from pipeline.fleet.crew import asked_crews, local_crews
    from pipeline.fleet.forecast import Forecaster
    from pipeline.report.profile import load_profile

    forecaster = Forecaster(made, load_profile())
    if gpus:
        crews = asked_crews(made.job, gpus, forecaster.spread)
    else:
        crews = local_crews(made.job, len(made.missing), forecaster.spread)
    return forecaster.forecast(forecaster.usable(crews, lambda _: None))


def run(
    job: Job,
    options: RunOptions | None = None,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
) -> Summary:
    """Do the job, reusing what an earlier run of it committed. Raises UsageError, JobFailed.

    ``stop.ask()``, from any thread, stops it gracefully: it raises Stopped.
    """
    from pipeline.fleet.run import run as run_job

    return run_job(job, options, watcher, stop)


def cancel(output: str, grace_seconds: float | None = None, *, wait: bool = True) -> Cancelled:
    """Ask the run that works on ``output``, on whatever machine, to stop gracefully, and wait
    until it has. Raises UsageError, JobFailed."""
    from pipeline.fleet.cancel import cancel as cancel_run

    return cancel_run(output, grace_seconds=grace_seconds, wait=wait)


def status(output: str) -> Status:
    """How far the job is whose output this is, and whether a run is at work on it. Raises
    UsageError."""
    from pipeline.data.status import read_status
    from pipeline.data.storage import open_storage

    return read_status(open_storage(output))


def verify(output: str) -> Verdict:
    """What is wrong with a finished dataset: ``faults`` is empty when nothing is. Raises
    UsageError."""
    from pipeline.data.prove import verify as prove
    from pipeline.data.storage import open_storage

    return prove(open_storage(output))


def retry(output: str, only: Sequence[str] = (), watcher: Watcher | None = None) -> Summary:
    """Do the error rows of ``output`` again, all or those of some types; all other rows stay what
    they are. Raises UsageError, JobFailed."""
    from pipeline.fleet.retry import RetryOptions
    from pipeline.fleet.retry import retry as retry_rows

    return retry_rows(output, RetryOptions(tuple(only)), watcher)


def compare(reference: str, candidates: Sequence[str], data: str, **options: Any) -> Comparison:
    """What `rackmill quality` says: perplexity, KL divergence and greedy agreement of each of
    ``candidates`` against ``reference`` on the texts of ``data``.

    ``options``: see ``pipeline.fleet.quality.compare``. Raises UsageError, JobFailed.
    """
    from pipeline.fleet.quality import compare as compare_models

    return compare_models(reference, candidates, data, **options)


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: the command begins with an import of this package, and
    shall heed Ctrl-C before a few tenths of a second have gone by."""
    if name == "Job":
        from pipeline.spec.job import Job

        return Job
    if name in ("job_from", "load_job"):
        from pipeline.spec import load

        return load.job_from if name == "job_from" else load.load_job
    if name == "RunOptions":
        from pipeline.fleet.run import RunOptions

        return RunOptions
    if name == "Stop":
        from pipeline.fleet.stop import Stop

        return Stop
    if name == "Watcher":
        from pipeline.fleet.watcher import Watcher

        return Watcher
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
    "forecast",
    "job_from",
    "load_job",
    "plan",
    "retry",
    "run",
    "status",
    "verify",
]
