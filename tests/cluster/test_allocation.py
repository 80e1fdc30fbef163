"""What the queue of a rack and the driver of a job tell each other, and what drivers tell all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster.rack_state import slot_usage
from pipeline.cluster.rack_state.allocation import (
    AllocatedCards,
    Allocation,
    Needs,
    allot,
    allotted_to,
    forget,
    needs_of,
)
from pipeline.cluster.rack_state.slot_usage import SlotUsage, SlotUsageSign
from tests.service.queue.memory_gcs import MemoryGcs

CARDS = frozenset({("a", 0), ("b", 1)})


@pytest.fixture
def gcs() -> Any:
    return MemoryGcs()


def test_a_driver_hears_what_its_queue_says_last(gcs: Any) -> None:
    cards = AllocatedCards(gcs, "one")
    assert cards.look() is None

    for allotment in (Allocation(CARDS), Allocation(why="rackmill stop")):
        allot(gcs, "one", allotment)
        assert cards.look() == allotment
        assert allotted_to(gcs, "two") is None


def test_the_queue_hears_what_drivers_need(gcs: Any) -> None:
    AllocatedCards(gcs, "one").say(Needs(2, CARDS))
    AllocatedCards(gcs, "two").say(Needs())

    assert needs_of(gcs, ["one", "two", "three"]) == {"one": Needs(2, CARDS), "two": Needs()}


def test_what_was_said_is_not_said_again(gcs: Any) -> None:
    cards = AllocatedCards(gcs, "one")
    cards.say(Needs(2))
    gcs.values.clear()
    cards.say(Needs(2))
    assert gcs.values == {}

    cards.say(Needs(1))
    assert needs_of(gcs, ["one"]) == {"one": Needs(1)}


def test_of_a_job_without_a_driver_nothing_is_left(gcs: Any) -> None:
    for job in ("one", "two"):
        allot(gcs, job, Allocation(CARDS))
        AllocatedCards(gcs, job).say(Needs(2))
    forget(gcs, "one")

    assert sorted(gcs.values) == ["allotted/two", "needs/two"]


class TestAtWork:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        clock = SimpleNamespace(now=1000.0)
        clock.time = clock.monotonic = lambda: clock.now
        monkeypatch.setattr(slot_usage, "time", clock)
        return clock

    def test_everybody_sees_which_job_has_which_card(self, gcs: Any, clock: Any) -> None:
        one, two = SlotUsage("one", "m", CARDS), SlotUsage("two", "n", frozenset({("c", 0)}))
        SlotUsageSign(gcs, "run-1").say(one)
        SlotUsageSign(gcs, "run-2").say(two)

        assert slot_usage.slot_usage(gcs) == {("a", 0): one, ("b", 1): one, ("c", 0): two}

    def test_who_says_it_no_more_is_no_more_at_work(self, gcs: Any, clock: Any) -> None:
        sign, work = SlotUsageSign(gcs, "run-1"), SlotUsage("one", "m", CARDS)
        for _ in range(9):
            sign.say(work)
            clock.now += 9.0
        assert slot_usage.slot_usage(gcs)

        clock.now += 60.0
        assert slot_usage.slot_usage(gcs) == {}

    def test_what_has_not_changed_is_not_said_every_second(self, gcs: Any, clock: Any) -> None:
        sign = SlotUsageSign(gcs, "run-1")
        sign.say(SlotUsage("one", "m", CARDS))
        gcs.values.clear()
        clock.now += 1.0
        sign.say(SlotUsage("one", "m", CARDS))
        assert gcs.values == {}

        sign.say(SlotUsage("one", "m", frozenset()))
        assert gcs.values

    def test_a_run_that_ends_says_so(self, gcs: Any, clock: Any) -> None:
        sign = SlotUsageSign(gcs, "run-1")
        sign.say(SlotUsage("one", "m", CARDS))
        sign.close()

        assert gcs.values == {}
