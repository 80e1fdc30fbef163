"""What a schedule has to do now, in Kubernetes' meaning of the words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.job.when.cron import Cron
from pipeline.service.scheduler.due import Decision, decide

HOURLY = Cron("0 * * * *")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _at(now: datetime, **changed: Any) -> Decision:
    given = {"policy": "Forbid", "deadline_seconds": None, "last": NOON, "under_way": False}
    given |= changed
    return decide(
        HOURLY,
        given["policy"],
        given["deadline_seconds"],
        last=given["last"],
        now=now,
        under_way=given["under_way"],
    )


def test_nothing_is_to_be_done_before_the_next_time() -> None:
    decision = _at(NOON + HOUR / 2)
    assert decision.start is None


def test_a_run_begins_at_its_time() -> None:
    assert _at(NOON + HOUR).start == NOON + HOUR


def test_of_several_times_that_passed_only_the_newest_is_run() -> None:
    decision = _at(NOON + 3.5 * HOUR)
    assert decision.start == NOON + 3 * HOUR
    assert decision.missed == (NOON + HOUR, NOON + 2 * HOUR)


def test_a_time_past_its_deadline_is_missed() -> None:
    decision = _at(NOON + 1.5 * HOUR, deadline_seconds=600)
    assert decision.start is None
    assert decision.missed == (NOON + HOUR,)


def test_a_time_within_its_deadline_is_run_late() -> None:
    assert _at(NOON + HOUR + HOUR / 12, deadline_seconds=600).start == NOON + HOUR


def test_forbid_waits_for_the_run_under_way() -> None:
    decision = _at(NOON + HOUR, under_way=True)
    assert decision.start is None
    assert decision.missed == ()


def test_replace_ends_the_run_under_way() -> None:
    decision = _at(NOON + HOUR, under_way=True, policy="Replace")
    assert decision.start == NOON + HOUR
    assert decision.replaces


def test_allow_runs_both() -> None:
    decision = _at(NOON + HOUR, under_way=True, policy="Allow")
    assert decision.start == NOON + HOUR
    assert not decision.replaces


def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    decision = _at(NOON - 5 * HOUR)
    assert decision.start is None


def test_a_clock_that_leaps_by_years_is_answered_at_once() -> None:
    decision = _at(NOON + 10_000 * 24 * HOUR)
    assert decision.start == NOON + 10_000 * 24 * HOUR
    assert len(decision.missed) < 200


@given(st.lists(st.integers(-300, 600), max_size=30))
def test_whatever_the_clock_does_each_time_is_dealt_with_once(minutes: list[int]) -> None:
    last, now, done = NOON, NOON, list[datetime]()
    for step in minutes:
        now += timedelta(minutes=step)
        decision = _at(now, last=last, deadline_seconds=3600)
        dealt = [*decision.missed, *([decision.start] if decision.start else [])]
        done += dealt
        last = max([last, *dealt])
    assert done == sorted(set(done))
