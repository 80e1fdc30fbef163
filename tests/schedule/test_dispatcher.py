"""The dispatcher: whatever happens to workers, every unit is committed once."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.schedule.dispatcher import Dispatcher, Lease, Word
from tests.samples import quick

WORKERS = st.sampled_from(["a", "b", "c"])


class AnyInterleaving(RuleBasedStateMachine):
    """Workers ask, commit, die and give back in any order; commits of the dead may arrive late."""

    @initialize(units=st.integers(0, 8), before=st.sets(st.integers(0, 7)))
    def begin(self, units: int, before: set[int]) -> None:
        before = {unit for unit in before if unit < units}
        self.units = units
        self.dispatcher = Dispatcher(units, set(before))
        self.committed = set(before)
        self.holders: dict[int, str] = {}
        self.lost_work: set[int] = set()

    @rule(worker=WORKERS)
    def acquire(self, worker: str) -> None:
        answer = self.dispatcher.acquire(worker)
        if isinstance(answer, Lease):
            assert answer.worker == worker
            assert answer.unit not in self.committed
            assert answer.unit not in self.holders
            self.holders[answer.unit] = worker
        elif answer is Word.DONE:
            assert len(self.committed) == self.units
        else:
            assert self.holders

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        if self.holders:
            unit = data.draw(st.sampled_from(sorted(self.holders)))
            self.dispatcher.commit(unit)
            self.committed.add(unit)
            del self.holders[unit]

    @rule(data=st.data())
    def commit_late(self, data: st.DataObject) -> None:
        """A worker thought lost had written its record after all."""
        if self.lost_work:
            unit = data.draw(st.sampled_from(sorted(self.lost_work)))
            self.dispatcher.commit(unit)
            self.committed.add(unit)
            self.holders.pop(unit, None)

    @rule(worker=WORKERS)
    def lose(self, worker: str) -> None:
        held = [unit for unit, holder in self.holders.items() if holder == worker]
        assert self.dispatcher.lost(worker) == sorted(held)
        self.lost_work.update(held)
        for unit in held:
            del self.holders[unit]

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.holders:
            units = data.draw(st.sets(st.sampled_from(sorted(self.holders)), min_size=1))
            self.dispatcher.returned(units)
            for unit in units:
                del self.holders[unit]

    @invariant()
    def every_unit_is_pending_leased_or_committed(self) -> None:
        d = self.dispatcher
        assert d.committed == self.committed
        assert d.leased == len(self.holders)
        assert d.pending + d.leased + len(d.committed) == self.units
        assert d.done == (len(self.committed) == self.units)

    @invariant()
    def no_committed_unit_is_hopeless(self) -> None:
        assert not set(self.dispatcher.hopeless) & self.committed

    def teardown(self) -> None:
        """The last worker that stays alive finishes everything."""
        if not hasattr(self, "dispatcher"):
            return
        for worker in ("a", "b", "c"):
            self.dispatcher.lost(worker)
        commits: list[int] = []
        while isinstance(lease := self.dispatcher.acquire("last"), Lease):
            commits.append(lease.unit)
            self.dispatcher.commit(lease.unit)
        assert sorted(commits) == sorted(set(range(self.units)) - self.committed)
        assert lease is Word.DONE


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = quick


def lease(dispatcher: Dispatcher, worker: str = "a") -> int:
    answer = dispatcher.acquire(worker)
    assert isinstance(answer, Lease)
    return answer.unit


def test_units_are_leased_in_input_order() -> None:
    dispatcher = Dispatcher(4, {1})

    assert [lease(dispatcher, w) for w in "abc"] == [0, 2, 3]


def test_a_worker_waits_while_others_hold_the_last_units() -> None:
    dispatcher = Dispatcher(1, set())
    lease(dispatcher, "a")

    assert dispatcher.acquire("b") is Word.WAIT


def test_a_worker_leaves_their_share_to_those_who_are_still_on_their_way() -> None:
    dispatcher = Dispatcher(4, {0}, workers=2)

    assert [lease(dispatcher, "a"), lease(dispatcher, "a")] == [1, 2]
    assert dispatcher.acquire("a") is Word.WAIT
    assert lease(dispatcher, "b") == 3


def test_one_worker_alone_gets_through_though_more_were_expected() -> None:
    dispatcher = Dispatcher(3, set(), workers=5)
    for unit in range(3):
        assert lease(dispatcher, "a") == unit
        dispatcher.commit(unit)

    assert dispatcher.done


def test_a_worker_is_done_when_all_is_committed() -> None:
    assert Dispatcher(0, set()).acquire("a") is Word.DONE
    assert Dispatcher(2, {0, 1}).acquire("a") is Word.DONE


def test_what_a_lost_worker_held_comes_first_in_input_order() -> None:
    dispatcher = Dispatcher(5, set())
    for worker in "aba":
        lease(dispatcher, worker)

    assert dispatcher.lost("a") == [0, 2]
    assert [lease(dispatcher, "b") for _ in range(4)] == [0, 2, 3, 4]


@pytest.mark.parametrize("given_back", [[0, 1], [1, 0]])
def test_units_given_back_come_next_in_input_order(given_back: list[int]) -> None:
    dispatcher = Dispatcher(4, set())
    for _ in range(2):
        lease(dispatcher)

    dispatcher.returned(given_back)
    assert [lease(dispatcher) for _ in range(4)] == [0, 1, 2, 3]


def test_losing_a_worker_twice_changes_nothing() -> None:
    dispatcher = Dispatcher(1, set())
    lease(dispatcher)

    assert dispatcher.lost("a") == [0]
    assert dispatcher.lost("a") == []
    assert dispatcher.pending == 1


def test_a_lease_says_how_many_workers_were_lost_over_it() -> None:
    dispatcher = Dispatcher(2, set())
    for expected in (0, 1, 2):
        answer = dispatcher.acquire("a")
        assert isinstance(answer, Lease)
        assert answer.losses == expected
        dispatcher.lost("a")


def test_a_unit_that_takes_too_many_workers_down_is_hopeless() -> None:
    dispatcher = Dispatcher(2, set(), max_losses=2)
    lease(dispatcher)
    dispatcher.lost("a")
    assert dispatcher.hopeless == []

    lease(dispatcher)
    dispatcher.lost("a")
    assert dispatcher.hopeless == [0]


def test_giving_back_is_no_loss() -> None:
    dispatcher = Dispatcher(1, set(), max_losses=1)
    lease(dispatcher)
    dispatcher.returned([0])

    assert dispatcher.hopeless == []


def test_a_unit_that_was_committed_after_all_is_not_hopeless() -> None:
    dispatcher = Dispatcher(2, set(), max_losses=1)
    lease(dispatcher)
    dispatcher.lost("a")
    dispatcher.commit(0)

    assert dispatcher.hopeless == []


def test_committing_again_changes_nothing() -> None:
    dispatcher = Dispatcher(2, set())
    unit = lease(dispatcher)
    dispatcher.commit(unit)
    dispatcher.commit(unit)

    assert (dispatcher.committed, dispatcher.pending, dispatcher.leased) == ({0}, 1, 0)


def test_a_late_commit_ends_the_lease_of_the_worker_that_does_it_again() -> None:
    dispatcher = Dispatcher(1, set())
    lease(dispatcher, "a")
    dispatcher.lost("a")
    lease(dispatcher, "b")
    dispatcher.commit(0)

    assert dispatcher.lost("b") == []
    assert dispatcher.done
