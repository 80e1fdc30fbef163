"""The driver's loop: it watches the workers, and the machines that join and leave a rack."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.forecast.request_shape import request_shape
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan.plan import Plan
from pipeline.driver.plan.provenance import provenance
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.stop.graceful_stop import GracefulStop
from pipeline.driver.stop.stop import Stop
from pipeline.driver.workers.slots.availability import Availability
from pipeline.driver.workers.slots.membership import Membership
from pipeline.driver.workers.supervisor import Supervisor
from pipeline.engine.machine.card_notes import CardNotes
from pipeline.input.changes.compare import absolute
from pipeline.input.shard import Shard
from pipeline.input.units import Unit, predicted_costs, working_order
from pipeline.job.job import Job
from pipeline.logs import current_run
from pipeline.output.runs.run_log import LogPlace
from pipeline.rows.row_range import RowRange
from pipeline.rows.workload import Lengths
from pipeline.simulate.run_trace import REQUESTS
from pipeline.worker.coordination.messages import WorkerSpec

if TYPE_CHECKING:  # they import Ray, which a plan does not need
    from pipeline.cluster.desktop.agent import DesktopAgents
    from pipeline.cluster.ray_cluster import Cluster

_POLL_SECONDS = 1.0
_SHARED_ROWS, _SHARED_PLACES = 48, 12
_LEAST_SHARE = 8  # no more than one row in so many is computed twice


def work_through(
    plan: Plan,
    forecast: Forecast,
    cluster: Cluster,
    watcher: Watcher,
    known_lengths: Lengths | None,
    stop: Stop,
    membership: Membership | None = None,
    deadline: datetime | None = None,
) -> Snapshot:
    """Run workers until every unit is committed, or until ``stop`` is asked and the rows then in
    flight are done.

    ``known_lengths``: of answers, if any are known; ``membership``: watches which machines join and
    leave the rack; ``deadline``: when the run is stopped.
    """
    from pipeline.driver.coordinator.actor import CoordinatorHandle, CoordinatorSpec
    from pipeline.driver.workers.worker_handle import wait_for_any

    job = plan.job
    watcher.planned(plan, forecast)
    spec = WorkerSpec(
        job=_with_absolute_folders(job),
        shards=absolute_shards(plan),
        input_schema=plan.input.files.schema,
        columns=plan.input.columns,
        model=plan.model,
        engine_arguments={p.group.name: p.choice.arguments for p in forecast.placed},
        provenance=provenance(plan) | {REQUESTS: request_shape(plan).encode()},
        known_lengths=known_lengths,
        redo=plan.redo,
        log=_log_place(plan),
        shared_rows=shared_rows(plan.units) if job.resources.mixed and plan.redo is None else (),
    )
    coordinator_spec = CoordinatorSpec(
        units=plan.units,
        done=[record.row_range for record in plan.committed.values()],
        rates={p.group.name: 1 / p.estimate.cost.seconds for p in forecast.placed},
        costs=predicted_costs(plan.units, plan.input.files.shards),
        order=working_order(plan.units, plan.input.files.shards),
        output=spec.job.output.path if plan.redo is None else None,
        silence_seconds=job.faults.silence_seconds,
        log=spec.log,
    )
    coordinator = CoordinatorHandle(coordinator_spec, check=cluster.check_head)
    graceful = GracefulStop(stop, job.faults.grace_seconds, coordinator, watcher)
    absences = Availability(job.resources, _desktops(job, watcher), watcher.note)
    supervisor = Supervisor(plan, cluster, watcher, coordinator, spec, absences)
    for placed in forecast.placed:
        supervisor.add_group(placed)
    supervisor.update_availability()
    supervisor.start_workers(time.monotonic())
    notes, waited = CardNotes(), WaitingTime()
    alone_since: float | None = None
    try:
        while supervisor.active or (supervisor.may_work and not graceful.begun):
            wait_for_any(supervisor.workers, _POLL_SECONDS, lambda: graceful.wanted)
            if deadline is not None and datetime.now(UTC) > deadline:
                stop.ask(by="its deadline")
            cluster.check_head()
            snapshot = coordinator.snapshot([worker.name for worker in supervisor.workers])
            watcher.progress(snapshot, plan)
            for line in snapshot.notes:
                watcher.note(line)
            supervisor.forget(graceful.look(snapshot, supervisor.workers))
            if membership is not None:
                news = membership.look(supervisor.wanted, supervisor.needs, supervisor.slot_usage)
                supervisor.apply_changes(news)
                if news.stop:
                    stop.ask(by=news.stop)
            supervisor.update_availability(snapshot)
            for line in notes.lines(time.monotonic(), snapshot.active):
                watcher.note(line)
            supervisor.look(snapshot, stopping=graceful.begun)
            if snapshot.done and not supervisor.active:
                break
            if not (graceful.begun or snapshot.done):
                supervisor.start_workers(time.monotonic())
                alone_since = supervisor.wait_for_machines(alone_since)
            why = "" if graceful.begun else supervisor.waits_for
            waited.note(time.monotonic(), bool(why), begun=snapshot.begun)
            watcher.waiting(why)
        final = replace(coordinator.snapshot(), waited=waited.seconds)
        watcher.progress(final, plan)
        return final
    finally:
        supervisor.kill()
        coordinator.close_log()
        if membership is not None:
            membership.close()


def _log_place(plan: Plan) -> LogPlace | None:
    """Where the run's processes log: in the same folder as the driver."""
    run = current_run()
    return LogPlace(absolute(plan.job.output.path), run) if run else None


