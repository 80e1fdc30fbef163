"""Cards and their engines: who is hired again, when, and which card is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.dispatch.events import Blame, Gain
from pipeline.driver.workers.death import DeathCause, DeathOutcome
from pipeline.driver.workers.slots.slot_states import AbsenceReason, SlotStates

NOWHERE = DeathOutcome(DeathCause.FAILED, "x", Blame.TOLD, finished=3)
FURTHER = replace(NOWHERE, gain=Gain.ROWS)
SEARCHED = replace(NOWHERE, gain=Gain.SEARCH, finished=0)


def hire_all(states: SlotStates, now: float) -> list[str]:
    return [states.taken(state.number).name for state in states.due(now)]


def test_every_card_gets_an_engine() -> None:
    assert hire_all(SlotStates(["a", "b"], 3), 0.0) == ["worker-0", "worker-1"]


def test_who_comes_after_another_has_a_name_of_its_own() -> None:
    states = SlotStates(["a", "b"], 3)
    hire_all(states, 0.0)
    states.lost(1, 5.0, FURTHER)

    assert hire_all(states, 5.0) == ["worker-1.1"]


def test_an_engine_that_brought_the_job_further_is_replaced_at_once() -> None:
    states = SlotStates(["a"], 0)
    for now in range(20):
        assert len(hire_all(states, now)) == 1
        assert states.lost(0, now, FURTHER).aside is None


def test_one_that_did_not_waits_longer_every_time_up_to_a_minute() -> None:
    states = SlotStates(["a"], 100)
    waits: list[float] = []
    now = 0.0
    for _ in range(9):
        hire_all(states, now)
        waits.append(states.lost(0, now, NOWHERE).free_at - now)
        assert hire_all(states, now + waits[-1] - 0.1) == []
        assert states.waiting
        now += waits[-1]

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("restarts", [0, 1, 3])
def test_a_card_is_set_aside_after_so_many_restarts(restarts: int) -> None:
    states = SlotStates(["a", "b"], restarts)
    for failures in range(restarts + 1):
        hire_all(states, 1000.0 * failures)
        state = states.lost(0, 1000.0 * failures, replace(NOWHERE, why=f"trouble {failures}"))

    assert state.aside == f"trouble {restarts}"
    assert [left.number for left in states.left] == [1]
    assert not states.due(1e9)


def test_progress_makes_up_for_failures() -> None:
    states = SlotStates(["a"], 1)
    for now in range(0, 1000, 100):
        hire_all(states, now)
        states.lost(0, now, FURTHER if now % 200 else NOWHERE)

    assert states.left


def test_a_card_that_finishes_nothing_for_long_is_set_aside_whatever_rows_are_blamed() -> None:
    states = SlotStates(["a"], 3)
    engines = 0
    while states.left:
        hire_all(states, 0.0)
        states.lost(0, 0.0, SEARCHED)
        engines += 1

    assert engines == 20


def test_finding_one_row_after_the_other_is_no_fault_of_the_card() -> None:
    states = SlotStates(["a"], 3)
    for engine in range(100):
        hire_all(states, 0.0)
        states.lost(0, 0.0, SEARCHED if engine % 6 else FURTHER)

    assert states.left


def test_a_card_whose_engine_was_done_waits_for_no_other() -> None:
    states = SlotStates(["a", "b"], 3)
    hire_all(states, 0.0)
    states.done(0)

    assert not states.waiting
    assert states.due(1e9) == []


def test_a_card_that_comes_later_gets_an_engine() -> None:
    states = SlotStates(["a"], 3)
    hire_all(states, 0.0)

    states.add("b", "some-machine")

    assert hire_all(states, 1.0) == ["worker-1"]


def test_machines_that_are_gone_are_not_waited_for() -> None:
    states = SlotStates([], 3)
    states.add("a", "one")
    states.add("a", "other")
    hire_all(states, 0.0)

    states.gone({"one"})
    states.lost(0, 1.0, FURTHER)

    assert [state.number for state in states.left] == [1]
    assert not states.due(1e9)


def test_a_card_that_another_job_has_is_looked_at_again_and_nobody_is_to_blame() -> None:
    states = SlotStates(["a"], 0)
    for now in range(0, 100, 2):
        hire_all(states, now)
        states.postpone(0, now, 2.0)
        assert states.due(now + 1.9) == []

    assert hire_all(states, 100.0) != []
    assert states[0].failures == 0


def test_an_unfit_machine_is_set_aside_at_once() -> None:
    states = SlotStates(["a", "b"], 3)
    hire_all(states, 0.0)

    assert states.lost(0, 1.0, replace(NOWHERE, cause=DeathCause.UNFIT)).aside


def test_a_card_that_is_another_jobs_for_now_gets_no_engine_until_it_is_given_back() -> None:
    states = SlotStates(["a", "b"], 3)
    states.withdraw(0, AbsenceReason.QUEUE, "others")
    assert hire_all(states, 0.0) == ["worker-1"]
    assert states.withdrawn

    states.withdraw(0, AbsenceReason.QUEUE, None)
    assert hire_all(states, 0.0) == ["worker-0"]
    assert not states.withdrawn


def test_a_card_is_given_back_when_no_reason_is_left() -> None:
    states = SlotStates(["a"], 3)
    states.withdraw(0, AbsenceReason.HOURS, "until 23:00")
    states.withdraw(0, AbsenceReason.DESKTOP, "a game")
    states.withdraw(0, AbsenceReason.HOURS, None)
    assert hire_all(states, 0.0) == []

    states.withdraw(0, AbsenceReason.DESKTOP, None)
    assert hire_all(states, 0.0) == ["worker-0"]


def test_a_withdrawn_card_is_left_to_the_job_and_waits_for_nothing() -> None:
    states = SlotStates(["a"], 3)
    states.withdraw(0, AbsenceReason.QUEUE, "others")

    assert [state.number for state in states.left] == [0]
    assert not states.waiting
    assert states.due(1e9) == []


def test_an_engine_on_a_card_that_was_withdrawn_is_not_hired_twice_when_it_is_given_back() -> None:
    states = SlotStates(["a"], 3)
    hire_all(states, 0.0)
    states.withdraw(0, AbsenceReason.QUEUE, "others")
    states.withdraw(0, AbsenceReason.QUEUE, None)
    assert states.due(1e9) == []

    states.postpone(0, 5.0, 2.0)
    assert hire_all(states, 7.0) == ["worker-0.1"]


@pytest.mark.parametrize("fate", ["finished", "set aside", "gone"])
def test_nothing_is_hoped_for_from_a_card_that_is_of_no_use_any_more(fate: str) -> None:
    states = SlotStates([], 0)
    states.add("a", "some-machine")
    hire_all(states, 0.0)
    states.withdraw(0, AbsenceReason.QUEUE, "others")
    if fate == "finished":
        states.done(0)
    elif fate == "set aside":
        states.lost(0, 1.0, NOWHERE)
    else:
        states.gone({"some-machine"})

    assert not states.withdrawn
