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
    CommitFailed,
    CommitStateUnknown,
    EngineFailed,
    JobFailed,
    RackmillError,
    UsageError,
)
from pipeline.spec.job import Job
from pipeline.spec.load import job_from, load_job

if TYPE_CHECKING:
    from pipeline.data.plan import Plan
    from pipeline.fleet.forecast import Forecast
    from pipeline.fleet.quality import Comparison
    from pipeline.fleet.run import RunOptions
    from pipeline.fleet.watcher import Watcher
    from pipeline.report.summary import Summary


def plan(job: Job, *, rows: int | None = None, fresh: bool = False) -> Plan:
    """What ``run`` would do: shards, rows, token counts, what a resume skips. Loads no engine.

    ``rows``: only the first so many. Raises UsageError.
    """
    from pipeline.data.plan import check_input, make_plan

    return make_plan(check_input(job, rows), fresh=fresh, fetch=False)


def forecast(made: Plan, gpus: str | None = None) -> Forecast:
    """How long a plan's missing rows take, whether they fit, and what they cost.

    ``gpus``: "4x rtx3090,2x rtx4090"; None: what this machine has. Raises UsageError when the job
    cannot run there.
    """
    from pipeline.fleet.crew import asked_crews, local_crews
    from pipeline.fleet.forecast import Forecaster
    from pipeline.report.profile import load_profile

    crews = asked_crews(gpus) if gpus else local_crews(made.job, len(made.missing))
    forecaster = Forecaster(made, load_profile())
    forecaster.check(crews)
    return forecaster.forecast(crews)


def run(job: Job, options: RunOptions | None = None, watcher: Watcher | None = None) -> Summary:
    """Do the job, reusing what an earlier run of it committed. Raises UsageError, JobFailed."""
    from pipeline.fleet.run import run as run_job

    return run_job(job, options, watcher)


def compare(reference: str, candidates: Sequence[str], data: str, **options: Any) -> Comparison:
    """What `rackmill quality` says: perplexity, KL divergence and greedy agreement of each of
    ``candidates`` against ``reference`` on the texts of ``data``.

    ``options``: see ``pipeline.fleet.quality.compare``. Raises UsageError, JobFailed.
    """
    from pipeline.fleet.quality import compare as compare_models

    return compare_models(reference, candidates, data, **options)


def __getattr__(name: str) -> Any:
    """RunOptions and Watcher, without which most users do, bring all of the run with them."""
    if name == "RunOptions":
        from pipeline.fleet.run import RunOptions

        return RunOptions
    if name == "Watcher":
        from pipeline.fleet.watcher import Watcher

        return Watcher
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


__all__ = [
    "CommitFailed",
    "CommitStateUnknown",
    "EngineFailed",
    "Job",
    "JobFailed",
    "RackmillError",
    "RunOptions",
    "UsageError",
    "Watcher",
    "compare",
    "forecast",
    "job_from",
    "load_job",
    "plan",
    "run",
]
