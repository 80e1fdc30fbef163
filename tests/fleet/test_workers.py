"""Engines and their cards from the driver's view, without Ray: who is hired, who has to let its
card go, and who finds an engine that an earlier job has left there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.budget.cards import find_card
from pipeline.data.results import OutputColumns
from pipeline.data.tally import Tally
from pipeline.engine.card_reading import CardReading
from pipeline.engine.kept import EngineSetup
from pipeline.engine.vitals import Vitals
from pipeline.errors import CardLost, EngineFailed
from pipeline.fleet import hired, worker_actor
from pipeline.fleet.absence import Absences
from pipeline.fleet.coordinator import Loss, Snapshot
from pipeline.fleet.crew import Crew, Place, keys_in
from pipeline.fleet.recruit import News
from pipeline.fleet.watcher import Watcher
from pipeline.fleet.work import WorkerSpec
from pipeline.fleet.workers import Workers
from pipeline.schedule.desktop import DesktopCall
from tests.samples import job

A0, A1 = ("a", 0), ("a", 1)
_LATER = 10.0  # seconds: any wait for a card is over
_HOUR = datetime.now(UTC).hour
_NEVER_NOW = f"{(_HOUR + 12) % 24:02}:00-{(_HOUR + 13) % 24:02}:00"


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
    lost: list[tuple[str, bool]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # that the retired ones have

    def join(self, worker: str, card: str, rate: float) -> None:
        self.joined.append(worker)

    def retire(self, worker: str, seconds: float) -> None:
        self.retired.append(worker)
        self.seconds.append(seconds)

    def worker_lost(self, worker: str, why: str, *, blameless: bool = False) -> Loss:
        self.lost.append((worker, blameless))
        return Loss(why)


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
        )
        watcher = Watcher()
        watcher.note = self.notes.append  # type: ignore[method-assign]
        spec = WorkerSpec(
            asked, (), pa.schema([]), OutputColumns((), None, pa.schema([])), plan.model, {}, {}
        )
        absences = Absences(asked.resources, players, lambda line: None)
        self.workers = Workers(plan, self, watcher, self.coordinator, spec, absences)
        self.cards = cards
        self.enlist(0, cards)

    def enlist(self, *firsts: int) -> None:
        """Slots on the machine that begin with these cards, for engines."""
        places = tuple(
            Place(at, node="a", host="a", cards=tuple(range(at, at + self.cards))) for at in firsts
        )
        placed: Any = SimpleNamespace(
            crew=Crew(len(places), find_card("rtx4090"), places=places, cards=self.cards),
            choice=SimpleNamespace(arguments={}),
            estimate=SimpleNamespace(cost=SimpleNamespace(seconds=1.0)),
        )
        self.workers.enlist(placed)

    def is_free(self, placement: Any) -> bool:
        return self.free

    def keep_card(self, placement: Any) -> None: ...

    log_folder = "logs"

    def find(self, slot: str) -> list[Earlier]:
        return [one for name, one in self.earlier.items() if keys_in(name) & keys_in(slot)]

    def make(self, name: str, card: str, spec: Any, coordinator: Any, placement: Any, keeping: Any,
             earlier: Earlier | None, cards: tuple[int, ...]) -> Handle:  # fmt: skip
        self.hired.append(Handle(name, keeping and keeping.slot, earlier, placement, cards))
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
        snapshot = Snapshot(3, 3 if done else 0, Tally(), {}, engines, vitals=self.vitals)
        self.workers.look(snapshot, stopping=False)


@pytest.fixture
def new_rack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def make(**given: Any) -> Rack:
        rack = Rack(**given)
        monkeypatch.setattr(worker_actor, "WorkerHandle", rack.make)
        monkeypatch.setattr(worker_actor, "find_workers", rack.find)
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


class TestSlotOfTwoCards:
    """Cards 0 and 1 are the first slot's, 2 and 3 the second's."""

    @pytest.fixture
    def pairs(self, new_rack: Any) -> Rack:
        made: Rack = new_rack(cards=2)
        return made

    def test_its_engine_asks_for_both_and_is_told_which(self, pairs: Rack) -> None:
        pairs.hire()

        assert [one.placement.gpus for one in pairs.hired] == [2, 2]
        assert [one.cards for one in pairs.hired] == [(0, 1), (2, 3)]
        assert [one.slot for one in pairs.hired] == ["worker/a/0+1", "worker/a/2+3"]

    def test_where_others_may_be_at_work_ray_says_which(self, pairs: Rack) -> None:
        pairs.chooses_cards = False
        pairs.hire()

        assert [one.cards for one in pairs.hired] == [(), ()]
        assert all(not name.startswith("RAY") for name in pairs.hired[0].placement.environment)

    def test_it_is_left_when_one_of_its_cards_is_another_jobs(self, pairs: Rack) -> None:
        pairs.hire()
        pairs.allot(A0, ("a", 2), ("a", 3))
        pairs.look()

        assert [one.killed for one in pairs.hired] == [True, False]
        assert pairs.workers.at_work_on.cards == {("a", 2), ("a", 3)}

    def test_engines_on_its_single_cards_are_ended_first(self, pairs: Rack) -> None:
        for number in (0, 1, 2, 3):
            pairs.earlier[f"worker/a/{number}"] = Earlier(slot=f"worker/a/{number}")
        assert pairs.hire() == []
        assert all(one.killed for one in pairs.earlier.values())

    def test_an_engine_over_two_cards_is_waited_for_on_each_of_them(self, rack: Rack) -> None:
        rack.earlier["worker/a/0+1"] = Earlier(busy=True)

        assert rack.hire() == []

    def test_all_its_cards_are_of_no_use_where_its_engine_is(self, pairs: Rack) -> None:
        pairs.hire()
        pairs.workers.seats.done(0)

        assert pairs.workers.needs.useless == {A0, A1}


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


class Players:
    """Who plays on the cards of the rack's machine."""

    def __init__(self) -> None:
        self.calls: dict[int, DesktopCall] = {}

    def look(self, ours: Any, hosts: Any) -> None: ...

    def call(self, node: Any, index: int) -> DesktopCall:
        return self.calls.get(index, DesktopCall(away=False))


