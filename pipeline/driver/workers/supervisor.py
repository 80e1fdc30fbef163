"""The workers of a run, and their cards: started, stopped, replaced, set aside.

An engine that was lost is replaced on the same card: at once if it had made progress, otherwise
after a while. One that ran out of memory is replaced by one that asks for less. A card whose
engines make no progress is set aside, and the job goes on without it. A card that is not the job's
for now (the queue of a rack gives it to another job, the job's hours are over, someone plays on it)
is released when the rows in its engine are finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import TYPE_CHECKING

from pipeline.cluster.actor_options import ActorOptions
from pipeline.cluster.engine_groups import Slot
from pipeline.cluster.rack_state.allocation import Key, Needs
from pipeline.cluster.rack_state.slot_usage import SlotUsage
from pipeline.dispatch.desktop_use import Ours
from pipeline.driver.coordinator.coordinator import NOTHING_YET, Snapshot
from pipeline.driver.forecast.types import GroupForecast
from pipeline.driver.plan.plan import Plan
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.workers.death import DeathCause, Sighting, sighting
from pipeline.driver.workers.slots.availability import Availability, SlotCards
from pipeline.driver.workers.slots.membership import MembershipChanges
from pipeline.driver.workers.slots.oom_steps import OomSteps
from pipeline.driver.workers.slots.select_engines import most
from pipeline.driver.workers.slots.slot_states import AbsenceReason, ActiveWorker, SlotStates
from pipeline.engine.failure.oom_fallback import EngineLimits
from pipeline.engine.machine.card_notes import lost_in_words
from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.protocol import SEAT, SEATS
from pipeline.engine.reuse import engine_setup
from pipeline.engine.vllm.engine import environment as vllm_environment
from pipeline.errors import CardLost, EngineFailed, EngineOutOfMemory, JobFailed, RackmillError
from pipeline.humanize import duration, plural
from pipeline.worker.coordination.messages import Progress, WorkerSpec
from pipeline.worker.own_slot import CHOSEN_HERE

if TYPE_CHECKING:  # they import Ray, which a plan does not need
    from pipeline.cluster.ray_cluster import Cluster
    from pipeline.driver.coordinator.actor import CoordinatorHandle
    from pipeline.driver.workers.worker_handle import WorkerHandle

_BUSY_SECONDS = 2.0  # until a card that another job has is checked again
_SOON_SECONDS = 0.5  # until the card of an engine that has just ended is free
_ALONE_SECONDS = 600.0
_OTHERS = "other jobs' turn"
_LONGEST_REASON = 200  # characters


class Supervisor:
    """From the driver's view."""

    def __init__(
        self,
        plan: Plan,
        cluster: Cluster,
        watcher: Watcher,
        coordinator: CoordinatorHandle,
        spec: WorkerSpec,
        absences: Availability,
    ) -> None:
        self._absences = absences
        self._plan = plan
        self._cluster = cluster
        self._watcher = watcher
        self._coordinator = coordinator
        self._spec = spec
        self._most = most(plan.job)
        self._grace = plan.job.faults.grace_seconds
        self._places: list[Slot] = []  # of the slots
        self._placed: list[GroupForecast] = []  # what each slot is one of
        self.states = SlotStates([], plan.job.faults.restarts)
        self._oom_steps = OomSteps()
        self._active: dict[int, ActiveWorker] = {}  # by slot
        self._kept: list[object] = []  # cards that no one may have
        self._cards: dict[int, tuple[int, ...]] = {}  # by slot, the numbers of its cards

    @property
    def active(self) -> bool:
        return bool(self._active)

    @property
    def may_work(self) -> bool:
        """Whether there will be an engine, though there is none now: a card waits for its next try,
        another job has it for now, or all machines of a rack are gone and one may come back."""
        return self.states.waiting or not self.states.left or self.states.withdrawn

    @property
    def waits_for(self) -> str:
        """Why no engine is active though there are cards; empty where one is active, or loads."""
        if self.active or self.states.waiting:
            return ""
        left = [state for state in self.states.left if not state.finished]
        whys = [why for state in left for why in list(state.absent.values())[:1]]
        return "; ".join(dict.fromkeys(why for why in whys if why))

    def add_group(self, placed: GroupForecast) -> None:
        """Slots for engines, as many as the job wants."""
        card = placed.group.name
        if self._oom_steps.is_new(card):
            plan = self._plan
            limits = EngineLimits(
                plan.sample.shape.longest + plan.job.longest_answer,
                bool(placed.group.card and placed.group.card.has_fp8_kv),
                placed.weights_share,
            )
            self._oom_steps.learn(card, placed.choice.arguments, limits)
        for slot in placed.group.slots:
            if self.wanted != 0:
                state = self.states.add(card, slot.node)
                self._places.append(slot)
                self._placed.append(placed)
                if placed.group.on_cards or (placed.group.card is None and not slot.served):
                    self._cards[state.number] = slot.cards or (slot.index,)

    @property
    def wanted(self) -> int | None:
        """How many more engines the job could use; None: any number."""
        if self._most is None:
            return None
        own_time = {AbsenceReason.HOURS}  # another card would have to wait as well
        there = [state for state in self.states.left if not state.absent.keys() - own_time]
        return max(0, self._most - len(there))

    def apply_changes(self, changes: MembershipChanges) -> None:
        """Which machines joined the rack, which are gone, and which cards are other jobs' for
        now."""
        for line in changes.notes:
            self._watcher.note(line)
        self.states.gone(changes.gone)
        for placed in changes.placed:
            self.add_group(placed)
        if changes.allotted is not None:
            for number, slot in enumerate(self._places):
                others = None if slot.is_among(changes.allotted) else _OTHERS
                self.states.withdraw(number, AbsenceReason.QUEUE, others)

    def update_availability(self, snapshot: Snapshot = NOTHING_YET) -> None:
        """Find the cards that are not the run's for now: outside its hours, or someone uses
        them."""
        states = []
        for state in self.states.left:
            slot, active = self._places[state.number], self._active.get(state.number)
            ours = Ours.NOTHING
            if active is not None:
                steady = active.worker.name in snapshot.engines and active.leaves is None
                ours = Ours.STEADY if steady else Ours.LOADING
                if told := [card.index for card in snapshot.cards_of(active.worker.name)]:
                    self._cards[state.number] = tuple(told)
            cards = self._cards.get(state.number, ())
            states.append(SlotCards(state.number, state.name, slot.node, slot.host, cards, ours))
        for number, reasons in self._absences.look(states).items():
            for reason, why in reasons.items():
                self.states.withdraw(number, reason, why)

    @property
    def slot_usage(self) -> SlotUsage:
        """Which cards of a rack have an engine of this run, or are about to."""
        cards = _cards_of(self._places[number] for number in self._active)
        return SlotUsage(self._plan.job.name, self._plan.model.name, cards)

    @property
    def needs(self) -> Needs:
        """What the job can use of a rack, as far as it knows."""
        left = {state.number for state in self.states.left if not state.finished}
        useless = _cards_of(p for number, p in enumerate(self._places) if number not in left)
        return Needs(self._most or self._plan.most_engines, useless)

    def wait_for_machines(self, since: float | None) -> float | None:
        """If no machine is left: note since when. Raises JobFailed if that is too long ago."""
        if self.states.left or self.active:
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

    def _placement(self, number: int) -> ActorOptions:
        """What the engine of a slot requests from Ray."""
        slot, group = self._places[number], self._placed[number].group
        job, gpu = group.job(self._spec.job), group.on_cards
        # Ray decides which cards an engine gets only where no one else does
        chosen = CHOSEN_HERE if gpu and self._cluster.chooses_cards else {}
        cards = max(1, len(slot.cards)) if gpu else 0
        if slot.served:
            shared = {SEAT: str(slot.index), SEATS: str(slot.of)}
            return ActorOptions(0, shared, node=slot.node)
        if not job.engine.computes:
            return ActorOptions(cards, {SEAT: str(number)} | chosen, node=slot.node)
        eager = any(a.get("enforce_eager") for a in self._oom_steps.arguments.values())
        environment = vllm_environment(gpu=gpu, eager=eager, core=job.engine.core)
        if gpu:
            return ActorOptions(cards, environment | chosen, node=slot.node)
        there = slot.node is not None
        libraries = slot.preloads if there else None
        environment |= cpu_environment(
            slot.index,
            slot.of,
            slot.cores if there else None,
            libraries,
            parts=job.engine.tensor_parallel_size or 1,
        )
        cpus = len(slot.cores) / slot.of if there else 0
        return ActorOptions(0, environment, cpus, slot.node)

    @property
    def workers(self) -> list[WorkerHandle]:
        return [active.worker for active in self._active.values()]

    def start_workers(self, now: float) -> None:
        """An engine for every slot that should have one."""
        from pipeline.driver.workers.worker_handle import WorkerHandle, find_workers

        for due in self.states.due(now):
            if self._most is not None and len(self._active) >= self._most:
                return  # a card that was away is back, and others replaced it meanwhile
            slot, placement = self._places[due.number], self._placement(due.number)
            arguments = self._oom_steps.arguments
            placed = self._placed[due.number]
            job = placed.group.job(self._spec.job)
            setup = engine_setup(
                job, self._plan.model.hash, placement.environment, arguments[due.card]
            )
            there = find_workers(slot.slot)
            if any(one.busy for one in there):
                self.states.postpone(due.number, now, _BUSY_SECONDS)
                continue
            earlier = there[0] if len(there) == 1 else None
            serves = earlier is not None and earlier.slot == slot.slot and earlier.serves(setup)
            if there and not (serves and self._keeps):
                for one in there:
                    one.kill()  # an engine that this job cannot use
                self.states.postpone(due.number, now, _SOON_SECONDS)
                continue
            if earlier is None and not self._cluster.is_free(placement):
                self.states.postpone(due.number, now, _BUSY_SECONDS)  # another job's, for now
                continue
            state = self.states.taken(due.number)
            self._coordinator.join(state.name, state.card, 1 / placed.estimate.cost.seconds)
            spec = replace(
                self._spec, job=job, engine_arguments=dict(arguments), prove_engine=state.lives > 1
            )
            worker = WorkerHandle(
                state.name,
                state.card,
                spec,
                self._coordinator,
                placement,
                setup,
                kept_as=slot.slot if self._keeps else None,
                earlier=earlier,
                cards=slot.cards if self._cluster.chooses_cards else (),
            )
            if earlier is not None:
                self._watcher.note(f"{state.name}: the engine of an earlier job is still loaded")
            self._active[state.number] = ActiveWorker(worker, arguments[state.card])

    @property
    def _keeps(self) -> bool:
        """Whether engines stay loaded for the next job. Not where the cards are someone else's at
        times: then no one would release them."""
        resources = self._plan.job.resources
        sometimes = resources.yield_to_desktop or resources.hours is not None
        return self._cluster.keeps_engines and not sometimes

    def forget(self, workers: Sequence[WorkerHandle]) -> None:
        """These were killed on purpose."""
        self._active = {n: h for n, h in self._active.items() if h.worker not in workers}

    def look(self, snapshot: Snapshot, *, stopping: bool) -> None:
        """Remove workers that are done and those that were lost. Raises JobFailed when no card is
        left, and any other error of a worker."""
        for number, active in list(self._active.items()):
            worker = active.worker
            loaded = worker.name in snapshot.engines
            if snapshot.done and not loaded:
                worker.kill()  # others were done before its engine was loaded
                del self._active[number]
                continue
            if self._lets_go(number, active, loaded=loaded):
                continue
            silent = worker.name in snapshot.silent
            lost = next((card for card in snapshot.cards_of(worker.name) if card.lost), None)
            if silent or lost is not None:
                worker.kill()
            elif not worker.ended():
                continue
            del self._active[number]
            why = "nothing was heard of it for too long" if silent else worker.failure()
            if lost is not None:
                why = CardLost(lost_in_words(lost, self._places[number].host))
            if why is None:
                if active.leaves is None:
                    self.states.done(number)
                else:
                    self._hand_back(number, active)
                continue
            if isinstance(why, RackmillError) and not isinstance(why, EngineFailed):
                raise why
            worker.kill()  # its process may live on, and hold the card
            if silent and not worker.began:
                self._hand_back(number, active)
                continue
            told = snapshot.workers.get(worker.name, Progress())
            running = told.running if loaded else None
            self._lost(number, active, why, running=running, stopping=stopping)

    def _lets_go(self, number: int, active: ActiveWorker, *, loaded: bool) -> bool:
        """Let the worker of a card that is not the run's now finish the rows in its engine. True if
        it was ended at once: it had nothing to finish, or its time was over."""
        state = self.states[number]
        if not state.withdrawn and active.leaves is None:
            return False
        left = active.seconds_left(state, time.monotonic(), self._grace)
        if loaded and left is not None:
            # repeated, since the coordinator may have been restarted
            self._coordinator.retire(active.worker.name, left)
            return False
        active.worker.kill()
        del self._active[number]
        self._hand_back(number, active)
        return True

    def _hand_back(self, number: int, active: ActiveWorker) -> None:
        """Others do the rows that it still held; no one is to blame."""
        why = f"its card was not this run's: {active.why or 'another job had it'}"
        self._coordinator.worker_lost(active.worker.name, Sighting(DeathCause.TAKEN, why))
        if not self._keeps:
            active.worker.kill()  # its process may live on, and hold the card's memory
        self.states.postpone(number, time.monotonic(), _BUSY_SECONDS)

    def _lost(
        self,
        number: int,
        active: ActiveWorker,
        failure: RackmillError | str,
        *,
        running: int | None,
        stopping: bool,
    ) -> None:
        card, name, arguments = self.states[number].card, active.worker.name, active.arguments
        lighter = None
        if isinstance(failure, EngineOutOfMemory):
            short = failure.shortage
            lighter = self._oom_steps.step_down(card, arguments, short, running=running)
        seen = sighting(failure, away=self.states[number].away, lighter=lighter)
        death = self._coordinator.worker_lost(name, seen)
        if stopping or death.cause is DeathCause.MACHINE_GONE:
            return
        state = self.states.lost(number, time.monotonic(), death)
        if death.lighter is not None:
            why = _first(death.why)
            self._watcher.note(f"{name}: too little memory, on with {death.lighter} ({why})")
        elif state.aside is None:
            self._watcher.worker_lost(name, death.why)
        elif self.states.left:
            self._kept.append(self._cluster.keep_card(self._placement(number)))
            engines = plural(max(state.failures, state.barren), "engine")
            after = (
                "" if death.cause is DeathCause.CARD_LOST else f" after {engines} that got nowhere"
            )
            self._watcher.note(
                f"{name}: set aside{after}, "
                f"{plural(len(self.states.left), 'engine')} left: {_first(death.why)}"
            )
        else:
            log = f"its output is in {self._cluster.log_folder}"
            raise EngineFailed(f"no engine is left: {name} stopped: {death.why}", log)

    def kill(self) -> None:
        """End all of them at once."""
        for worker in self.workers:
            worker.kill()


def _cards_of(slots: Iterable[Slot]) -> frozenset[Key]:
    """Those of a rack."""
    return frozenset(key for slot in slots for key in slot.shared_keys)


def _first(text: str) -> str:
    """The first line of a message, shortened."""
    return shorten(text.strip().partition("\n")[0], _LONGEST_REASON, placeholder=" …")
