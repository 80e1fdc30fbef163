"""The workers of a run, and their cards: hired, let go, replaced, set aside.

An engine that was lost is replaced on the same card, at once if it had brought the job further,
else after a while; one that found too little memory with arguments that ask for less. A card whose
engines get nowhere is set aside, and the job goes on without it. A card that is not the job's for
now (the queue of a rack gives it to another one, the job's hours are over, somebody plays on it) is
left when what its engine is at is finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

from pipeline.cluster.allotment import Key, Needs
from pipeline.cluster.engine_groups import Place
from pipeline.cluster.slot_usage import AtWork
from pipeline.dispatch.desktop import Ours
from pipeline.driver.coordinator.coordinator import NOTHING_YET, Snapshot
from pipeline.driver.forecast.foretold import Placed
from pipeline.driver.plan import Plan
from pipeline.driver.slots.absence import Absences, SeatCards
from pipeline.driver.slots.hired import Hired
from pipeline.driver.slots.membership import News
from pipeline.driver.slots.oom_steps import Retreat
from pipeline.driver.slots.select_engines import most
from pipeline.driver.slots.slot_states import Reason, Seats
from pipeline.driver.watcher import Watcher
from pipeline.engine.kept import EngineSetup, engine_setup
from pipeline.engine.machine.card_notes import lost_in_words
from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.oom_fallback import Limits
from pipeline.engine.simulated.rehearsal import SEAT
from pipeline.engine.vllm.engine import environment as vllm_environment
from pipeline.errors import (
    CardLost,
    EngineFailed,
    EngineOutOfMemory,
    JobFailed,
    MachineUnfit,
    RackmillError,
)
from pipeline.humanize import duration, plural
from pipeline.worker.messages import Progress, WorkerSpec
from pipeline.worker.own_slot import CHOSEN_HERE

_BUSY_SECONDS = 2.0  # until a card that another job has is looked at again
_SOON_SECONDS = 0.5  # until the card of an engine that was just ended is free
_ALONE_SECONDS = 600.0
_OTHERS = "other jobs' turn"
_LONGEST_REASON = 200  # characters


class Workers:
    """From the driver's view."""

    def __init__(
        self,
        plan: Plan,
        cluster: Any,
        watcher: Watcher,
        coordinator: Any,
        spec: WorkerSpec,
        absences: Absences | None = None,
    ) -> None:
        self._absences = absences or Absences(plan.job.resources, None, watcher.note)
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
        self._hired: dict[int, Hired] = {}  # by seat
        self._kept: list[Any] = []  # cards that nobody shall have
        self._cards: dict[int, tuple[int, ...]] = {}  # by seat, the numbers of its cards

    @property
    def at_work(self) -> bool:
        return bool(self._hired)

    @property
    def may_work(self) -> bool:
        """Whether there will be an engine, though there is none now: a card waits to be tried
        again, another job has it for now, or all machines of a rack are gone and one may come
        back."""
        return self.seats.waiting or not self.seats.left or self.seats.withdrawn

    @property
    def waits_for(self) -> str:
        """Why no engine is at work though there would be cards; empty where one is, or loads."""
        if self.at_work or self.seats.waiting:
            return ""
        left = [seat for seat in self.seats.left if not seat.finished]
        whys = [why for seat in left for why in list(seat.absent.values())[:1]]
        return "; ".join(dict.fromkeys(why for why in whys if why))

    def enlist(self, placed: Placed) -> None:
        """Places for engines, as far as the job wants so many."""
        card = placed.crew.name
        if self._retreat.is_new(card):
            plan = self._plan
            limits = Limits(
                plan.sample.shape.longest + plan.job.longest_answer,
                bool(placed.crew.card and placed.crew.card.has_fp8_kv),
            )
            self._retreat.learn(card, placed.choice.arguments, limits)
            self._rates[card] = 1 / placed.estimate.cost.seconds
            if placed.crew.on_cards:
                self._gpus.add(card)
        for place in placed.crew.places:
            if self.wanted != 0:
                seat = self.seats.add(card, place.node)
                self._places.append(place)
                if placed.crew.on_cards or placed.crew.card is None:
                    self._cards[seat.number] = place.cards or (place.index,)

    @property
    def wanted(self) -> int | None:
        """How many more engines the job could use; None: any number."""
        if self._most is None:
            return None
        own_time = {Reason.HOURS}  # another card would have to wait as well
        there = [seat for seat in self.seats.left if not seat.absent.keys() - own_time]
        return max(0, self._most - len(there))

    def hear(self, news: News) -> None:
        """Who came to the rack, who is gone, and which cards are other jobs' for now."""
        for line in news.notes:
            self._watcher.note(line)
        self.seats.gone(news.gone)
        for placed in news.placed:
            self.enlist(placed)
        if news.allotted is not None:
            for number, place in enumerate(self._places):
                others = None if place.keys <= news.allotted else _OTHERS
                self.seats.withdraw(number, Reason.QUEUE, others)

    def look_away(self, snapshot: Snapshot = NOTHING_YET) -> None:
        """See which cards are not the run's for now, by its hours and for those who play."""
        seats = []
        for seat in self.seats.left:
            place, hired = self._places[seat.number], self._hired.get(seat.number)
            ours = Ours.NOTHING
            if hired is not None:
                at_work = hired.worker.name in snapshot.engines and hired.leaves is None
                ours = Ours.STEADY if at_work else Ours.LOADING
                if told := [card.index for card in snapshot.cards_of(hired.worker.name)]:
                    self._cards[seat.number] = tuple(told)
            cards = self._cards.get(seat.number, ())
            seats.append(SeatCards(seat.number, seat.name, place.node, place.host, cards, ours))
        for number, reasons in self._absences.look(seats).items():
            for reason, why in reasons.items():
                self.seats.withdraw(number, reason, why)

    @property
    def at_work_on(self) -> AtWork:
        """Which cards of a rack have an engine of this run, or are about to."""
        cards = _cards_of(self._places[number] for number in self._hired)
        return AtWork(self._plan.job.name, self._plan.model.name, cards)

    @property
    def needs(self) -> Needs:
        """What the job can use of a rack, as far as it has seen it."""
        left = {seat.number for seat in self.seats.left if not seat.finished}
        useless = _cards_of(p for number, p in enumerate(self._places) if number not in left)
        return Needs(self._most or len(self._plan.missing), useless)

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
        from pipeline.cluster.placement import Placement

        place, card = self._places[number], self.seats[number].card
        gpu = card in self._gpus
        # which cards an engine has, Ray decides only where nobody else does
        chosen = CHOSEN_HERE if gpu and self._cluster.chooses_cards else {}
        cards = max(1, len(place.cards)) if gpu else 0
        if self._plan.job.engine.kind == "simulated":
            return Placement(cards, {SEAT: str(number)} | chosen, node=place.node)
        eager = any(a.get("enforce_eager") for a in self._retreat.arguments.values())
        environment = vllm_environment(gpu=gpu, eager=eager, core=self._plan.job.engine.core)
        if gpu:
            return Placement(cards, environment | chosen, node=place.node)
        there = place.node is not None
        libraries = place.preloads if there else None
        environment |= cpu_environment(
            place.index,
            place.of,
            place.cores if there else None,
            libraries,
            parts=self._plan.job.engine.tensor_parallel_size or 1,
        )
        cpus = len(place.cores) / place.of if there else 0
        return Placement(0, environment, cpus, place.node)

    @property
    def workers(self) -> list[Any]:
        return [hired.worker for hired in self._hired.values()]

    def hire(self, now: float) -> None:
        """An engine for every slot that should have one."""
        from pipeline.driver.worker_handle import Keeping, WorkerHandle, find_workers

        for due in self.seats.due(now):
            if self._most is not None and len(self._hired) >= self._most:
                return  # a card that was away is back, and others were taken in its place
            place, placement = self._places[due.number], self._placement(due.number)
            arguments = self._retreat.arguments
            setup = self._setup(placement, arguments[due.card])
            there = find_workers(place.slot)
            if any(one.busy for one in there):
                self.seats.postpone(due.number, now, _BUSY_SECONDS)
                continue
            earlier = there[0] if len(there) == 1 else None
            serves = earlier is not None and earlier.slot == place.slot and earlier.serves(setup)
            if there and not (serves and self._keeps):
                for one in there:
                    one.kill()  # an engine that is of no use to this job
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
            if self._keeps and place.slot is not None:
                keeping = Keeping(place.slot, setup)
            cards = place.cards if self._cluster.chooses_cards else ()
            worker = WorkerHandle(
                seat.name, seat.card, spec, self._coordinator, placement, keeping, earlier, cards
            )
            if earlier is not None:
                self._watcher.note(f"{seat.name}: the engine of an earlier job is still loaded")
            self._hired[seat.number] = Hired(worker, arguments[seat.card])

    @property
    def _keeps(self) -> bool:
        """Whether engines stay loaded for the next job. Not where the cards are somebody else's at
        times: nobody would see to it that they are left then."""
        resources = self._plan.job.resources
        sometimes = resources.yield_to_desktop or resources.hours is not None
        return bool(self._cluster.keeps_engines) and not sometimes

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
            lost = next((card for card in snapshot.cards_of(worker.name) if card.lost), None)
            if silent or lost is not None:
                worker.kill()
            elif not worker.ended():
                continue
            del self._hired[number]
            why = "nothing was heard of it for too long" if silent else worker.failure()
            if lost is not None:
                why = CardLost(lost_in_words(lost, self._places[number].host))
            if why is None:
                if hired.leaves is None:
                    self.seats.done(number)
                else:
                    self._hand_back(number, hired)
                continue
            if isinstance(why, RackmillError) and not isinstance(why, EngineFailed):
                raise why
            worker.kill()  # its process may live on, and hold the card
            if silent and not worker.began:
                self._hand_back(number, hired)
                continue
            told = snapshot.workers.get(worker.name, Progress())
            running = told.running if loaded else None
            self._lost(number, hired, why, running=running, stopping=stopping)

    def _lets_go(self, number: int, hired: Hired, *, loaded: bool) -> bool:
        """Have the worker of a card that is not the run's now finish what its engine is at. True
        if it was ended at once: it has nothing to finish, or had its time."""
        seat = self.seats[number]
        if not seat.withdrawn and hired.leaves is None:
            return False
        left = hired.leave(seat, time.monotonic(), self._grace)
        if loaded and left is not None:
            # again and again: the coordinator may have been restarted
            self._coordinator.retire(hired.worker.name, left)
            return False
        hired.worker.kill()
        del self._hired[number]
        self._hand_back(number, hired)
        return True

    def _hand_back(self, number: int, hired: Hired) -> None:
        """Others do what it still held; nobody is to blame."""
        why = f"its card was not this run's: {hired.why or 'another job had it'}"
        self._coordinator.worker_lost(hired.worker.name, why, blameless=True)
        if not self._keeps:
            hired.worker.kill()  # its process may live on, and hold the card's memory
        self.seats.postpone(number, time.monotonic(), _BUSY_SECONDS)

    def _lost(
        self,
        number: int,
        hired: Hired,
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
        gone = isinstance(failure, CardLost)
        blameless = says is not None or away or gone
        loss = self._coordinator.worker_lost(name, str(failure), blameless=blameless)
        if gone:  # whatever the engine said of it when it died
            loss = replace(loss, why=str(failure))
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
            after = "" if gone else f" after {engines} that got nowhere"
            self._watcher.note(
                f"{name}: set aside{after}, "
                f"{plural(len(self.seats.left), 'engine')} left: {_first(loss.why)}"
            )
        else:
            log = f"its output is in {self._cluster.log_folder}"
            raise EngineFailed(f"no engine is left: {name} stopped: {loss.why}", log)

    def kill(self) -> None:
        """End all of them at once."""
        for worker in self.workers:
            worker.kill()


def _cards_of(places: Iterable[Place]) -> frozenset[Key]:
    """Those of a rack."""
    return frozenset(key for place in places for key in place.shared_keys)


def _first(text: str) -> str:
    """The first line of a message, not too much of it."""
    return shorten(text.strip().partition("\n")[0], _LONGEST_REASON, placeholder=" …")
