"""Error rows of a finished dataset, done again: a run over a few rows of committed units."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.cluster.background import ClusterInBackground
from pipeline.cluster.ray_access import check_access
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.driver.progress.driver_log import LoggedNotes, logged
from pipeline.driver.progress.watcher import Watcher, Watchers
from pipeline.driver.run import (
    carry_out,
    preparing,
    select_engines,
    under_way,
)
from pipeline.driver.stop.stop import Stop
from pipeline.errors import RowErrorType, Stopped, UsageError, did_you_mean
from pipeline.humanize import count, plural
from pipeline.job.file.load import job_from, load_job
from pipeline.job.fingerprint import fingerprint_parts
from pipeline.job.job import Job
from pipeline.output.commit.records import JOB
from pipeline.output.dataset import Dataset
from pipeline.output.rows.redo import select
from pipeline.output.runs.run_registry import refuse_second
from pipeline.report.fixes import FIXES, HOPELESS, RETRIED
from pipeline.report.summary import Summary
from pipeline.storage.base import open_storage
from pipeline.worker.answer_cache.store import check_store


@dataclass(frozen=True)
class RetryOptions:
    """``only``: types of errors; empty: all that may end otherwise. ``settings``: operational ones,
    as ``--set`` has them. ``job``: the job file, where the output does not hold the job.
    ``queued``: its name in the queue of the rack at ``address``, if that has one."""

    only: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    job: Path | None = None
    address: str | None = None
    queued: str | None = None


def retry(
    output: str,
    options: RetryOptions | None = None,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
) -> Summary:
    """Do the error rows of ``output`` again; all other rows stay bit for bit what they are.

    Each file is replaced as a whole; a row that fails again stays an error row. Returns the summary
    of the whole dataset. Raises as ``run``, and UsageError for a dataset that is not finished, or
    whose input has changed.
    """
    options, watcher, stop = options or RetryOptions(), watcher or Watcher(), stop or Stop()
    started = time.time()
    only = _types(options.only)
    check_access(options.address)
    patient = options.queued is not None
    watcher = Watchers(LoggedNotes(), watcher)
    background = ClusterInBackground(options.address, options.queued, patient=patient)
    with logged("retry", output) as log, background as cluster:
        with preparing():
            dataset = Dataset(open_storage(output))
            manifest = dataset.manifest()
            if manifest is None:
                raise UsageError(f"{output} holds no output of rackmill")
            refuse_second(dataset.storage, watcher.note)
            job = find_job(dataset, output, options)
            rows = manifest.get("rows")
            inputs = check_input(job, rows)
            whole = make_plan(inputs, report=watcher.note, output=dataset.storage)
            _check_whole(whole, output)
            plan = _plan_again(whole, only)
            assert plan.redo is not None
            watcher.note(_what(whole, plan, only))
            check_store(job)
            if not plan.missing:
                dataset.recover(whole.committed.values())
                return conclude(whole, dataset, RunOutcome(), started, note=watcher.note)
            engines = select_engines(plan, watcher, cluster)
            refuse_second(dataset.storage, watcher.note)  # fetching a model may have taken an hour
            dataset.recover(whole.committed.values())
        with under_way(plan, dataset, watcher, stop, log) as watchers:
            try:
                outcome = carry_out(plan, engines, watchers, stop, cluster)
            except KeyboardInterrupt:
                raise Stopped(
                    "stopped: the rows that were done again by then are kept",
                    f"rackmill retry {output} goes on with the others",
                ) from None
            return conclude(
                whole, dataset, outcome, started, redone=plan.redo.rows, note=watcher.note
            )


def find_job(dataset: Dataset, output: str, options: RetryOptions) -> Job:
    """The job that ``output`` belongs to, with ``options.settings`` laid over it.

    Raises UsageError when it is not kept there, or a setting would make another job of it.
    """
    here = f"output.path={json.dumps(output)}"
    if options.job is not None:
        made = partial(load_job, options.job)
    else:
        content = dataset.job()
        if content is None:
            raise UsageError(
                f"{dataset.storage.address(JOB)} is gone or damaged",
                f"name the job file: rackmill retry {output} --job JOB.yaml",
            )
        made = partial(job_from, content)
    plain, job = made([here]), made([*options.settings, here])
    before, after = (fingerprint_parts(j, model_hash="", input_hash="") for j in (plain, job))
    changed = [k for k in sorted(before.keys() | after.keys()) if before.get(k) != after.get(k)]
    if changed:
        raise UsageError(
            f"--set: {', '.join(changed)} decides what the other rows are like, too",
            "a retry takes only settings that do not: engine, faults, resources, duplicates",
            "for another job give another --output, or start over with --fresh",
        )
    return job


def _types(asked: Sequence[str]) -> frozenset[str]:
    known = [str(kind) for kind in RowErrorType]
    for kind in asked:
        if kind not in known:
            hints = did_you_mean(kind, known) or [f"there are: {', '.join(known)}"]
            raise UsageError(f"--only {kind}: there is no such type of error", *hints)
    return frozenset(asked)


def _check_whole(plan: Plan, output: str) -> None:
    fix = f"run the job first: rackmill run {output}/{JOB}"
    if plan.changes:
        raise UsageError(f"{output}: the input has changed since", *plan.changes.lines(), fix)
    if plan.missing or plan.outgrown or plan.moved:
        left = count(sum(unit.rows for unit in plan.missing))
        raise UsageError(f"{output} is not finished: {left} rows have no result yet", fix)


def _plan_again(whole: Plan, only: frozenset[str]) -> Plan:
    """A plan of which only those units are part that hold rows to be done again: errors of the
    types ``only``, or of all that a retry may help."""
    redo = select(whole.committed, only or RETRIED)
    units = redo.units
    inputs = replace(whole.input, units=units, rows=redo.rows)
    return replace(whole, input=inputs, committed={}, missing=units, redo=redo)


def _what(whole: Plan, plan: Plan, only: frozenset[str]) -> str:
    assert plan.redo is not None
    failed, rows = whole.reused.failed, plan.redo.rows
    kinds = f" ({', '.join(sorted(only))})" if only else ""
    hopeless = [kind for kind in whole.reused.errors if kind in HOPELESS and not only]
    why = "".join(f"; {kind} would end alike: {FIXES[kind]}" for kind in hopeless)
    if not rows:
        which = " that a retry can help" if hopeless else ""
        return f"retry: none of {plural(whole.input.rows, 'row')} has an error{which}{kinds}{why}"
    others = f", {count(failed - rows)} others are left as they are" if failed > rows else ""
    files = plural(len(plan.units), "file")
    return f"retry: {plural(rows, 'error row')}{kinds} in {files}{others}{why}"
