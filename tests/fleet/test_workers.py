"""Engines and their cards from the driver's view, without Ray: who is hired, who has to let its
card go, and who finds an engine that an earlier job has left there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.budget.cards import find_card
from pipeline.data.results import OutputColumns
from pipeline.data.tally import Tally
from pipeline.engine.kept import EngineSetup
from pipeline.errors import EngineFailed
from pipeline.fleet import hired, worker_actor
from pipeline.fleet.coordinator import Loss, Snapshot
from pipeline.fleet.crew import Crew, Place
from pipeline.fleet.recruit import News
from pipeline.fleet.watcher import Watcher
from pipeline.fleet.work import WorkerSpec
from pipeline.fleet.workers import Workers
from tests.samples import job

A0, A1 = ("a", 0), ("a", 1)
_LATER = 10.0  # seconds: any wait for a card is over


@dataclass
class Earlier:
    """Who was at work on a card for an earlier job."""

    useful: bool = True
    busy: bool = False
    killed: bool = False

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
    lost: list[tuple[str, bool]] = field(default_factory=list)

    def join(self, worker: str, card: str, rate: float) -> None:
        self.joined.append(worker)

    def retire(self, worker: str, seconds: float) -> None:
        self.retired.append(worker)

    def worker_lost(self, worker: str, why: str, *, blameless: bool = False) -> Loss:
        self.lost.append((worker, blameless))
        return Loss(why)


class Rack:
    """A job on two cards of one machine."""

    def __init__(self, grace: float = 30.0, wanted: int | str = "auto") -> None:
        asked = job(
            engine={"kind": "simulated"},
            faults={"grace_seconds": grace},
            resources={"workers": wanted},
        )
        self.keeps_engines = True
        self.free = True
        self.coordinator = Coordinator()
        self.hired: list[Handle] = []
        self.earlier: dict[str | None, Earlier] = {}
        self.loaded: set[str] = set()
        self.notes: list[str] = []
        plan: Any = SimpleNamespace(
            job=asked,
            model=SimpleNamespace(hash="hash", name="gemma-3-270m"),
            sample=SimpleNamespace(shape=SimpleNamespace(longest=40)),
            missing=[1, 2, 3],
        )
        watcher = Watcher()
        watcher.note = self.notes.append  # type: ignore[method-assign]
        spec = WorkerSpec(
            asked, (), pa.schema([]), OutputColumns((), None, pa.schema([])), plan.model, {}, {}
        )
        self.workers = Workers(plan, self, watcher, self.coordinator, spec)
        places = (Place(0, node="a", host="a"), Place(1, node="a", host="a"))
        placed: Any = SimpleNamespace(
            crew=Crew(2, find_card("rtx4090"), places=places),
            choice=SimpleNamespace(arguments={}),
            estimate=SimpleNamespace(cost=SimpleNamespace(seconds=1.0)),
        )
        self.workers.enlist(placed)

    def is_free(self, placement: Any) -> bool:
        return self.free

    def keep_card(self, placement: Any) -> None: ...

    log_folder = "logs"

    def find(self, slot: str | None) -> Earlier | None:
        return self.earlier.get(slot)

    def make(self, name: str, card: str, spec: Any, coordinator: Any, placement: Any, keeping: Any,
             earlier: Earlier | None) -> Handle:  # fmt: skip
        self.hired.append(Handle(name, keeping and keeping.slot, earlier))
        return self.hired[-1]

    def hire(self, after: float = 0.0) -> list[str]:
        """Who is new."""
        before = len(self.hired)
        self.workers.hire(time.monotonic() + after)
        return [one.name for one in self.hired[before:]]

    def allot(self, *cards: tuple[str, int]) -> None:
        self.workers.hear(News(allotted=frozenset(cards)))

    def look(self, *, done: bool = False) -> None:
        engines: Mapping[str, Any] = dict.fromkeys(self.loaded)
        snapshot = Snapshot(3, 3 if done else 0, Tally(), {}, engines)
        self.workers.look(snapshot, stopping=False)


@pytest.fixture
def new_rack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def make(**given: Any) -> Rack:
        rack = Rack(**given)
        monkeypatch.setattr(worker_actor, "WorkerHandle", rack.make)
        monkeypatch.setattr(worker_actor, "find_worker", rack.find)
        return rack

    return make


@pytest.fixture
def rack(new_rack: Any) -> Rack:
    made: Rack = new_rack()
    return made


class TestHire:
    def test_every_card_gets_an_engine_that_others_find_by_its_place(self, rack: Rack) -> None:
        assert rack.hire() == ["worker-0", "worker-1"]
        assert [one.slot for one in rack.hired] == ["worker/a/0", "worker/a/1"]
        assert rack.coordinator.joined == ["worker-0", "worker-1"]
        assert rack.hire(_LATER) == []

    def test_where_no_queue_has_the_cards_engines_are_not_kept(self, rack: Rack) -> None:
        rack.keeps_engines = False
        rack.hire()

        assert [one.slot for one in rack.hired] == [None, None]

    def test_there_are_no_more_than_the_job_wants(self, new_rack: Any) -> None:
        assert new_rack(wanted=1).hire() == ["worker-0"]

    def test_a_card_that_is_not_free_is_looked_at_again(self, rack: Rack) -> None:
        rack.free = False
        assert rack.hire() == []
        rack.free = True

        assert rack.hire() == []
        assert rack.hire(_LATER) == ["worker-0", "worker-1"]

    def test_an_engine_that_an_earlier_job_left_is_used(self, rack: Rack) -> None:
        """Its card is not free: it is there itself."""
        rack.earlier["worker/a/0"] = Earlier()
        rack.free = False
        rack.hire()

        [one] = rack.hired
        assert one.earlier is rack.earlier["worker/a/0"]
        assert not one.earlier.killed
        assert rack.notes == ["worker-0: the engine of an earlier job is still loaded"]

    def test_one_that_is_of_no_use_is_ended_and_then_replaced(self, rack: Rack) -> None:
        useless = rack.earlier["worker/a/0"] = Earlier(useful=False)
        assert rack.hire() == ["worker-1"]
        assert useless.killed

        del rack.earlier["worker/a/0"]
        assert rack.hire(_LATER) == ["worker-0"]

    def test_one_that_is_at_work_for_another_job_is_waited_for(self, rack: Rack) -> None:
        other = rack.earlier["worker/a/0"] = Earlier(useful=False, busy=True)
        assert rack.hire() == ["worker-1"]
        assert not other.killed

        other.busy, other.useful = False, True
        assert rack.hire(_LATER) == ["worker-0"]

    def test_a_run_that_keeps_no_engines_uses_none(self, rack: Rack) -> None:
        rack.keeps_engines = False
        kept = rack.earlier["worker/a/0"] = Earlier()
        rack.hire()

        assert kept.killed
        assert [one.name for one in rack.hired] == ["worker-1"]


class TestCardOfAnotherJob:
    def test_it_gets_no_engine(self, rack: Rack) -> None:
        rack.allot(A1)

        assert rack.hire() == ["worker-1"]

    def test_an_engine_that_still_loads_is_ended_at_once(self, rack: Rack) -> None:
        rack.hire()
        rack.allot(A1)
        rack.look()

        assert [one.killed for one in rack.hired] == [True, False]
        assert rack.coordinator.lost == [("worker-0", True)]
        assert rack.coordinator.retired == []

    def test_an_engine_at_work_is_told_to_finish_again_and_again(self, rack: Rack) -> None:
        """The coordinator may have been restarted."""
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        for _ in range(3):
            rack.look()

        assert rack.coordinator.retired == ["worker-0"] * 3
        assert not any(one.killed for one in rack.hired)
        assert rack.coordinator.lost == []

    def test_what_it_still_held_is_given_to_others_when_it_has_ended(self, rack: Rack) -> None:
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        rack.look()
        rack.hired[0].over = True
        rack.look()

        assert rack.coordinator.lost == [("worker-0", True)]
        assert not rack.hired[0].killed  # its engine is kept for whoever comes
        assert [one.name for one in rack.workers.workers] == ["worker-1"]

    def test_who_does_not_finish_in_time_is_ended(
        self, new_rack: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hired, "_CLOSING_SECONDS", 0.0)
        rack = new_rack(grace=0.0)
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        rack.look()

        assert [one.killed for one in rack.hired] == [True, False]
        assert rack.coordinator.lost == [("worker-0", True)]

    @pytest.mark.parametrize("loaded", [False, True])
    def test_it_gets_another_engine_when_it_is_given_back(self, rack: Rack, loaded: bool) -> None:
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"} if loaded else set()
        rack.allot(A1)
        rack.look()
        rack.hired[0].over = True
        rack.look()
        assert rack.hire(_LATER) == []
        rack.allot(A0, A1)

        assert rack.hire(_LATER) == ["worker-0.1"]

    def test_given_back_while_its_engine_finishes_it_is_hired_for_after_that(
        self, rack: Rack
    ) -> None:
        """The worker was told to end, and does."""
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        rack.look()
        rack.allot(A0, A1)
        rack.look()
        assert rack.hire(_LATER) == []
        rack.hired[0].over = True
        rack.look()

        assert rack.hire(_LATER) == ["worker-0.1"]

    def test_it_may_be_given_back_so_the_job_is_not_over(self, rack: Rack) -> None:
        rack.allot()
        assert not rack.workers.at_work

        assert rack.workers.may_work

    def test_one_more_is_wanted_in_its_place(self, new_rack: Any) -> None:
        rack = new_rack(wanted=1)
        assert rack.workers.wanted == 0
        rack.allot(A1)

        assert rack.workers.wanted == 1

    def test_a_worker_that_dies_on_the_way_out_is_lost_as_any_other(self, rack: Rack) -> None:
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        rack.look()
        rack.hired[0].over, rack.hired[0].why = True, EngineFailed("it fell over")
        rack.look()

        assert rack.coordinator.lost == [("worker-0", False)]


class TestNeeds:
    def test_a_job_needs_one_card_for_each_unit_at_most(self, rack: Rack) -> None:
        assert rack.workers.needs.most == 3

    def test_and_no_more_than_its_file_says(self, new_rack: Any) -> None:
        assert new_rack(wanted=1).workers.needs.most == 1

    def test_a_card_that_is_done_with_is_of_no_use(self, rack: Rack) -> None:
        rack.hire()
        assert rack.workers.needs.useless == frozenset()
        rack.loaded = {"worker-0", "worker-1"}
        rack.hired[0].over = True
        rack.look()

        assert rack.workers.needs.useless == {A0}

    def test_a_card_of_another_job_may_be_of_use_again(self, rack: Rack) -> None:
        rack.allot(A1)

        assert rack.workers.needs.useless == frozenset()

    def test_the_rack_is_told_of_cards_with_an_engine(self, rack: Rack) -> None:
        rack.allot(A1)
        assert rack.workers.at_work_on.cards == frozenset()
        rack.hire()

        at_work = rack.workers.at_work_on
        assert (at_work.job, at_work.model, at_work.cards) == ("sample", "gemma-3-270m", {A1})


def test_when_all_is_done_engines_that_still_load_are_ended(rack: Rack) -> None:
    rack.hire()
    rack.loaded = {"worker-1"}
    rack.look(done=True)

    assert [one.killed for one in rack.hired] == [True, False]
    assert rack.coordinator.lost == []