@pytest.fixture
def players() -> Players:
    return Players()


@pytest.fixture
def desk(new_rack: Any, players: Players) -> Rack:
    """Two engines at work, for a job that yields to the desktop."""
    made: Rack = new_rack(players=players)
    made.hire()
    made.loaded = {"worker-0", "worker-1"}
    return made


class TestCardThatIsPlayedOn:
    def look(self, rack: Rack) -> None:
        rack.workers.look_away()
        rack.look()

    def play(self, rack: Rack, players: Players, *cards: int) -> None:
        players.calls = {card: DesktopCall(away=True, why="game uses 60% of it") for card in cards}
        self.look(rack)

    def test_its_engine_has_five_seconds_at_most(self, desk: Rack, players: Players) -> None:
        self.play(desk, players, 0)

        assert desk.coordinator.retired == ["worker-0"]
        assert 4 < desk.coordinator.seconds[0] <= 5

    def test_its_engine_is_not_kept_for_others(self, desk: Rack, players: Players) -> None:
        """Nobody would see to it that it leaves the card to those who play."""
        assert [one.slot for one in desk.hired] == [None, None]
        self.play(desk, players, 0)
        desk.hired[0].over = True
        desk.look()

        assert desk.hired[0].killed  # so that the card's memory is free
        assert desk.coordinator.lost == [("worker-0", True)]

    def test_it_gets_an_engine_again_when_nobody_plays(self, desk: Rack, players: Players) -> None:
        self.play(desk, players, 0)
        desk.hired[0].over = True
        self.look(desk)
        assert desk.hire(_LATER) == []
        self.play(desk, players)

        assert desk.hire(_LATER) == ["worker-0.1"]
        assert desk.workers.seats[0].failures == 0

    def test_while_all_are_played_on_the_run_waits_and_says_for_whom(
        self, desk: Rack, players: Players
    ) -> None:
        self.play(desk, players, 0, 1)
        assert desk.workers.waits_for == ""  # they still finish what they are at
        for one in desk.hired:
            one.over = True
        self.look(desk)

        assert not desk.workers.at_work
        assert desk.workers.may_work
        assert desk.workers.waits_for == "game uses 60% of it"

    def test_another_card_is_taken_in_its_place_but_not_one_more_in_the_end(
        self, new_rack: Any, players: Players
    ) -> None:
        rack = new_rack(players=players, wanted=1)
        rack.hire()
        rack.loaded = {"worker-0"}
        self.play(rack, players, 0)
        assert rack.workers.wanted == 1
        rack.hired[0].over = True
        self.look(rack)
        rack.enlist(1)
        assert rack.hire(_LATER) == ["worker-1"]
        self.play(rack, players)

        assert rack.hire(_LATER) == []

    def test_outside_of_its_hours_no_other_card_would_help(self, new_rack: Any) -> None:
        rack = new_rack(wanted=1, hours=_NEVER_NOW)
        rack.workers.look_away()

        assert rack.workers.wanted == 0
        assert rack.hire() == []


class TestCardThatFellOffTheBus:
    LOST = CardReading(1, "NVIDIA GeForce RTX 4090", lost=True)

    def test_it_is_set_aside_by_name_and_the_job_goes_on(self, rack: Rack) -> None:
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"}
        rack.vitals = {"worker-1": Vitals(0, 1, (self.LOST,))}
        rack.look()

        assert rack.hired[1].killed
        assert rack.coordinator.lost == [("worker-1", True)]  # no row is to blame
        assert rack.notes == [
            "worker-1: set aside, 1 engine left: the RTX 4090 (card 1 of a) has fallen off the "
            "bus: restart its machine; if it happens again, look at the card's power cables, heat "
            "and seat"
        ]
        assert rack.hire(_LATER) == []

    def test_the_last_one_ends_the_job_with_what_to_do(self, new_rack: Any) -> None:
        rack = new_rack(wanted=1)
        rack.hire()
        rack.vitals = {"worker-0": Vitals(0, 1, (self.LOST,))}
        with pytest.raises(
            EngineFailed, match=r"no engine is left: .* fallen off the bus: restart"
        ):
            rack.look()

    def test_a_worker_that_says_so_itself_is_believed(self, rack: Rack) -> None:
        rack.hire()
        rack.loaded = {"worker-0", "worker-1"}
        rack.hired[1].over, rack.hired[1].why = True, CardLost("the RTX 4090 has fallen off")
        rack.look()

        assert rack.notes == ["worker-1: set aside, 1 engine left: the RTX 4090 has fallen off"]
