"""Cards and their engines: who is hired again, when, and which card is given up."""

from __future__ import annotations

import pytest

from pipeline.driver.slots.slot_states import Reason, Seats


def hire_all(seats: Seats, now: float) -> list[str]:
    return [seats.taken(seat.number).name for seat in seats.due(now)]


def test_every_card_gets_an_engine() -> None:
    assert hire_all(Seats(["a", "b"], 3), 0.0) == ["worker-0", "worker-1"]


def test_who_comes_after_another_has_a_name_of_its_own() -> None:
    seats = Seats(["a", "b"], 3)
    hire_all(seats, 0.0)
    seats.lost(1, 5.0, "x", progress=True)

    assert hire_all(seats, 5.0) == ["worker-1.1"]


def test_an_engine_that_brought_the_job_further_is_replaced_at_once() -> None:
    seats = Seats(["a"], 0)
    for now in range(20):
        assert len(hire_all(seats, now)) == 1
        assert seats.lost(0, now, "x", progress=True).aside is None


def test_one_that_did_not_waits_longer_every_time_up_to_a_minute() -> None:
    seats = Seats(["a"], 100)
    waits: list[float] = []
    now = 0.0
    for _ in range(9):
        hire_all(seats, now)
        waits.append(seats.lost(0, now, "x", progress=False).free_at - now)
        assert hire_all(seats, now + waits[-1] - 0.1) == []
        assert seats.waiting
        now += waits[-1]

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("restarts", [0, 1, 3])
def test_a_card_is_set_aside_after_so_many_restarts(restarts: int) -> None:
    seats = Seats(["a", "b"], restarts)
    for failures in range(restarts + 1):
        hire_all(seats, 1000.0 * failures)
        seat = seats.lost(0, 1000.0 * failures, f"trouble {failures}", progress=False)

    assert seat.aside == f"trouble {restarts}"
    assert [left.number for left in seats.left] == [1]
    assert not seats.due(1e9)


def test_progress_makes_up_for_failures() -> None:
    seats = Seats(["a"], 1)
    for now in range(0, 1000, 100):
        hire_all(seats, now)
        seats.lost(0, now, "x", progress=bool(now % 200))

    assert seats.left


def test_a_card_that_finishes_nothing_for_long_is_set_aside_whatever_rows_are_blamed() -> None:
    seats = Seats(["a"], 3)
    engines = 0
    while seats.left:
        hire_all(seats, 0.0)
        seats.lost(0, 0.0, "x", progress=True, barren=True)
        engines += 1

    assert engines == 20


def test_finding_one_row_after_the_other_is_no_fault_of_the_card() -> None:
    seats = Seats(["a"], 3)
    for engine in range(100):
        hire_all(seats, 0.0)
        seats.lost(0, 0.0, "x", progress=True, barren=engine % 6 > 0)

    assert seats.left


def test_a_card_whose_engine_was_done_waits_for_no_other() -> None:
    seats = Seats(["a", "b"], 3)
    hire_all(seats, 0.0)
    seats.done(0)

    assert not seats.waiting
    assert seats.due(1e9) == []


def test_a_card_that_comes_later_gets_an_engine() -> None:
    seats = Seats(["a"], 3)
    hire_all(seats, 0.0)

    seats.add("b", "some-machine")

    assert hire_all(seats, 1.0) == ["worker-1"]


def test_machines_that_are_gone_are_not_waited_for() -> None:
    seats = Seats([], 3)
    seats.add("a", "one")
    seats.add("a", "other")
    hire_all(seats, 0.0)

    seats.gone({"one"})
    seats.lost(0, 1.0, "x", progress=True)

    assert [seat.number for seat in seats.left] == [1]
    assert not seats.due(1e9)


def test_a_card_that_another_job_has_is_looked_at_again_and_nobody_is_to_blame() -> None:
    seats = Seats(["a"], 0)
    for now in range(0, 100, 2):
        hire_all(seats, now)
        seats.postpone(0, now, 2.0)
        assert seats.due(now + 1.9) == []

    assert hire_all(seats, 100.0) != []
    assert seats[0].failures == 0


def test_an_unfit_machine_is_set_aside_at_once() -> None:
    seats = Seats(["a", "b"], 3)
    hire_all(seats, 0.0)

    assert seats.lost(0, 1.0, "it sees no such folder", progress=False, unfit=True).aside


def test_a_card_that_is_another_jobs_for_now_gets_no_engine_until_it_is_given_back() -> None:
    seats = Seats(["a", "b"], 3)
    seats.withdraw(0, Reason.QUEUE, "others")
    assert hire_all(seats, 0.0) == ["worker-1"]
    assert seats.withdrawn

    seats.withdraw(0, Reason.QUEUE, None)
    assert hire_all(seats, 0.0) == ["worker-0"]
    assert not seats.withdrawn


def test_a_card_is_given_back_when_no_reason_is_left() -> None:
    seats = Seats(["a"], 3)
    seats.withdraw(0, Reason.HOURS, "until 23:00")
    seats.withdraw(0, Reason.DESKTOP, "a game")
    seats.withdraw(0, Reason.HOURS, None)
    assert hire_all(seats, 0.0) == []

    seats.withdraw(0, Reason.DESKTOP, None)
    assert hire_all(seats, 0.0) == ["worker-0"]


def test_a_withdrawn_card_is_left_to_the_job_and_waits_for_nothing() -> None:
    seats = Seats(["a"], 3)
    seats.withdraw(0, Reason.QUEUE, "others")

    assert [seat.number for seat in seats.left] == [0]
    assert not seats.waiting
    assert seats.due(1e9) == []


def test_an_engine_on_a_card_that_was_withdrawn_is_not_hired_twice_when_it_is_given_back() -> None:
    seats = Seats(["a"], 3)
    hire_all(seats, 0.0)
    seats.withdraw(0, Reason.QUEUE, "others")
    seats.withdraw(0, Reason.QUEUE, None)
    assert seats.due(1e9) == []

    seats.postpone(0, 5.0, 2.0)
    assert hire_all(seats, 7.0) == ["worker-0.1"]


@pytest.mark.parametrize("fate", ["finished", "set aside", "gone"])
def test_nothing_is_hoped_for_from_a_card_that_is_of_no_use_any_more(fate: str) -> None:
    seats = Seats([], 0)
    seats.add("a", "some-machine")
    hire_all(seats, 0.0)
    seats.withdraw(0, Reason.QUEUE, "others")
    if fate == "finished":
        seats.done(0)
    elif fate == "set aside":
        seats.lost(0, 1.0, "trouble", progress=False)
    else:
        seats.gone({"some-machine"})

    assert not seats.withdrawn
