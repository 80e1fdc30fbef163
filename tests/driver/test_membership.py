"""Machines that come and go while a job runs, as the job hears of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.cluster.engine_groups import EngineGroup, Slot
from pipeline.cluster.rack_state.allocation import Allocation, Needs
from pipeline.cluster.rack_state.gcs import HeadGone, Node
from pipeline.cluster.rack_state.machines import Machine
from pipeline.cluster.rack_state.slot_usage import SlotUsage
from pipeline.driver.workers.slots.membership import Membership, MembershipChanges
from pipeline.engine.gpu.nvml import DeviceFacts
from pipeline.engine.machine.facts import MachineFacts, own_versions
from pipeline.errors import UsageError
from tests.support.samples import job


def machine(name: str, *cards: str, life: int = 0) -> Machine:
    devices = tuple(
        DeviceFacts(card.title, card.vram_bytes, card.compute_capability)
        for card in map(find_card, cards)
    )
    facts = MachineFacts(name, devices, (0, 1), 16 << 30, "a processor", (), own_versions())
    resources = {"CPU": 2.0, "GPU": float(len(cards))}
    return Machine(Node(f"{name}-{life}", name, "10.0.0.1", True, False, resources), facts)


@dataclass
class Rack:
    there: list[Machine]
    head_is_gone: bool = False
    cards: Any = None  # those allotted to a submitted job
    sign: Any = None

    def machines(self) -> list[Machine]:
        if self.head_is_gone:
            raise HeadGone("no answer")
        return self.there


@dataclass
class Forecast:
    placed: tuple[Any, ...]


@dataclass
class GroupForecast:
    group: EngineGroup


@dataclass
class Forecaster:
    """Knows whether the job fits a card, and nothing else."""

    too_small: set[str] = field(default_factory=set)
    request_tokens: int = 100
    cards: int = 1

    def spread(self, card: Any, alike: int) -> int:
        return self.cards

    def usable(
        self, groups: list[EngineGroup], say: Any, *, context: int | None = None
    ) -> list[EngineGroup]:
        if groups[0].name in self.too_small:
            raise UsageError("it does not fit")
        return groups

    def forecast(self, groups: list[EngineGroup]) -> Forecast:
        return Forecast(tuple(GroupForecast(group) for group in groups))


def membership(rack: Rack, *too_small: str) -> Membership:
    known = EngineGroup(1, find_card("rtx4090"), slots=(Slot(0, node="a-0", host="a"),))
    forecaster: Any = Forecaster(set(too_small))
    return Membership(job(), forecaster, rack, [known])


def slots(changes: Any) -> list[tuple[str, int]]:
    return [(p.host, p.index) for placed in changes.placed for p in placed.group.slots]


def test_who_was_there_is_no_news() -> None:
    changes = membership(Rack([machine("a", "rtx4090")])).look()

    assert (changes.placed, changes.gone, changes.notes) == ((), frozenset(), ())


def test_a_machine_that_joins_brings_its_cards_once() -> None:
    watch = membership(Rack([machine("a", "rtx4090"), machine("b", "rtx3090", "rtx3090")]))

    first, second = watch.look(), watch.look()

    assert slots(first) == [("b", 0), ("b", 1)]
    assert first.notes == ("b is there: 2 more engines",)
    assert slots(second) == []


def test_a_machine_that_comes_back_is_a_new_one() -> None:
    rack = Rack([])
    watch = membership(rack)
    away = watch.look()
    rack.there = [machine("a", "rtx4090", life=1)]

    back = watch.look()

    assert away.gone == {"a-0"}
    assert away.notes == ("a is gone: its rows are done by others",)
    assert slots(back) == [("a", 0)]


def test_a_card_on_which_the_job_does_not_fit_is_left_out_and_that_is_said_once() -> None:
    watch = membership(Rack([machine("a", "rtx4090"), machine("b", "rtx3060")]), "rtx3060")

    assert watch.look().notes == ("left out: it does not fit",)
    assert watch.look().notes == ()


def test_a_job_on_cards_does_not_take_processors_when_no_card_is_left() -> None:
    assert slots(membership(Rack([machine("b")])).look()) == []


@pytest.mark.parametrize("looks", [1, 5])
def test_nobody_is_gone_because_the_head_does_not_answer(looks: int) -> None:
    watch = membership(Rack([], head_is_gone=True))

    for _ in range(looks):
        assert watch.look().gone == frozenset()


def test_cards_of_a_machine_that_joins_are_put_together_as_engines_take_them() -> None:
    watch = membership(Rack([machine("a", "rtx4090"), machine("b", *["rtx3060"] * 3)]))
    watch.forecaster.cards = 2  # type: ignore[misc, attr-defined]
    changes = watch.look()

    [placed] = changes.placed
    assert (placed.group.name, placed.group.slots[0].cards) == ("2x rtx3060", (0, 1))
    assert "left out: b: 1x RTX 3060 left over: an engine takes 2 alike" in changes.notes


@dataclass
class Cards:
    """Those that the queue gave to the job, and what it was told."""

    allotment: Allocation | None = None
    said: list[Needs] = field(default_factory=list)
    head_is_gone: bool = False
    patient: bool = False

    def look(self) -> Allocation | None:
        if self.head_is_gone:
            raise HeadGone("no answer")
        return self.allotment

    def say(self, needs: Needs) -> None:
        self.said.append(needs)


def allotted(*cards: tuple[str, int], why: str = "") -> Allocation:
    return Allocation(frozenset(cards), why)


class TestSubmittedJob:
    """Of which a queue says on which cards it may be."""

    def watch(self, cards: Any, rack: Rack | None = None, *too_small: str) -> Membership:
        there = [machine("a", "rtx4090"), machine("b", "rtx4090", "rtx3060")]
        watch = membership(rack or Rack(there), *too_small)
        watch.rack.cards = cards
        return watch

    def test_it_hears_which_cards_are_its_own(self) -> None:
        changes = self.watch(Cards(allotted(("a-0", 0)))).look()

        assert (changes.allotted, changes.placed, changes.stop) == ({("a-0", 0)}, (), "")

    def test_a_card_that_is_given_to_it_is_a_new_place(self) -> None:
        cards = Cards(allotted(("a-0", 0)))
        watch = self.watch(cards)
        watch.look()
        cards.allotment = allotted(("a-0", 0), ("b-0", 1))

        assert slots(watch.look()) == [("b", 1)]
        assert slots(watch.look()) == []

    def test_a_card_that_is_given_back_to_it_is_no_new_place(self) -> None:
        cards = Cards(allotted(("a-0", 0), ("b-0", 0)))
        watch = self.watch(cards)
        watch.look()
        cards.allotment = allotted(("a-0", 0))
        assert watch.look().allotted == {("a-0", 0)}
        cards.allotment = allotted(("a-0", 0), ("b-0", 0))

        changes = watch.look()
        assert (changes.allotted, slots(changes)) == ({("a-0", 0), ("b-0", 0)}, [])

    @pytest.mark.parametrize("why", ["rackmill stop", "its deadline", "the queue"])
    def test_without_any_card_it_hears_who_wants_it_to_stop(self, why: str) -> None:
        cards = Cards(allotted(("a-0", 0)))
        watch = self.watch(cards)
        watch.look()
        cards.allotment = allotted(why=why)

        changes = watch.look()
        assert changes.stop == why
        assert changes.allotted == {("a-0", 0)}  # they are its own until it has ended

    def test_a_head_that_does_not_answer_changes_nothing(self) -> None:
        cards = Cards(allotted(("a-0", 0)))
        watch = self.watch(cards)
        watch.look()
        cards.head_is_gone = True

        assert watch.look() == MembershipChanges()

    def test_a_head_that_was_started_again_and_says_nothing_changes_nothing(self) -> None:
        cards = Cards(allotted(("a-0", 0)))
        watch = self.watch(cards)
        watch.look()
        cards.allotment = None

        changes = watch.look()
        assert (changes.allotted, changes.stop) == ({("a-0", 0)}, "")

    def test_it_takes_no_more_than_it_wants(self) -> None:
        cards = Cards(allotted(("a-0", 0), ("b-0", 0), ("b-0", 1)))
        watch = self.watch(cards)

        assert slots(watch.look(wanted=1)) == [("b", 0)]
        assert slots(watch.look(wanted=0)) == []
        assert slots(watch.look(wanted=1)) == [("b", 1)]

    def test_the_queue_is_told_what_it_needs(self) -> None:
        cards = Cards(allotted(("a-0", 0)))
        self.watch(cards).look(needs=Needs(3, frozenset({("a-0", 0)})))

        assert cards.said == [Needs(3, frozenset({("a-0", 0)}))]

    def test_and_of_cards_on_which_it_does_not_fit(self) -> None:
        cards = Cards(allotted(("a-0", 0), ("b-0", 1)))
        watch = self.watch(cards, None, "rtx3060")
        for _ in range(2):
            watch.look(needs=Needs(3))

        assert cards.said[-1] == Needs(3, frozenset({("b-0", 1)}))


def test_everybody_is_told_on_which_cards_a_run_is_at_work() -> None:
    said: list[SlotUsage] = []
    sign: Any = type("Sign", (), {"say": lambda self, work: said.append(work)})()
    watch = membership(Rack([machine("a", "rtx4090")]))
    watch.rack.sign = sign
    work = SlotUsage("tweets", "gemma-3-270m", frozenset({("a-0", 0)}))
    watch.look(slot_usage=work)

    assert said == [work]
