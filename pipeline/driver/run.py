"""A run from start to end, on the driver's side: plan, Ray, workers, commits, report."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from pipeline.cluster.background import ClusterInBackground
from pipeline.cluster.engine_groups import EngineGroup, local_groups
from pipeline.cluster.ray_access import check_access
from pipeline.driver.background.heartbeat import Heartbeat
from pipeline.driver.background.record_compaction import RecordCompactor
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.forecast.forecast import Forecaster
from pipeline.driver.forecast.learning import learn
from pipeline.driver.forecast.types import Forecast, seconds_to_spare
from pipeline.driver.loop import work_through
from pipeline.driver.plan.ask_servers import ask_servers
from pipeline.driver.plan.auto_engine import with_known_engine
from pipeline.driver.plan.plan import InputPlan, Plan, check_input, make_plan, sort_out
from pipeline.driver.plan.provenance import provenance
from pipeline.driver.progress.driver_log import LoggedNotes, logged, open_log
from pipeline.driver.progress.watcher import Watcher, Watchers
from pipeline.driver.stop.stop import Stop
from pipeline.driver.trial.client import make_room
from pipeline.driver.workers.slots.membership import Membership
from pipeline.driver.workers.slots.select_engines import rack_groups
from pipeline.engine.load import check_answer_shape
from pipeline.errors import CommitFailed, RackmillError, Stopped, StorageFailed, UsageError
from pipeline.humanize import count, duration, plural
from pipeline.input.changes.content import with_contents
from pipeline.input.shards import InputFiles, moved_since
from pipeline.job.job import Job
from pipeline.job.when.deadline import deadline_at
from pipeline.output.columns.results import to_table
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import add_contents
from pipeline.output.runs.job_file import job_content
from pipeline.output.runs.run_log import RunLog
from pipeline.output.runs.run_registry import refuse_second
from pipeline.output.tally import Tally
from pipeline.report.profile import load_profile
from pipeline.report.summary import Summary
from pipeline.storage.base import Storage, open_storage
from pipeline.storage.transient_errors import passes
from pipeline.worker.answer_cache.store import check_store

_log = logging.getLogger(__name__)

_SHORTEST_REQUEST = 16  # tokens
_MANY = 1 << 10  # more engines than any rack has
_LOOK_SECONDS = 60.0  # for machines of a rack that have not yet reported what they offer


@dataclass(frozen=True)
class RunOptions:
    """Choices for one run that are not part of the job. ``rows``: only this many first rows.
    ``fresh``: forget what the output holds. ``address``: of the Ray to run on; None: its own.
    ``queued``: the name of the job in the rack's queue; ``patient``: wait for cards as long as
    others have them. ``files``: the input, if it was already read."""

    rows: int | None = None
    fresh: bool = False
    address: str | None = None
    queued: str | None = None
    patient: bool = False
    files: InputFiles | None = None


def run(
    job: Job,
    options: RunOptions | None = None,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
) -> Summary:
    """Do the job; whatever an earlier run of it has committed is reused.

    Returns the summary. Raises UsageError before anything expensive starts, AlreadyRunning when
    another run works on the same output, JobFailed later; Stopped when ``stop`` was asked, or at
    KeyboardInterrupt. Everything committed until then stays and a second call goes on from there.
    """
    options, watcher, stop = options or RunOptions(), watcher or Watcher(), stop or Stop()
    started = time.time()
    check_access(options.address)
    background = ClusterInBackground(options.address, options.queued, patient=options.patient)
    watcher = Watchers(LoggedNotes(), watcher)
    with logged(f"run of {job.name}", job.output.path) as log, background as cluster:
        with preparing():
            job = with_known_engine(job, watcher.note)
            inputs = _checked(job, options, watcher)
            storage = open_storage(job.output.path)
            _refuse_second(storage, watcher)
            check_answer_shape(job)
            planning = partial(make_plan, fresh=options.fresh, report=watcher.note, output=storage)
            plan = planning(inputs)
            moved = moved_since(inputs.files.shards) if options.files is None else []
            if moved:
                inputs = _checked(job, options, watcher, moved)
                plan = planning(inputs)
            for line in plan.changes.lines():
                watcher.note(line)
            for line in plan.doubts:
                watcher.doubt(line)
            if plan.missing:
                ask_servers(plan, watcher.note, from_here=options.address is None)
            here = job.computes or any(engine.started_here for engine in job.engines)
            ours = bool(plan.missing) and here and options.address is None
            if ours:
                make_room(watcher.note)
            engines = select_engines(plan, watcher, cluster)
            _refuse_second(storage, watcher)  # fetching a model may have taken an hour
            dataset = claim(plan, storage, options.fresh)
        if not plan.missing:
            return conclude(plan, dataset, RunOutcome(), started, note=watcher.note)
        with under_way(plan, dataset, watcher, stop, log) as watchers:
            if engines.groups:
                outcome = carry_out(plan, engines, watchers, stop, cluster)
            else:
                outcome = RunOutcome()
                _commit_empty(plan, dataset)
            summary = conclude(plan, dataset, outcome, started, note=watcher.note)
        if outcome.forecast is not None:
            learn(plan, outcome.forecast, summary)
        return summary


def _checked(
    job: Job, options: RunOptions, watcher: Watcher, moved: Sequence[str] = ()
) -> InputPlan:
    """The input, after saying which files are not whole. ``moved``: files written to since."""
    engines = None if options.address is None else _MANY
    inputs = check_input(job, options.rows, options.files, leave=moved, engines=engines)
    if options.files is None:  # otherwise the caller has said so
        for line in inputs.files.waiting:
            watcher.note(line)
    return inputs


@dataclass(frozen=True)
class Engines:
    """The engines that a plan's missing rows get; none where no row is missing."""

    forecaster: Forecaster
    groups: list[EngineGroup]


