"""The workers of a run, and their cards: hired, let go, replaced, set aside.

An engine that was lost is replaced on the same card, at once if it had brought the job further,
else after a while; one that found too little memory with arguments that ask for less. A card whose
engines get nowhere is set aside, and the job goes on without it. A card that the queue of a rack
gives to another job is left when what its engine is at is finished.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any

from pipeline.data.plan import Plan
from pipeline.engine.kept import EngineSetup, engine_setup
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
from pipeline.fleet.allotment import Key, Needs
from pipeline.fleet.at_work import AtWork
from pipeline.fleet.coordinator import Snapshot
from pipeline.fleet.crew import Place
from pipeline.fleet.forecast import Placed
from pipeline.fleet.rack_crews import most
from pipeline.fleet.recruit import News
from pipeline.fleet.retreat import Retreat
from pipeline.fleet.seats import Seats
from pipeline.fleet.watcher import Watcher
from pipeline.fleet.work import Progress, WorkerSpec
from pipeline.units import duration, plural

_BUSY_SECONDS = 2.0  # until a card that another job has is looked at again
_SOON_SECONDS = 0.5  # until the card of an engine that was just ended is free
_ALONE_SECONDS = 600.0
_CLOSING_SECONDS = 30.0  # after the grace: to commit what was finished
_LONGEST_REASON = 200  # characters


@dataclass(slots=True)
class _Hired:
    """``arguments``: of its engine; ``leaves``: since when it was to let its card go."""

    worker: Any
    arguments: Mapping[str, Any]
    leaves: float | None = None


class Workers:
    """From the driver's view."""

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
        self._grace = plan.job.faults.grace_seconds
        self._places: list[Place] = []  # of the seats
        self._rates: dict[str, float] = {}
        self._gpus: set[str] = set()  # cards, not processors
        self.seats = Seats([], plan.job.faults.restarts)
        self._retreat = Retreat({}, {})
        self._hired: dict[int, _Hired] = {}  # by seat
        self._kept: list[Any] = []  # cards that nobody shall have

    @property
    def at_work(self) -> bool:
        return bool(self._hired)

    @property
    def may_work(self) -> bool:
        """Whether there will be an engine, though there is none now: a card waits to be tried
        again, another job has it for now, or all machines of a rack are gone and one may come
        back."""
        return self.seats.waiting or not self.seats.left or self.seats.withdrawn

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
            if self.wanted != 0:
                self.seats.add(card, place.node)
                self._places.append(place)

    @property
    def wanted(self) -> int | None:
        """How many more cards the job could use; None: any number."""
        if self._most is None:
            return None
        return max(0, self._most - sum(not seat.withdrawn for seat in self.seats.left))

    def hear(self, news: News) -> None:
        """Who came to the rack, who is gone, and which cards are other jobs' for now."""
        for line in news.notes:
            self._watcher.note(line)
        self.seats.gone(news.gone)
        for placed in news.placed:
            self.enlist(placed)
        if news.allotted is not None:
            for number, place in enumerate(self._places):
                self.seats.withdraw(number, place.key not in news.allotted)

    @property
    def at_work_on(self) -> AtWork:
        """Which cards of a rack have an engine of this run, or are about to."""
        keys = [self._places[number].key for number in self._hired]
        cards: frozenset[Key] = frozenset((node, index) for node, index in keys if node)
        return AtWork(self._plan.job.name, self._plan.model.name, cards)

    @property
    def needs(self) -> Needs:
        """What the job can use of a rack, as far as it has seen it."""
        left = {seat.number for seat in self.seats.left if not seat.finished}
        useless = (p.key for number, p in enumerate(self._places) if number not in left)
        keys: frozenset[Key] = frozenset((node, index) for node, index in useless if node)
        return Needs(self._most or len(self._plan.missing), keys)

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
        return [hired.worker for hired in self._hired.values()]

    def hire(self, now: float) -> None:
        """An engine for every card that should have one."""
        from pipeline.fleet.worker_actor import Keeping, WorkerHandle, find_worker

        for due in self.seats.due(now):
            place, placement = self._places[due.number], self._placement(due.number)
            arguments = self._retreat.arguments
            setup = self._setup(placement, arguments[due.card])
            earlier = find_worker(place.slot)
            if earlier is not None and earlier.busy:
                self.seats.postpone(due.number, now, _BUSY_SECONDS)
                continue
            serves = earlier is not None and earlier.serves(setup)
            if earlier is not None and not (serves and self._cluster.keeps_engines):
                earlier.kill()  # an engine that is of no use to this job
                self.seats.postpone(due.number, now, _SOON_SECONDS)
                continue
            if earlier is None and not self._cluster.is_free(placement):
                self.seats.postpone(due.number, now, _BUSY_SECONDS)  # another job's, for now
                continue
            seat = self.seats.taken(due.number)
            self._coordinator.join(seat.name, seat.card, self._rates[seat.card])
            spec = replace(
                self._spec, engine_arguments=dict(arguments), prove_engine=seat.lives > 1
            )
            keeping = None
            if self._cluster.keeps_engines and place.slot is not None:
                keeping = Keeping(place.slot, setup)
            worker = WorkerHandle(
                seat.name, seat.card, spec, self._coordinator, placement, keeping, earlier
            )
            if earlier is not None:
                self._watcher.note(f"{seat.name}: the engine of an earlier job is still loaded")
            self._hired[seat.number] = _Hired(worker, arguments[seat.card])

    def _setup(self, placement: Any, arguments: Mapping[str, Any]) -> EngineSetup:
        plan = self._plan
        return engine_setup(plan.job, plan.model.hash, placement.environment, arguments)

    def forget(self, workers: Sequence[Any]) -> None:
        """These were killed on purpose."""
        self._hired = {n: h for n, h in self._hired.items() if h.worker not in workers}

    def look(self, snapshot: Snapshot, *, stopping: bool) -> None:
        """Part with those who are done and those who were lost. Raises JobFailed when no card is
        left, and what else a worker failed of."""
        for number, hired in list(self._hired.items()):
            worker = hired.worker
            loaded = worker.name in snapshot.engines
            if snapshot.done and not loaded:
                worker.kill()  # others were done before its engine was loaded
                del self._hired[number]
                continue
            if self._lets_go(number, hired, loaded=loaded):
                continue
            silent = worker.name in snapshot.silent
            if silent:
                worker.kill()
            elif not worker.ended():
                continue
            del self._hired[number]
            why = "nothing was heard of it for too long" if silent else worker.failure()
            if why is None:
                if hired.leaves is None:
                    self.seats.done(number)
                else:
                    self._hand_back(number, worker)
                continue
            if isinstance(why, RackmillError) and not isinstance(why, EngineFailed):
                raise why
            worker.kill()  # its process may live on, and hold the card
            if silent and not worker.began:
                self._hand_back(number, worker)
                continue
            told = snapshot.workers.get(worker.name, Progress())
            running = told.running if loaded else None
            self._lost(number, hired, why, running=running, stopping=stopping)

    def _lets_go(self, number: int, hired: _Hired, *, loaded: bool) -> bool:
        """Have the worker of a card that is another job's now finish what its engine is at. True
        if it was ended at once: it has nothing to finish, or had its time."""
        if not self.seats[number].withdrawn and hired.leaves is None:
            return False
        now = time.monotonic()
        if hired.leaves is None:
            hired.leaves = now
        left = hired.leaves + self._grace - now
        if loaded and left > -_CLOSING_SECONDS:
            # again and again: the coordinator may have been restarted
            self._coordinator.retire(hired.worker.name, max(0.0, left))
            return False
        hired.worker.kill()
        del self._hired[number]
        self._hand_back(number, hired.worker)
        return True

    def _hand_back(self, number: int, worker: Any) -> None:
        """Others do what it still held; nobody is to blame."""
        self._coordinator.worker_lost(worker.name, "its card was another job's", blameless=True)
        self.seats.postpone(number, time.monotonic(), _BUSY_SECONDS)

    def _lost(
        self,
        number: int,
        hired: _Hired,
        failure: RackmillError | str,
        *,
        running: int | None,
        stopping: bool,
    ) -> None:
        card, name, arguments = self.seats[number].card, hired.worker.name, hired.arguments
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