class WaitingTime:
    """How long no engine was active because the run had no card: seconds before the first step of
    any engine, and after it."""

    def __init__(self) -> None:
        self.seconds = (0.0, 0.0)
        self._since: float | None = None

    def note(self, now: float, waits: bool, *, begun: bool) -> None:
        """The state at ``now``, in seconds of one clock. ``begun``: an engine has made a step."""
        if self._since is not None:
            (before, after), more = self.seconds, now - self._since
            self.seconds = (before, after + more) if begun else (before + more, after)
        self._since = now if waits else None


def _desktops(job: Job, watcher: Watcher) -> DesktopAgents | None:
    """What watches the cards of machines, for a job that yields to people who use them."""
    if not job.resources.yield_to_desktop:
        return None
    from pipeline.cluster.desktop.agent import DesktopAgents

    engines = job.computes
    quiet = job.resources.desktop_quiet_seconds
    return DesktopAgents(quiet, engines=engines, say=watcher.note)


def absolute_shards(plan: Plan) -> tuple[Shard, ...]:
    """The input's files as workers find them. They keep their names, which depend on no worker's
    folder and on no link: rows get the same seed wherever they are computed."""
    return tuple(replace(s, path=absolute(s.path)) for s in plan.input.files.shards)


def _with_absolute_folders(job: Job) -> Job:
    output = job.output.model_copy(update={"path": absolute(job.output.path)})
    store = job.duplicates.store
    placed = {"store": absolute(store)} if store is not None else {}
    duplicates = job.duplicates.model_copy(update=placed)
    return job.model_copy(update={"output": output, "duplicates": duplicates})


def shared_rows(units: Sequence[Unit]) -> tuple[RowRange, ...]:
    """The rows that unlike engines all answer: a few dozen of ``units``, from places spread evenly
    over them."""
    filled = [unit for unit in units if unit.rows]
    wanted = min(_SHARED_ROWS, sum(unit.rows for unit in filled) // _LEAST_SHARE)
    places = min(_SHARED_PLACES, len(filled), wanted)
    if not places:
        return ()
    each = -(-wanted // places)
    chosen = [filled[at * len(filled) // places] for at in range(places)]
    return tuple(
        RowRange(unit.shard, unit.start, min(unit.start + each, unit.stop)) for unit in chosen
    )
