"""A job with engines on cards, as its driver sees them: no Ray, no engine, workers that end when
they are told to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from pipeline.budget.cards.lookup import find_card
from pipeline.cluster.engine_groups import EngineGroup, Slot, keys_in
from pipeline.dispatch.events import Blame
from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.workers.death import DeathOutcome, Sighting, death_outcome
from pipeline.driver.workers.slots.availability import Availability
from pipeline.driver.workers.slots.membership import MembershipChanges
from pipeline.driver.workers.supervisor import Supervisor
from pipeline.engine.machine.vitals import Vitals
from pipeline.engine.reuse import EngineSetup
from pipeline.output.columns.results import OutputColumns
from pipeline.output.tally import Tally
from pipeline.worker.coordination.messages import WorkerSpec
from tests.support.samples import job

LATER = 10.0  # seconds: any wait for a card is over


@dataclass
class Earlier:
    """Who was at work on a card for an earlier job."""

    useful: bool = True
    busy: bool = False
    killed: bool = False
    slot: str = "worker/a/0"

    def serves(self, setup: EngineSetup) -> bool:
        return self.useful

    def kill(self) -> None:
        self.killed = True


@dataclass
class Handle:
    """A worker that ends when it is told to."""

    name: str
    slot: str | None
    earlier: Earlier | None
    placement: Any = None
    cards: tuple[int, ...] = ()
    began: bool = True
    over: bool = False
    why: Any = None
    killed: bool = False

    def ended(self) -> bool:
        return self.over

    def failure(self) -> Any:
        return self.why

    def kill(self) -> None:
        self.killed = True


@dataclass
class Coordinator:
    """What the driver tells it."""

    joined: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    lost: list[tuple[str, bool]] = field(default_factory=list)  # whether of no row
    seconds: list[float] = field(default_factory=list)  # that the retired ones have

    def join(self, worker: str, card: str, rate: float) -> None:
        self.joined.append(worker)

    def retire(self, worker: str, seconds: float) -> None:
        self.retired.append(worker)
        self.seconds.append(seconds)

    def worker_lost(self, worker: str, seen: Sighting) -> DeathOutcome:
        outcome = death_outcome(seen, None)
        self.lost.append((worker, outcome.blame is Blame.NO_ROW))
        return outcome


class Rack:
    """A job on two slots of one machine, of so many ``cards`` each."""

    def __init__(
        self,
        grace: float = 30.0,
        wanted: int | str = "auto",
        players: Any = None,
        hours: str | None = None,
        cards: int = 1,
    ) -> None:
        resources = {"workers": wanted, "yield_to_desktop": players is not None, "hours": hours}
        asked = job(
            engine={"kind": "simulated"},
            faults={"grace_seconds": grace},
            resources=resources | ({"timezone": "UTC"} if hours else {}),
        )
        self.vitals: dict[str, Vitals] = {}
        self.keeps_engines = self.chooses_cards = True
        self.free = True
        self.coordinator = Coordinator()
        self.hired: list[Handle] = []
        self.earlier: dict[str, Earlier] = {}
        self.loaded: set[str] = set()
        self.notes: list[str] = []
        plan: Any = SimpleNamespace(
            job=asked,
            model=SimpleNamespace(hash="hash", name="gemma-3-270m"),
            sample=SimpleNamespace(shape=SimpleNamespace(longest=40)),
            missing=[1, 2, 3],
            most_engines=3,
        )
        watcher = Watcher()
        watcher.note = self.notes.append  # type: ignore[method-assign]
        spec = WorkerSpec(
            asked, (), pa.schema([]), OutputColumns(asked, (), pa.schema([])), plan.model, {}, {}
        )
        absences = Availability(asked.resources, players, lambda line: None)
        self.workers = Supervisor(plan, self, watcher, self.coordinator, spec, absences)
        self.cards = cards
        self.add_group(0, cards)

    def add_group(self, *firsts: int) -> None:
        """Slots on the machine that begin with these cards, for engines."""
        slots = tuple(
            Slot(at, node="a", host="a", cards=tuple(range(at, at + self.cards))) for at in firsts
        )
        placed: Any = SimpleNamespace(
            group=EngineGroup(len(slots), find_card("rtx4090"), slots=slots, cards=self.cards),
            choice=SimpleNamespace(arguments={}),
            weights_share=0.0,
            estimate=SimpleNamespace(cost=SimpleNamespace(seconds=1.0)),
        )
        self.workers.add_group(placed)

    def is_free(self, placement: Any) -> bool:
        return self.free

    def keep_card(self, placement: Any) -> None: ...

    log_folder = "logs"

    def find(self, slot: str) -> list[Earlier]:
        return [one for name, one in self.earlier.items() if keys_in(name) & keys_in(slot)]

    def make(self, name: str, card: str, spec: Any, coordinator: Any, placement: Any, setup: Any,
             **more: Any) -> Handle:  # fmt: skip
        self.hired.append(Handle(name, more.pop("kept_as"), placement=placement, **more))
        return self.hired[-1]

    def start_workers(self, after: float = 0.0) -> list[str]:
        """Who is new."""
        before = len(self.hired)
        self.workers.start_workers(time.monotonic() + after)
        return [one.name for one in self.hired[before:]]

    def allot(self, *cards: tuple[str, int]) -> None:
        self.workers.apply_changes(MembershipChanges(allotted=frozenset(cards)))

    def look(self, *, done: bool = False) -> None:
        engines: Mapping[str, Any] = dict.fromkeys(self.loaded)
        snapshot = Snapshot(3, 3 if done else 0, Tally(), {}, engines, vitals=self.vitals)
        self.workers.look(snapshot, stopping=False)
