"""Engines and their cards from the driver's view, without Ray: who is hired, who has to let its
card go, and who finds an engine that an earlier job has left there."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.driver.workers.slots import slot_states
from pipeline.errors import EngineFailed
from tests.driver.driver_side import LATER, Earlier, Rack

A0, A1 = ("a", 0), ("a", 1)


class TestHire:
    def test_every_card_gets_an_engine_that_others_find_by_its_place(self, rack: Rack) -> None:
        assert rack.start_workers() == ["worker-0", "worker-1"]
        assert [one.slot for one in rack.hired] == ["worker/a/0", "worker/a/1"]
        assert rack.coordinator.joined == ["worker-0", "worker-1"]
        assert rack.start_workers(LATER) == []

    def test_where_no_queue_has_the_cards_engines_are_not_kept(self, rack: Rack) -> None:
        rack.keeps_engines = False
        rack.start_workers()

        assert [one.slot for one in rack.hired] == [None, None]

    def test_there_are_no_more_than_the_job_wants(self, new_rack: Any) -> None:
        assert new_rack(wanted=1).start_workers() == ["worker-0"]

    def test_a_card_that_is_not_free_is_looked_at_again(self, rack: Rack) -> None:
        rack.free = False
        assert rack.start_workers() == []
        rack.free = True

        assert rack.start_workers() == []
        assert rack.start_workers(LATER) == ["worker-0", "worker-1"]

    def test_an_engine_that_an_earlier_job_left_is_used(self, rack: Rack) -> None:
        """Its card is not free: it is there itself."""
        rack.earlier["worker/a/0"] = Earlier()
        rack.free = False
        rack.start_workers()

        [one] = rack.hired
        assert one.earlier is rack.earlier["worker/a/0"]
        assert not one.earlier.killed
        assert rack.notes == ["worker-0: the engine of an earlier job is still loaded"]

    def test_one_that_is_of_no_use_is_ended_and_then_replaced(self, rack: Rack) -> None:
        useless = rack.earlier["worker/a/0"] = Earlier(useful=False)
        assert rack.start_workers() == ["worker-1"]
        assert useless.killed

        del rack.earlier["worker/a/0"]
        assert rack.start_workers(LATER) == ["worker-0"]

    def test_one_that_is_at_work_for_another_job_is_waited_for(self, rack: Rack) -> None:
        other = rack.earlier["worker/a/0"] = Earlier(useful=False, busy=True)
        assert rack.start_workers() == ["worker-1"]
        assert not other.killed

        other.busy, other.useful = False, True
        assert rack.start_workers(LATER) == ["worker-0"]

    def test_a_run_that_keeps_no_engines_uses_none(self, rack: Rack) -> None:
        rack.keeps_engines = False
        kept = rack.earlier["worker/a/0"] = Earlier()
        rack.start_workers()

        assert kept.killed
        assert [one.name for one in rack.hired] == ["worker-1"]


class TestSlotOfTwoCards:
    """Cards 0 and 1 are the first slot's, 2 and 3 the second's."""

    @pytest.fixture
    def pairs(self, new_rack: Any) -> Rack:
        made: Rack = new_rack(cards=2)
        return made

    def test_its_engine_asks_for_both_and_is_told_which(self, pairs: Rack) -> None:
        pairs.start_workers()

        assert [one.placement.gpus for one in pairs.hired] == [2, 2]
        assert [one.cards for one in pairs.hired] == [(0, 1), (2, 3)]
        assert [one.slot for one in pairs.hired] == ["worker/a/0+1", "worker/a/2+3"]

    def test_where_others_may_be_at_work_ray_says_which(self, pairs: Rack) -> None:
        pairs.chooses_cards = False
        pairs.start_workers()

        assert [one.cards for one in pairs.hired] == [(), ()]
        assert all(not name.startswith("RAY") for name in pairs.hired[0].placement.environment)

    def test_it_is_left_when_one_of_its_cards_is_another_jobs(self, pairs: Rack) -> None:
        pairs.start_workers()
        pairs.allot(A0, ("a", 2), ("a", 3))
        pairs.look()

        assert [one.killed for one in pairs.hired] == [True, False]
        assert pairs.workers.slot_usage.cards == {("a", 2), ("a", 3)}

    def test_engines_on_its_single_cards_are_ended_first(self, pairs: Rack) -> None:
        for number in (0, 1, 2, 3):
            pairs.earlier[f"worker/a/{number}"] = Earlier(slot=f"worker/a/{number}")
        assert pairs.start_workers() == []
        assert all(one.killed for one in pairs.earlier.values())

    def test_an_engine_over_two_cards_is_waited_for_on_each_of_them(self, rack: Rack) -> None:
        rack.earlier["worker/a/0+1"] = Earlier(busy=True)

        assert rack.start_workers() == []

    def test_all_its_cards_are_of_no_use_where_its_engine_is(self, pairs: Rack) -> None:
        pairs.start_workers()
        pairs.workers.states.done(0)

        assert pairs.workers.needs.useless == {A0, A1}


class TestCardOfAnotherJob:
    def test_it_gets_no_engine(self, rack: Rack) -> None:
        rack.allot(A1)

        assert rack.start_workers() == ["worker-1"]

    def test_an_engine_that_still_loads_is_ended_at_once(self, rack: Rack) -> None:
        rack.start_workers()
        rack.allot(A1)
        rack.look()

        assert [one.killed for one in rack.hired] == [True, False]
        assert rack.coordinator.lost == [("worker-0", True)]
        assert rack.coordinator.retired == []

    def test_an_engine_at_work_is_told_to_finish_again_and_again(self, rack: Rack) -> None:
        """The coordinator may have been restarted."""
        rack.start_workers()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        for _ in range(3):
            rack.look()

        assert rack.coordinator.retired == ["worker-0"] * 3
        assert not any(one.killed for one in rack.hired)
        assert rack.coordinator.lost == []

    def test_what_it_still_held_is_given_to_others_when_it_has_ended(self, rack: Rack) -> None:
        rack.start_workers()
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
        monkeypatch.setattr(slot_states, "_CLOSING_SECONDS", 0.0)
        rack = new_rack(grace=0.0)
        rack.start_workers()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        rack.look()

        assert [one.killed for one in rack.hired] == [True, False]
        assert rack.coordinator.lost == [("worker-0", True)]

    @pytest.mark.parametrize("loaded", [False, True])
    def test_it_gets_another_engine_when_it_is_given_back(self, rack: Rack, loaded: bool) -> None:
        rack.start_workers()
        rack.loaded = {"worker-0", "worker-1"} if loaded else set()
        rack.allot(A1)
        rack.look()
        rack.hired[0].over = True
        rack.look()
        assert rack.start_workers(LATER) == []
        rack.allot(A0, A1)

        assert rack.start_workers(LATER) == ["worker-0.1"]

    def test_given_back_while_its_engine_finishes_it_is_hired_for_after_that(
        self, rack: Rack
    ) -> None:
        """The worker was told to end, and does."""
        rack.start_workers()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        rack.look()
        rack.allot(A0, A1)
        rack.look()
        assert rack.start_workers(LATER) == []
        rack.hired[0].over = True
        rack.look()

        assert rack.start_workers(LATER) == ["worker-0.1"]

    def test_it_may_be_given_back_so_the_job_is_not_over(self, rack: Rack) -> None:
        rack.allot()
        assert not rack.workers.active

        assert rack.workers.may_work

    def test_one_more_is_wanted_in_its_place(self, new_rack: Any) -> None:
        rack = new_rack(wanted=1)
        assert rack.workers.wanted == 0
        rack.allot(A1)

        assert rack.workers.wanted == 1

    def test_a_worker_that_dies_on_the_way_out_is_lost_as_any_other(self, rack: Rack) -> None:
        rack.start_workers()
        rack.loaded = {"worker-0", "worker-1"}
        rack.allot(A1)
        rack.look()
        rack.hired[0].over, rack.hired[0].why = True, EngineFailed("it fell over")
        rack.look()

        assert rack.coordinator.lost == [("worker-0", False)]


class TestNeeds:
    def test_a_job_needs_as_many_cards_as_find_work_at_most(self, rack: Rack) -> None:
        assert rack.workers.needs.most == 3

    def test_and_no_more_than_its_file_says(self, new_rack: Any) -> None:
        assert new_rack(wanted=1).workers.needs.most == 1

    def test_a_card_that_is_done_with_is_of_no_use(self, rack: Rack) -> None:
        rack.start_workers()
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
        assert rack.workers.slot_usage.cards == frozenset()
        rack.start_workers()

        at_work = rack.workers.slot_usage
        assert (at_work.job, at_work.model, at_work.cards) == ("sample", "gemma-3-270m", {A1})


def test_when_all_is_done_engines_that_still_load_are_ended(rack: Rack) -> None:
    rack.start_workers()
    rack.loaded = {"worker-1"}
    rack.look(done=True)

    assert [one.killed for one in rack.hired] == [True, False]
    assert rack.coordinator.lost == []
