"""The end of a run: all is committed, so it is made visible and summed up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan.plan import Plan, sort_out
from pipeline.driver.plan.provenance import provenance
from pipeline.driver.trust.rewrite_reports import REPORTED_ROWS, rewrite_reports, write_pages
from pipeline.driver.trust.trust import trust_run
from pipeline.errors import JobFailed
from pipeline.output.columns.probabilities import why_not_sure
from pipeline.output.commit.records import REPORT
from pipeline.output.dataset import Dataset
from pipeline.output.shared_answers import agreements, read_shared
from pipeline.output.tally import Tally
from pipeline.report.energy import energy_of
from pipeline.report.summary import Summary, Work, measured


@dataclass(frozen=True)
class RunOutcome:
    """What was predicted for a plan and what its engines did; None where nothing was to do."""

    final: Snapshot | None = None
    forecast: Forecast | None = None


def conclude(
    plan: Plan,
    dataset: Dataset,
    outcome: RunOutcome,
    started: float,
    *,
    redone: int = 0,
    note: Callable[[str], None] = lambda line: None,
) -> Summary:
    """All is committed: make it visible, measure how right the labels are, and sum it up.
    ``redone``: rows of ``plan.committed`` that were done again."""
    state = dataset.state()
    records, missing = sort_out(plan.input, state)
    if missing:
        raise JobFailed(f"{sum(u.rows for u in missing)} of {plan.input.rows} rows have no result")
    dataset.recover(records.values())
    told = dataset.told(state)
    blocks = trust_run(dataset, plan.job, note)
    if blocks:
        state = dataset.state()
        records, _ = sort_out(plan.input, state)
    total = Tally()
    for record in records.values():
        total.add(record.tally)
    label = plan.job.label
    forecast = outcome.forecast
    if forecast is not None and forecast.unmeasured:
        forecast = None
    summary = Summary(
        name=plan.job.name,
        reused=plan.reused.rows - redone,
        reused_failed=plan.reused.failed - redone,  # only error rows are done again
        seconds=time.time() - started,
        output=dataset.storage.address(),
        report=dataset.storage.address(REPORT),
        answers=plan.input.columns.answers,
        drawn=plan.job.answers,
        model_seconds=plan.model_seconds,
        generation=state.generation,
        left=tuple(str(one) for one in plan.input.files.left),
        model_context=plan.model.geometry.context,
        licence=plan.model.licence,
        trust=dict(blocks),
        no_confidence=why_not_sure(plan.job.asked, dataset.first_rows(REPORTED_ROWS)),
        **measured(
            total,
            _work_done(outcome.final, started),
            provenance(plan),
            gold=label.gold_name if label else None,
            foretold=forecast.prediction if forecast else None,
            predicted_kwh=forecast.kwh if forecast else None,
            energy=energy_of(outcome.final.vitals.values()) if outcome.final else None,
            price_kwh=plan.job.resources.price_kwh,
            api_price=plan.job.resources.api_price,
            agreement=agreements(read_shared(dataset.storage)) if plan.job.resources.mixed else (),
        ),
    )
    if plan.missing or not told:
        write_pages(dataset, summary, total, state)
    elif blocks:  # the earlier run's report stays, except for what right answers say
        rewrite_reports(dataset, blocks, plan.job)
    return summary


def _work_done(final: Snapshot | None, started: float) -> Work:
    workers = [p for p in final.workers.values() if p.first_step] if final else []
    if final is None or not workers:
        return Work()
    first = min(p.first_step for p in workers)
    waited_before, waited_after = final.waited
    return Work(
        rows=sum(p.rows for p in workers),
        prompt_tokens=sum(p.prompt_tokens for p in workers),
        completion_tokens=sum(p.completion_tokens for p in workers),
        preemptions=sum(p.preemptions for p in workers),
        recomputed_tokens=sum(p.recomputed_tokens for p in workers),
        lost_rows=final.lost_rows,
        kv_count_error=max(
            (e for p in workers if (e := p.kv_count_error) is not None), default=None
        ),
        timelines=[p.timeline for p in workers],
        seconds=max(max(p.last_step for p in workers) - first - waited_after, 0.0),
        ready_seconds=first - started - waited_before,
        waited_seconds=waited_before + waited_after,
        engines=tuple(final.engines.values()),
    )
