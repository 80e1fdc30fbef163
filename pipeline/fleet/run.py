"""A run from start to end: plan, Ray, workers, commits, report. The driver's side."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from pipeline.data.answer_store import check_store
from pipeline.data.dataset import REPORT, Dataset
from pipeline.data.plan import Plan, check_input, make_plan, sort_out
from pipeline.data.results import to_table
from pipeline.data.storage import open_storage
from pipeline.data.tally import Tally
from pipeline.errors import CommitFailed, JobFailed, RackmillError, UsageError
from pipeline.fleet.background import ClusterInBackground
from pipeline.fleet.coordinator import Snapshot
from pipeline.fleet.crew import local_crews, visible_gpus
from pipeline.fleet.forecast import Forecast, Forecaster
from pipeline.fleet.learning import learn
from pipeline.fleet.provenance import provenance
from pipeline.fleet.staff import work_through
from pipeline.fleet.watcher import Watcher
from pipeline.report.profile import load_profile
from pipeline.report.report import write_report
from pipeline.report.summary import Foretold, Summary, Work, summarize
from pipeline.spec.job import Job

_REPORTED_ROWS = 10
_SHORTEST_REQUEST = 16  # tokens


@dataclass(frozen=True)
class RunOptions:
    """Choices of one run that are no part of the job. ``rows``: only the first so many."""

    rows: int | None = None
    fresh: bool = False
    address: str | None = None


def run(job: Job, options: RunOptions | None = None, watcher: Watcher | None = None) -> Summary:
    """Do the job; whatever an earlier run of it has committed is reused.

    Returns the summary. Raises UsageError before anything expensive starts, JobFailed later;
    everything committed until then stays and a second call goes on from there.
    """
    options, watcher = options or RunOptions(), watcher or Watcher()
    started = time.time()
    plan = make_plan(check_input(job, options.rows), fresh=options.fresh, report=watcher.note)
    left = sum(unit.rows for unit in plan.missing)
    forecaster = Forecaster(plan, load_profile())
    crews = local_crews(job, len(plan.missing)) if left else []
    shortest = job.engine.max_model_len or _SHORTEST_REQUEST
    usable = forecaster.usable(crews, watcher.note, context=shortest)
    if len(usable) < len(crews) and (visible := visible_gpus(usable)) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible  # a Ray started here offers no others
    crews = usable
    dataset = _claim(plan, options.fresh)
    forecast: Forecast | None = None
    final: Snapshot | None = None
    if left:
        try:
            with ClusterInBackground(options.address) as cluster:
                # the sample is read while Ray starts
                forecaster.check(crews)
                forecast = forecaster.forecast(crews)
                known = forecaster.known_answer_tokens
                final = work_through(plan, forecast, cluster.ready(), watcher, known)
        except KeyboardInterrupt:
            done = sum(r.tally.rows for r in dataset.records().values())
            raise JobFailed(
                f"stopped: {done} of {plan.input.rows} rows are committed",
                "the same command goes on from there",
            ) from None
    elif plan.missing:
        _commit_empty(plan, dataset)
    summary = _conclude(plan, dataset, final, forecast, started)
    if forecast is not None:
        learn(plan, forecast, summary)
    return summary


def _claim(plan: Plan, fresh: bool) -> Dataset:
    """Make the output folder this job's, and put right what a crash left."""
    check_store(plan.job)
    dataset = Dataset(open_storage(plan.job.output.path))
    try:
        if fresh:
            dataset.clear()
        dataset.claim(plan.manifest)
    except (CommitFailed, OSError) as e:
        reason = e.message if isinstance(e, RackmillError) else str(e)
        raise UsageError(f"output.path is not writable: {reason}", "give another --output") from e
    if plan.missing:
        dataset.reopen()
    for record in plan.outgrown:
        dataset.discard(record)
    dataset.recover(plan.committed.values())
    return dataset


def _commit_empty(plan: Plan, dataset: Dataset) -> None:
    """An input without rows: a dataset with a schema and no rows."""
    columns = plan.input.columns
    table = to_table(plan.input.files.schema.empty_table(), [], columns)
    dataset.commit(plan.units[0], table, Tally(), provenance(plan))


def _conclude(
    plan: Plan,
    dataset: Dataset,
    final: Snapshot | None,
    forecast: Forecast | None,
    started: float,
) -> Summary:
    records, missing = sort_out(plan.input, dataset.state())
    if missing:
        raise JobFailed(f"{sum(u.rows for u in missing)} of {plan.input.rows} rows have no result")
    dataset.recover(records.values())
    total = Tally()
    for record in records.values():
        total.add(record.tally)
    label = plan.job.label
    summary = summarize(
        name=plan.job.name,
        total=total,
        reused=plan.reused.rows,
        work=_work_done(final, started),
        seconds=time.time() - started,
        output=dataset.storage.address(),
        report=dataset.storage.address(REPORT),
        gold=label.gold if label else None,
        provenance=provenance(plan),
        model_seconds=plan.model_seconds,
        foretold=_foretold(forecast),
    )
    if plan.missing or not dataset.finished:  # else the report of the run that did the work stays
        sample = dataset.first_rows(_REPORTED_ROWS)
        dataset.finish(summary.as_json(), write_report(summary, total, sample, plan.model.licence))
    return summary


def _foretold(forecast: Forecast | None) -> Foretold | None:
    if forecast is None:
        return None
    p = forecast.prediction
    return Foretold(p.ready_seconds, p.work_seconds, p.other_seconds, p.basis)


def _work_done(final: Snapshot | None, started: float) -> Work:
    workers = [p for p in final.workers.values() if p.first_step] if final else []
    if final is None or not workers:
        return Work()
    first = min(p.first_step for p in workers)
    return Work(
        rows=sum(p.rows for p in workers),
        prompt_tokens=sum(p.prompt_tokens for p in workers),
        completion_tokens=sum(p.completion_tokens for p in workers),
        preemptions=sum(p.preemptions for p in workers),
        recomputed_tokens=sum(p.recomputed_tokens for p in workers),
        kv_count_error=max(
            (e for p in workers if (e := p.kv_count_error) is not None), default=None
        ),
        timelines=[p.timeline for p in workers],
        seconds=max(max(p.last_step for p in workers) - first, 0.0),
        ready_seconds=first - started,
        engines=tuple(final.engines.values()),
    )
