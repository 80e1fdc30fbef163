"""The dispatcher, event by event: what it is told, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pipeline.dispatch.dispatcher import Dispatcher, Sizing
from pipeline.dispatch.events import (
    Blame,
    Committed,
    Done,
    Event,
    Expired,
    GaveUp,
    GiveUp,
    Grant,
    Instruction,
    Joined,
    LeaseRequested,
    Lost,
    Reported,
    Returned,
    Ticked,
    UnitRange,
    Wait,
)

# leases of 10 to 100 rows for a worker of one row per second
SIZING = Sizing(longest_seconds=100, shortest_seconds=10, shares=2, patience_seconds=30)

WHOLE = Sizing(longest_seconds=100, shortest_seconds=10, shares=0.5, patience_seconds=30)


def dispatcher(
    rows: Iterable[int], *workers: tuple[str, float], sizing: Sizing = SIZING, **more: object
) -> Dispatcher:
    """Of units of so many rows, with workers (name, rows per second) that have joined."""
    made = Dispatcher(list(rows), sizing=sizing, **more)  # type: ignore[arg-type]
    for name, rate in workers:
        made.handle(Joined(name, 0.0, "card", rate))
    return made


def ask(made: Dispatcher, worker: str = "a", at: float = 0.0) -> Instruction:
    (answer,) = made.handle(LeaseRequested(worker, at))
    return answer


def rows(answer: Instruction) -> int:
    assert isinstance(answer, Grant)
    return answer.rows


def ask_for_all(made: Dispatcher, worker: str, at: float = 0.0) -> int:
    """Rows that the worker gets until it is told to wait."""
    total = 0
    while isinstance(answer := ask(made, worker, at), Grant):
        total += answer.rows
    return total


def commit(made: Dispatcher, answer: Instruction) -> None:
    assert isinstance(answer, Grant)
    for span in answer.spans:
        made.handle(Committed(span))


class TestLeases:
    def test_units_go_out_in_input_order(self) -> None:
        made = dispatcher([10] * 40, ("a", 1.0), ("b", 1.0))

        assert ask(made) == Grant("a", tuple(UnitRange(unit, 0, 10) for unit in range(4)))
        assert ask(made, "b") == Grant("b", tuple(UnitRange(unit, 0, 10) for unit in range(4, 8)))

    def test_a_lease_is_sized_by_the_seconds_that_the_card_needs(self) -> None:
        made = dispatcher([50_000], ("slow", 0.2), ("fast", 0.4))

        assert rows(ask(made, "slow")) == 20
        assert rows(ask(made, "fast")) == 40

    def test_leases_shrink_towards_the_end(self) -> None:
        made = dispatcher([1] * 400, ("a", 0.05), ("b", 0.05))
        sizes = []
        for at in range(200):
            answer = ask(made, "ab"[at % 2], at)
            if not isinstance(answer, Grant):
                break
            sizes.append(answer.rows)
            commit(made, answer)

        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > sizes[-1] == 1

    def test_a_unit_that_is_far_too_much_is_cut(self) -> None:
        made = dispatcher([1000], ("a", 1.0))

        assert ask(made) == Grant("a", (UnitRange(0, 0, 100),))

    def test_what_a_cut_left_comes_next(self) -> None:
        made = dispatcher([200, 200], ("a", 1.0))
        commit(made, ask(made))

        assert ask(made) == Grant("a", (UnitRange(0, 100, 200),))

    def test_a_unit_that_is_a_little_too_much_is_not_cut(self) -> None:
        made = dispatcher([140, 140], ("a", 1.0))

        assert ask(made) == Grant("a", (UnitRange(0, 0, 140),))

    def test_predicted_costs_count_not_rows(self) -> None:
        made = dispatcher([100] * 100, ("a", 1.0), costs=[1.0] * 50 + [3.0] * 50)
        first = ask(made)
        assert isinstance(first, Grant)

        mean = 2.0  # of a unit; a card of one mean row per second does 100 rows of it
        assert sum([1.0, 3.0][s.unit >= 50] for s in first.spans) == pytest.approx(mean, abs=1.0)

    def test_a_worker_measured_faster_than_expected_gets_more(self) -> None:
        made = dispatcher([100_000], ("a", 0.05), ("b", 0.05))
        before = rows(ask(made))
        for second in range(0, 200, 10):
            made.handle(Reported("a", second, rows=second, busy_seconds=second))

        assert before < rows(ask(made, at=200.0))

    def test_a_worker_that_holds_enough_waits(self) -> None:
        made = dispatcher([100] * 100, ("a", 1.0))
        ask(made)

        assert ask(made) == Wait("a")

    def test_a_worker_that_waits_goes_on_when_its_rows_are_begun(self) -> None:
        made = dispatcher([100] * 100, ("a", 1.0))
        ask(made)
        made.handle(Reported("a", 1.0, active=95))

        assert isinstance(ask(made), Grant)

    def test_all_is_done_when_every_row_is_committed(self) -> None:
        made = dispatcher([3, 0, 4], ("a", 10.0))
        commit(made, ask(made))

        assert ask(made) == Done("a")
        assert dispatcher([0], ("a", 1.0)).done

    def test_what_an_earlier_run_committed_is_not_leased(self) -> None:
        there = [UnitRange(0, 0, 10), UnitRange(1, 4, 6)]
        made = Dispatcher([10, 10, 10], there, sizing=SIZING)
        made.handle(Joined("a", 0.0, rate=1.0))

        assert ask(made) == Grant(
            "a", (UnitRange(1, 0, 4), UnitRange(1, 6, 10), UnitRange(2, 0, 10))
        )


class TestWorkers:
    def test_who_comes_early_leaves_their_share_to_those_on_their_way(self) -> None:
        made = dispatcher([5] * 10, ("early", 1.0), ("late", 1.0))

        assert ask_for_all(made, "early") == 25
        assert ask_for_all(made, "late") == 25

    def test_one_worker_alone_gets_through_though_others_never_come(self) -> None:
        made = dispatcher([5] * 10, ("a", 1.0), ("never", 5.0))
        for at in range(100):
            if isinstance(answer := ask(made, "a", at), Grant):
                commit(made, answer)

        assert made.done

    @pytest.mark.parametrize("event", [Lost("a"), Lost("a", blame=Blame.NO_ROW)])
    def test_what_a_worker_held_that_is_gone_comes_first(self, event: Event) -> None:
        made = dispatcher([50] * 4, ("a", 1.0), ("b", 1.0))
        assert ask(made, "a") == Grant("a", (UnitRange(0, 0, 50),))
        made.handle(event)

        answer = ask(made, "b")
        assert isinstance(answer, Grant)
        assert answer.spans[0] == UnitRange(0, 0, 50)

    def test_a_lease_says_how_many_engines_died_with_its_rows(self) -> None:
        made = dispatcher([5])
        ask(made)
        made.handle(Reported("a", 1.0, active=2, flights=(UnitRange(0, 0, 2),)))
        made.handle(Lost("a", 2.0, "it fell over"))

        assert ask(made, "b") == Grant("b", (UnitRange(0, 0, 5),), losses=1, why="it fell over")

    def test_rows_that_an_engine_had_not_begun_with_are_no_loss(self) -> None:
        made = dispatcher([5])
        ask(made)
        made.handle(Reported("a", 1.0, flights=()))
        made.handle(Lost("a", 2.0))

        assert ask(made, "b") == Grant("b", (UnitRange(0, 0, 5),))

    @pytest.mark.parametrize(
        "event", [Lost("a", blame=Blame.NO_ROW), Returned("a", 0.0, (UnitRange(0, 0, 5),))]
    )
    def test_leaving_and_giving_back_are_no_loss(self, event: Event) -> None:
        made = dispatcher([5], ("a", 1.0))
        ask(made)
        made.handle(Reported("a", 0.0, active=5, flights=(UnitRange(0, 0, 5),)))
        made.handle(event)

        assert ask(made, "b") == Grant("b", (UnitRange(0, 0, 5),))

    def test_a_lease_expires_when_nothing_is_heard(self) -> None:
        made = dispatcher([5], ("a", 1.0))
        ask(made, at=0.0)

        assert made.handle(Ticked(29.0)) == ()
        assert made.handle(Ticked(30.0)) == (Expired("a", (UnitRange(0, 0, 5),)),)
        assert ask(made, "b", 30.0) == Grant("b", (UnitRange(0, 0, 5),))

    def test_a_heartbeat_renews_the_lease(self) -> None:
        made = dispatcher([5], ("a", 1.0))
        ask(made, at=0.0)
        made.handle(Reported("a", 20.0))

        assert made.handle(Ticked(45.0)) == ()

    def test_who_was_never_heard_of_does_not_expire(self) -> None:
        """Its process may still be starting."""
        made = dispatcher([50] * 4, ("a", 1.0), ("b", 1.0))

        assert made.handle(Ticked(1000.0)) == ()
        assert ask_for_all(made, "a", 1000.0) == 100

    def test_who_was_thought_dead_may_come_back(self) -> None:
        made = dispatcher([5], ("a", 1.0))
        ask(made)
        made.handle(Ticked(100.0))

        assert ask(made, "a", 101.0) == Grant("a", (UnitRange(0, 0, 5),))

    def test_a_late_commit_ends_the_lease_of_who_does_the_rows_again(self) -> None:
        made = dispatcher([5], ("a", 1.0), ("b", 1.0))
        ask(made, "a")
        made.handle(Lost("a"))
        ask(made, "b")
        made.handle(Committed(UnitRange(0, 0, 5)))

        assert made.done
        assert made.ranges.held_rows == 0

    def test_a_late_commit_of_a_part_leaves_the_rest(self) -> None:
        made = dispatcher([50], ("a", 1.0))
        ask(made, "a")
        made.handle(Lost("a"))
        made.handle(Committed(UnitRange(0, 10, 20)))

        assert ask(made, "b") == Grant("b", (UnitRange(0, 0, 10), UnitRange(0, 20, 50)))

    def test_leases_are_shorter_where_workers_die_often(self) -> None:
        made = dispatcher([10_000] * 9, ("a", 1.0))
        calm = rows(ask(made))
        made.handle(Returned("a", 0.0, (UnitRange(0, 0, calm),)))
        for _ in range(10):
            made.handle(Joined("dies", 0.0, "card", 1.0))
            ask(made, "dies")
            made.handle(Reported("dies", 500.0, rows=500, busy_seconds=500.0))
            made.handle(Lost("dies"))

        assert SIZING.shortest_seconds < rows(ask(made)) < calm / 2


class TestTakeover:
    def straggler(self) -> Dispatcher:
        """``slow`` holds 60 rows and has begun with 10 of them; ``fast`` has nothing left."""
        made = dispatcher([60, 60], ("slow", 1.0), ("fast", 1.0), sizing=WHOLE)
        assert ask(made, "slow") == Grant("slow", (UnitRange(0, 0, 60),))
        assert ask(made, "fast") == Grant("fast", (UnitRange(1, 0, 60),))
        for second in (0.0, 20.0):
            made.handle(Reported("fast", second, int(3 * second), second))
        made.handle(Committed(UnitRange(1, 0, 60)))
        made.handle(Reported("slow", 20.0, 0, 20.0, active=10))
        return made

    def test_the_holder_is_asked_at_its_next_heartbeat(self) -> None:
        made = self.straggler()

        assert ask(made, "fast", 20.0) == Wait("fast")
        (request,) = made.handle(Reported("slow", 21.0, 0, 21.0, active=10))
        assert isinstance(request, GiveUp)
        assert request.span == UnitRange(0, 0, 60)
        assert 10 <= request.keep < 40  # fast is faster: more than half of the rows

    def test_nothing_is_granted_before_the_holder_has_answered(self) -> None:
        made = self.straggler()
        ask(made, "fast", 20.0)
        made.handle(Reported("slow", 21.0, active=10))

        assert ask(made, "fast", 21.0) == Wait("fast")

    def test_what_the_holder_gives_up_goes_to_who_wanted_it(self) -> None:
        made = self.straggler()
        ask(made, "fast", 20.0)
        made.handle(GaveUp("slow", 21.0, UnitRange(0, 0, 30)))

        assert ask(made, "slow", 21.0) == Wait("slow")
        assert ask(made, "fast", 21.0) == Grant("fast", (UnitRange(0, 30, 60),))

    def test_the_holder_is_asked_again_until_it_answers(self) -> None:
        made = self.straggler()
        ask(made, "fast", 20.0)
        report = Reported("slow", 21.0, active=10)

        assert made.handle(report) == made.handle(report) != ()
        made.handle(GaveUp("slow", 21.0, UnitRange(0, 0, 60)))  # all of it was begun
        assert made.handle(report) == ()

    def test_an_answer_said_twice_changes_nothing(self) -> None:
        made = self.straggler()
        ask(made, "fast", 20.0)
        for _ in range(2):
            made.handle(GaveUp("slow", 21.0, UnitRange(0, 0, 30)))

        made.ranges.check()
        assert made.ranges.pending_rows == 30

    def test_an_answer_of_who_lost_the_lease_changes_nothing(self) -> None:
        made = self.straggler()
        ask(made, "fast", 20.0)
        made.handle(Lost("slow"))
        ask(made, "fast", 21.0)
        made.handle(GaveUp("slow", 22.0, UnitRange(0, 0, 30)))

        assert made.ranges.held_rows == 60

    def test_what_was_kept_for_a_worker_that_dies_goes_to_others(self) -> None:
        made = self.straggler()
        ask(made, "fast", 20.0)
        made.handle(GaveUp("slow", 21.0, UnitRange(0, 0, 30)))
        made.handle(Lost("fast"))

        assert ask(made, "other", 22.0) == Grant("other", (UnitRange(0, 30, 60),))

    def test_a_holder_that_is_dead_loses_its_lease_by_expiry(self) -> None:
        made = self.straggler()
        ask(made, "fast", 20.0)
        made.handle(Reported("fast", 50.0, 60, 20.0))
        made.handle(Ticked(51.0))

        assert ask(made, "fast", 51.0) == Grant("fast", (UnitRange(0, 0, 60),))

    def test_a_fast_worker_takes_rows_of_a_slow_one_though_they_are_little_work_for_it(
        self,
    ) -> None:
        made = dispatcher([40, 60], ("slow", 8.0), ("fast", 68.0), sizing=WHOLE)
        assert ask(made, "slow") == Grant("slow", (UnitRange(0, 0, 40),))
        commit(made, ask(made, "fast"))
        made.handle(Reported("fast", 0.9, 60, 0.9))
        made.handle(Reported("slow", 0.9, 4, 0.9, active=2))
        assert ask(made, "fast", 0.9) == Wait("fast")

        (request,) = made.handle(Reported("slow", 1.0, 4, 1.0, active=2))
        assert isinstance(request, GiveUp)
        assert request.keep < 10

    def test_who_works_takes_everything_from_one_whose_engine_still_loads(self) -> None:
        made = dispatcher([60, 60], ("loading", 1.0), ("fast", 1.0), sizing=WHOLE)
        ask(made, "loading")
        commit(made, ask(made, "fast"))
        made.handle(Reported("fast", 20.0, 60, 20.0))
        ask(made, "fast", 20.0)

        (request,) = made.handle(Reported("loading", 21.0))
        assert request == GiveUp("loading", UnitRange(0, 0, 60), 0)


class TestOrder:
    def test_rows_predicted_long_are_out_before_the_tail(self) -> None:
        costs = [10.0] * 90 + [50.0] * 10
        made = dispatcher([10] * 100, ("a", 1e-6), costs=costs, sizing=Sizing(shortest_seconds=0))
        order = []
        while not made.done:
            answer = ask(made)
            assert isinstance(answer, Grant)
            order += [span.unit for span in answer.spans if span.start == 0]
            commit(made, answer)

        assert max(order.index(unit) for unit in range(90, 100)) < 85
        short = [unit for unit in order if unit < 90]
        assert short == sorted(short)
        assert order.index(90) == 0


def test_what_a_lost_worker_had_finished_and_not_committed_is_counted() -> None:
    made = dispatcher([100, 100], ("a", 1.0))
    ask_for_all(made, "a")
    made.handle(Committed(UnitRange(0, 0, 30)))
    made.handle(Reported("a", 40.0, rows=45, busy_seconds=40.0))
    made.handle(Lost("a"))

    assert made.lost_rows == 15
