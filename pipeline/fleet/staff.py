"""The driver's loop: hires workers, watches over them, replaces those that were lost.

An engine that was lost is replaced on the same card, at once if it had brought the job further,
else after a while; one that found too little memory with arguments that ask for less. A card whose
engines get nowhere is set aside, and the job goes on without it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from pipeline.data.plan import Plan
from pipeline.data.units import predicted_costs
from pipeline.engine.ladder import Limits
from pipeline.engine.machine import cpu_environment
from pipeline.engine.rehearsal import SEAT
from pipeline.engine.vllm_engine import environment as vllm_environment
from pipeline.errors import (
    EngineFailed,
    EngineOutOfMemory,
    JobFailed,
    MachineUnfit,
    RackmillError,
)
from pipeline.fleet.coordinator import Snapshot
from pipeline.fleet.crew import Place
from pipeline.fleet.forecast import Forecast, Placed
from pipeline.fleet.leave import Leave
from pipeline.fleet.provenance import provenance
from pipeline.fleet.rack_crews import most
from pipeline.fleet.recruit import News, Recruiter
from pipeline.fleet.retreat import Retreat
from pipeline.fleet.seats import Seats
from pipeline.fleet.stop import Stop
from pipeline.fleet.watcher import Watcher
from pipeline.fleet.work import Progress, WorkerSpec
from pipeline.spec.job import Job
from pipeline.units import duration, plural

_POLL_SECONDS = 1.0
_BUSY_SECONDS = 2.0  # until a card that another job has is looked at again
_ALONE_SECONDS = 600.0
_LONGEST_REASON = 200  # characters


def work_through(
    plan: Plan,
    forecast: Forecast,
    cluster: Any,
    watcher: Watcher,
    expected_tokens: float | None,
    stop: Stop,
    recruiter: Recruiter | None = None,
) -> Snapshot:
    """Run workers until every unit is committed, or ``stop`` is asked and what is in flight then
    is done. ``expected_tokens``: of an answer, if known; ``recruiter``: looks who comes to a rack
    meanwhile, and who goes."""
    from pipeline.fleet.coordinator_actor import CoordinatorHandle
    from pipeline.fleet.worker_actor import wait_for_any

    job = plan.job
    watcher.planned(plan, forecast)
    spec = WorkerSpec(
        job=_with_absolute_folders(job),
        shards=tuple(replace(s, path=_absolute(s.path)) for s in plan.input.files.shards),
        input_schema=plan.input.files.schema,
        columns=plan.input.columns,
        model=plan.model,
        engine_arguments={p.crew.name: p.choice.arguments for p in forecast.placed},
        provenance=provenance(plan),
        expected_tokens=expected_tokens,
        redo=plan.redo,
    )
    done = [record.span for record in plan.committed.values()]
    rates = {p.crew.name: 1 / p.estimate.cost.seconds for p in forecast.placed}
    costs = predicted_costs(plan.units, plan.input.files.shards)
    coordinator = CoordinatorHandle(
        plan.units,
        done,
        rates,
        costs,
        output=spec.job.output.path if plan.redo is None else None,
        silence_seconds=job.faults.silence_seconds,
        check=cluster.check_head,
    )
    leave = Leave(stop, job.faults.grace_seconds, coordinator, watcher)
    crew = _Crew(plan, cluster, watcher, coordinator, spec)
    for placed in forecast.placed:
        crew.enlist(placed)
    crew.hire(time.monotonic())
    alone_since: float | None = None
    try:
        while crew.at_work or (crew.may_work and not leave.begun):
            wait_for_any(crew.workers, _POLL_SECONDS, lambda: leave.wanted)
            cluster.check_head()
            snapshot = coordinator.snapshot([worker.name for worker in crew.workers])
            watcher.progress(snapshot, plan)
            for line in snapshot.notes:
                watcher.note(line)
            crew.forget(leave.look(snapshot, crew.workers))
            if recruiter is not None:
                crew.hear(recruiter.look())
            crew.look(snapshot, stopping=leave.begun)
            if snapshot.done and not crew.at_work:
                break
            if not (leave.begun or snapshot.done):
                crew.hire(time.monotonic())
                alone_since = crew.wait_for_machines(alone_since)
        final = coordinator.snapshot()
        watcher.progress(final, plan)
        return final
    finally:
        crew.kill()


class _Crew:
    """The workers of a run, and their cards."""

    def __init__(
        self,
        plan: Plan,
        cluster: Any,
        watcher: Watcher,
        coordinator: Any,
        spec: WorkerSpec,
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._watcher = watcher
        self._coordinator = coordinator
        self._spec = spec
        self._most = most(plan.job)
        self._places: list[Place] = []  # of the seats
        self._rates: dict[str, float] = {}
        self._gpus: set[str] = set()  # cards, not processors
        self.seats = Seats([], plan.job.faults.restarts)
        self._retreat = Retreat({}, {})
        self._hired: dict[int, tuple[Any, Mapping[str, Any]]] = {}  # by seat; with what arguments
        self._kept: list[Any] = []  # cards that nobody shall have

    @property
    def at_work(self) -> bool:
        return bool(self._hired)

    @property
    def may_work(self) -> bool:
        """Whether there will be an engine, though there is none now: a card waits to be tried
        again, or all machines of a rack are gone and one may come back."""
        return self.seats.waiting or not self.seats.left

    def enlist(self, placed: Placed) -> None:
        """Places for engines, as far as the job wants so many."""
        card = placed.crew.name
        if self._retreat.is_new(card):
            limits = Limits(
                _longest(self._plan), bool(placed.crew.card and placed.crew.card.has_fp8_kv)
            )
            self._retreat.learn(card, placed.choice.arguments, limits)
            self._rates[card] = 1 / placed.estimate.cost.seconds
            if placed.crew.on_cards:
                self._gpus.add(card)
        for place in placed.crew.places:
            if self._most is None or len(self.seats.left) < self._most:
                self.seats.add(card, place.node)
                self._places.append(place)

    def hear(self, news: News) -> None:
        """Who came to the rack, and who is gone."""
        for line in news.notes:
            self._watcher.note(line)
        self.seats.gone(news.gone)
        for placed in news.placed:
            self.enlist(placed)

    def wait_for_machines(self, since: float | None) -> float | None:
        """Where no machine is left: since when. Raises JobFailed if that is too long ago."""
        if self.seats.left or self.at_work:
            return None
        now = time.monotonic()
        if since is None:
            self._watcher.note("no machine is left; waiting for one to come (back)")
        elif now - since > _ALONE_SECONDS:
            raise JobFailed(
                f"no machine has come back for {duration(_ALONE_SECONDS)}",
                "what is committed stays; the same command goes on from there",
            )
        return now if since is None else since

    def _placement(self, number: int) -> Any:
        """What the engine of a seat asks of Ray."""
        from pipeline.fleet.placement import Placement

        place, card = self._places[number], self.seats[number].card
        gpu = card in self._gpus
        if self._plan.job.engine.kind == "simulated":
            return Placement(int(gpu), {SEAT: str(number)}, node=place.node)
        eager = any(a.get("enforce_eager") for a in self._retreat.arguments.values())
        environment = vllm_environment(gpu=gpu, eager=eager)
        if gpu:
            return Placement(1, environment, node=place.node)
        there = place.node is not None
        libraries = place.preloads if there else None
        environment |= cpu_environment(
            place.index, place.of, place.cores if there else None, libraries
        )
        cpus = len(place.cores) / place.of if there else 0
        return Placement(0, environment, cpus, place.node)

    @property
    def workers(self) -> list[Any]:
        return [worker for worker, _ in self._hired.values()]

    def hire(self, now: float) -> None:
        """An engine for every card that should have one."""
        from pipeline.fleet.worker_actor import WorkerHandle

        for due in self.seats.due(now):
            placement = self._placement(due.number)
            if not self._cluster.is_free(placement):
                self.seats.postpone(due.number, now, _BUSY_SECONDS)  # another job's, for now
                continue
            seat = self.seats.taken(due.number)
            self._coordinator.join(seat.name, seat.card, self._rates[seat.card])
            arguments = self._retreat.arguments
            spec = replace(
                self._spec, engine_arguments=dict(arguments), prove_engine=seat.lives > 1
            )
            worker = WorkerHandle(seat.name, seat.card, spec, self._coordinator, placement)
            self._hired[seat.number] = worker, arguments[seat.card]

    def forget(self, workers: Sequence[Any]) -> None:
        """These were killed on purpose."""
        self._hired = {n: (w, a) for n, (w, a) in self._hired.items() if w not in workers}

    def look(self, snapshot: Snapshot, *, stopping: bool) -> None:
        """Part with those who are done and those who were lost. Raises JobFailed when no card is
        left, and what else a worker failed of."""
        for number, (worker, arguments) in list(self._hired.items()):
            if snapshot.done and worker.name not in snapshot.engines:
                worker.kill()  # others were done before its engine was loaded
                del self._hired[number]
                continue
            silent = worker.name in snapshot.silent
            if silent:
                worker.kill()
            elif not worker.ended():
                continue
            del self._hired[number]
            why = "nothing was heard of it for too long" if silent else worker.failure()
            if why is None:
                self.seats.done(number)
                continue
            if isinstance(why, RackmillError) and not isinstance(why, EngineFailed):
                raise why
            worker.kill()  # its process may live on, and hold the card
            if silent and not worker.began:
                self._coordinator.worker_lost(worker.name, str(why), blameless=True)
                self.seats.postpone(number, time.monotonic(), _BUSY_SECONDS)
                continue
            ready = worker.name in snapshot.engines
            told = snapshot.workers.get(worker.name, Progress())
            running = told.running if ready else None
            self._lost(number, worker.name, why, arguments, running=running, stopping=stopping)

    def _lost(
        self,
        number: int,
        name: str,
        failure: RackmillError | str,
        arguments: Mapping[str, Any],
        *,
        running: int | None,
        stopping: bool,
    ) -> None:
        card = self.seats[number].card
        short = isinstance(failure, EngineOutOfMemory)
        says = (
            self._retreat.step_down(card, arguments, str(failure), running=running)
            if short
            else None
        )
        away = self.seats[number].away
        blameless = says is not None or away
        loss = self._coordinator.worker_lost(name, str(failure), blameless=blameless)
        if stopping or away:
            return
        progress = says is not None or loss.committed > 0 or loss.explained
        barren = says is None and not loss.finished
        unfit = isinstance(failure, MachineUnfit)
        seat = self.seats.lost(
            number, time.monotonic(), loss.why, progress=progress, barren=barren, unfit=unfit
        )
        if says is not None:
            self._watcher.note(f"{name}: too little memory, on with {says} ({_first(loss.why)})")
        elif seat.aside is None:
            self._watcher.worker_lost(name, loss.why)
        elif self.seats.left:
            self._kept.append(self._cluster.keep_card(self._placement(number)))
            engines = plural(max(seat.failures, seat.barren), "engine")
            self._watcher.note(
                f"{name}: set aside after {engines} that got nowhere, "
                f"{plural(len(self.seats.left), 'engine')} left: {_first(loss.why)}"
            )
        else:
            log = f"its output is in {self._cluster.log_folder}"
            raise EngineFailed(f"no engine is left: {name} stopped: {loss.why}", log)

    def kill(self) -> None:
        """End all of them at once."""
        for worker in self.workers:
            worker.kill()


def _longest(plan: Plan) -> int:
    """Tokens of a request, as far as the job says."""
    job = plan.job
    one = job.score is not None or (job.label is not None and job.label.choices is not None)
    return plan.sample.shape.longest + (1 if one else job.sampling.max_tokens)


def _first(text: str) -> str:
    """The first line of a message, not too much of it."""
    return shorten(text.strip().partition("\n")[0], _LONGEST_REASON, placeholder=" …")


def _absolute(path: str) -> str:
    """A local path that holds in any process's working folder; other addresses as they are."""
    return path if "://" in path else str(Path(path).resolve())


def _with_absolute_folders(job: Job) -> Job:
    output = job.output.model_copy(update={"path": _absolute(job.output.path)})
    store = job.duplicates.store
    absolute = {"store": _absolute(store)} if store is not None else {}
    duplicates = job.duplicates.model_copy(update=absolute)
    return job.model_copy(update={"output": output, "duplicates": duplicates})