def select_engines(plan: Plan, watcher: Watcher, cluster: ClusterInBackground) -> Engines:
    """The engines for ``plan``, on this machine or those of the rack that was joined. Changes
    nothing. Raises UsageError when it cannot run there."""
    job = plan.job
    left = any(unit.rows for unit in plan.missing)
    forecaster = Forecaster(plan, load_profile())
    if not left:
        return Engines(forecaster, [])
    most = plan.most_engines
    if cluster.joins:
        rack = cluster.ready()
        there = rack.machines(_LOOK_SECONDS)
        if rack.waits_for_cards:  # not for those that no machine has
            rack_groups(job, there, most, forecaster.spread, lambda line: None)
        allotted = rack.allotted(watcher.note)
        there = rack.machines(_LOOK_SECONDS)  # it may have waited for long
        groups = rack_groups(job, there, most, forecaster.spread, watcher.note, allotted)
    else:
        groups = local_groups(job, most, forecaster.spread, watcher.note)
    shortest = job.engine.max_model_len or _SHORTEST_REQUEST
    usable = forecaster.usable(groups, watcher.note, context=shortest)
    return Engines(forecaster, usable)


def carry_out(
    plan: Plan, engines: Engines, watcher: Watcher, stop: Stop, cluster: ClusterInBackground
) -> RunOutcome:
    """Compute and commit the missing rows of ``plan``.

    Raises JobFailed, and KeyboardInterrupt when ``stop`` was asked before all was done.
    """
    forecaster = engines.forecaster
    cluster.start()
    # the sample is read while Ray starts
    groups = forecaster.usable(engines.groups, watcher.note)
    forecast = forecaster.forecast(groups)
    known = forecaster.known_answers
    ready = cluster.ready()
    membership = None
    if cluster.joins:
        membership = Membership(plan.job, forecaster, ready, engines.groups)
    deadline = _deadline(plan.job, forecast, watcher)
    with stop.being_heeded():
        final = work_through(plan, forecast, ready, watcher, known, stop, membership, deadline)
    if stop.asked and not final.done:
        raise KeyboardInterrupt
    return RunOutcome(final, forecast)


