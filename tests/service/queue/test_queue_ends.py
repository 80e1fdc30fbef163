"""What becomes of a job whose driver ended, that is to stop, or whose deadline passes."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.service.queue.drivers import RayGone
from pipeline.service.queue.job_db import JobState
from tests.service.queue.a_rack import QueueOnRack, run

BOTH = {("a", 0), ("a", 1)}


@pytest.mark.parametrize("code", [0, 3])
def test_a_driver_that_did_all_rows_ends_the_job(rack: QueueOnRack, code: int) -> None:
    run(rack)
    rack.end("one", code)
    rack.look(5.0)

    ended = rack.job("one")
    assert (ended.state, ended.exit_code, ended.message) == (JobState.SUCCEEDED, code, "")
    assert ended.ended == rack.now
    assert rack.gcs.values == {"queue": b""}


@pytest.mark.parametrize("code", [1, 2])
def test_a_driver_that_says_why_it_failed_ends_the_job(rack: QueueOnRack, code: int) -> None:
    run(rack)
    rack.end("one", code)
    rack.look()

    ended = rack.job("one")
    assert (ended.state, ended.exit_code) == (JobState.FAILED, code)
    assert ended.message == "last words of one-1"


def test_a_driver_that_somebody_else_stopped_ends_the_job(rack: QueueOnRack) -> None:
    run(rack)
    rack.end("one", 130)
    rack.look()

    assert (rack.state("one"), rack.job("one").exit_code) == (JobState.STOPPED, 130)


def test_a_driver_that_found_its_cards_gone_gets_a_successor(rack: QueueOnRack) -> None:
    run(rack)
    rack.end("one", 75)
    rack.look()

    assert rack.drivers.alive == ["one-2"]
    assert rack.job("one").crashes == 0


@pytest.mark.parametrize("code", [-9, 137, None])
def test_a_driver_that_died_gets_a_successor(rack: QueueOnRack, code: int | None) -> None:
    run(rack)
    rack.end("one", code)
    rack.look()

    assert rack.drivers.alive == ["one-2"]
    assert (rack.state("one"), rack.job("one").crashes) == (JobState.RUNNING, 1)
    assert rack.cards("one") == BOTH


def test_a_job_whose_drivers_die_again_and_again_fails(rack: QueueOnRack) -> None:
    rack.submit("one")
    for _ in range(4):
        rack.look()
        rack.end("one", None)
    rack.look()

    assert rack.state("one") is JobState.FAILED
    assert rack.job("one").message == "its driver died 4 times: it was killed"
    assert rack.drivers.alive == []


def test_stopping_a_job_that_waits_ends_it(rack: QueueOnRack) -> None:
    rack.machines = []
    rack.submit("one")
    rack.look()
    rack.stop("one")
    rack.look()

    ended = rack.job("one")
    assert (ended.state, ended.exit_code) == (JobState.STOPPED, 130)
    assert not rack.drivers.all


def test_stopping_a_job_that_runs_lets_its_driver_finish_what_it_is_at(rack: QueueOnRack) -> None:
    run(rack)
    rack.stop("one")
    rack.look()
    assert (rack.cards("one"), rack.why("one")) == (set(), "rackmill stop")
    assert rack.state("one") is JobState.RUNNING

    rack.end("one", 130)
    rack.look()
    assert (rack.state("one"), rack.job("one").message) == (
        JobState.STOPPED,
        "it was asked to stop",
    )


def test_the_cards_of_a_job_that_is_to_stop_go_to_others_at_once(rack: QueueOnRack) -> None:
    run(rack)
    rack.submit("two")
    rack.stop("one")
    rack.look()

    assert rack.cards("two") == BOTH


def test_a_job_that_was_done_before_it_heard_of_its_stop_succeeded(rack: QueueOnRack) -> None:
    run(rack)
    rack.stop("one")
    rack.end("one", 0)
    rack.look()

    assert rack.state("one") is JobState.SUCCEEDED


def test_a_driver_that_dies_while_it_stops_gets_no_successor(rack: QueueOnRack) -> None:
    run(rack)
    rack.stop("one")
    rack.look()
    rack.end("one", None)
    rack.look()

    assert rack.state("one") is JobState.STOPPED
    assert rack.drivers.alive == []


def test_a_job_that_waits_past_its_deadline_fails(rack: QueueOnRack) -> None:
    rack.machines = []
    rack.submit("one", deadline=rack.now + 60)
    rack.look(59)
    assert rack.state("one") is JobState.PENDING
    rack.look(2)

    ended = rack.job("one")
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 1)
    assert ended.message == "its deadline passed"


def test_a_job_at_work_past_its_deadline_is_told_to_stop_and_fails(rack: QueueOnRack) -> None:
    rack.submit("one", deadline=rack.now + 60)
    rack.look()
    rack.look(61)
    assert (rack.cards("one"), rack.why("one")) == (set(), "its deadline")

    rack.end("one", 130)
    rack.look()
    assert (rack.state("one"), rack.job("one").message) == (JobState.FAILED, "its deadline passed")


def test_a_driver_that_dies_past_the_deadline_gets_no_successor(rack: QueueOnRack) -> None:
    rack.submit("one", deadline=rack.now + 60)
    rack.look()
    rack.end("one", None)
    rack.look(61)

    assert rack.state("one") is JobState.FAILED
    assert rack.drivers.alive == []


def test_a_driver_that_ray_did_not_start_is_tried_again_and_why_is_told(rack: QueueOnRack) -> None:
    def refuse(*given: object) -> None:
        raise RayGone("no agent")

    start, rack.drivers.start = rack.drivers.start, refuse  # type: ignore[method-assign]
    rack.submit("one")
    with pytest.raises(RayGone):
        rack.look()
    assert rack.job("one").message == "no agent"
    with pytest.raises(RayGone):
        rack.look()
    assert rack.job("one").message == "no agent"

    rack.drivers.start = start  # type: ignore[method-assign]
    rack.look()
    assert (rack.state("one"), rack.job("one").message) == (JobState.RUNNING, "")


def test_a_driver_that_began_although_ray_did_not_say_so_is_the_jobs_one(
    rack: QueueOnRack,
) -> None:
    start = rack.drivers.start

    def begin_and_break(*given: Any) -> None:
        start(*given)
        raise RayGone("no answer")

    rack.drivers.start = begin_and_break  # type: ignore[method-assign]
    rack.submit("one")
    with pytest.raises(RayGone):
        rack.look()
    rack.look()

    assert rack.drivers.alive == ["one-1"]
    assert (rack.state("one"), rack.job("one").message) == (JobState.RUNNING, "")


def test_a_job_waits_for_its_hours_and_says_until_when(rack: QueueOnRack) -> None:
    """The clock stands at a quarter past midnight."""
    rack.submit("night", resources={"hours": "01:00-02:00", "timezone": "UTC"})
    rack.look()
    assert rack.state("night") is JobState.PENDING
    assert rack.job("night").message == "outside of its hours: it waits until 01:00"

    rack.look(after=3600)
    assert rack.state("night") is JobState.RUNNING


def test_a_driver_has_no_card_when_the_hours_are_over_and_the_job_waits_again(
    rack: QueueOnRack,
) -> None:
    rack.submit("night", resources={"hours": "00:00-01:00", "timezone": "UTC"})
    rack.look()
    assert rack.cards("night") == BOTH
    rack.look(after=3600)
    assert rack.cards("night") == set()

    rack.end("night", 130)
    rack.look()
    rack.look()
    assert rack.state("night") is JobState.PENDING
    assert rack.job("night").message == "outside of its hours: it waits until 00:00"