def _deadline(job: Job, forecast: Forecast, watcher: Watcher) -> datetime | None:
    """When the run has to be done. Says so if that is unlikely."""
    if job.resources.deadline is None:
        return None
    now = datetime.now(UTC)
    spare = seconds_to_spare(job, forecast, now)
    if spare is not None and spare < 0:
        by = f", by about {duration(-spare)}" if math.isfinite(spare) else ""
        watcher.note(f"the deadline will likely be missed{by}")
    return deadline_at(job.resources.deadline, now)


@contextlib.contextmanager
def preparing() -> Iterator[None]:
    """While the input is read and the model fetched. Raises Stopped for KeyboardInterrupt."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(
            "stopped before any engine was started",
            "what was fetched or converted of the model stays; the same command goes on from there",
        ) from None


@contextlib.contextmanager
def under_way(
    plan: Plan, dataset: Dataset, watcher: Watcher, stop: Stop, log: RunLog
) -> Iterator[Watcher]:
    """While a run works: send signs of life, log, and obey ``cancel``. Yields what watches the run.
    Raises Stopped for KeyboardInterrupt."""
    storage = open_storage(plan.job.output.path, patience_seconds=0)
    try:
        with Heartbeat(storage, plan, stop, log.run) as heartbeat, RecordCompactor(storage):
            open_log(log, storage)
            try:
                yield Watchers(watcher, heartbeat)
            except KeyboardInterrupt:
                done = _committed(plan, dataset)
                heartbeat.committed(done)
                raise _stopped(plan, done) from None
    except KeyboardInterrupt:  # before there was anything to watch
        raise _stopped(plan, _committed(plan, dataset)) from None


def _committed(plan: Plan, dataset: Dataset) -> int:
    """Rows of the plan's input."""
    records, _ = sort_out(plan.input, dataset.state())
    return sum(record.tally.rows for record in records.values())


def _stopped(plan: Plan, done: int) -> Stopped:
    all_rows, left = plural(plan.input.rows, "row"), count(plan.input.rows - done)
    return Stopped(
        f"stopped: {count(done)} of {all_rows} are committed, {left} are left",
        "the same command goes on from there",
    )


def _refuse_second(storage: Storage, watcher: Watcher) -> None:
    try:
        refuse_second(storage, watcher.note)
    except StorageFailed as e:
        if isinstance(e.__cause__, OSError) and passes(e.__cause__):
            raise  # no need to wait for it again; otherwise making the plan gives a better message


def claim(plan: Plan, storage: Storage, fresh: bool) -> Dataset:
    """Make the output folder this plan's, and repair what a crash left: the first thing of a run
    that changes anything. No other run may be at work there.

    Every step leaves the folder such that the same plan, made again, finds what is left to do:
    results of rows that are no more go before the manifest stops naming their files, and what is
    moved is never visible twice. Raises UsageError when it is another job's, CommitFailed,
    StorageFailed, JobFailed.
    """
    check_store(plan.job)
    dataset = Dataset(storage)
    try:
        if fresh or dataset.half_cleared:
            dataset.clear()
        dataset.take_over(plan.manifest)
    except (CommitFailed, OSError) as e:
        reason = e.message if isinstance(e, RackmillError) else str(e)
        raise UsageError(f"output.path is not writable: {reason}", "give another --output") from e
    if plan.missing or plan.outgrown or plan.moved:
        dataset.reopen()
    dataset.discard(*plan.outgrown)
    dataset.forget_cuts(plan.stray_cuts)
    dataset.move(plan.moved)
    shards = with_contents(plan.input.files.shards)
    dataset.describe(add_contents(plan.manifest, shards), job_content(plan.job))
    dataset.recover(plan.committed.values())
    return dataset


def _commit_empty(plan: Plan, dataset: Dataset) -> None:
    """An input without rows: a dataset with a schema and no rows."""
    columns = plan.input.columns
    table = to_table(plan.input.files.schema.empty_table(), [], columns)
    dataset.commit(plan.units[0], table, Tally(), provenance(plan))
