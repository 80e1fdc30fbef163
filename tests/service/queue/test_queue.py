"""The queue's loop: who begins, who makes room, and who goes on."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.cluster.rack_state.allocation import AllocatedCards, Needs, allotted_to
from pipeline.service.queue import service
from pipeline.service.queue.job_db import JobState, SubmittedJob
from pipeline.service.queue.mailbox import ask
from tests.service.queue.a_rack import TURN, QueueOnRack, machine, run

BOTH = {("a", 0), ("a", 1)}


def test_a_job_begins_with_all_the_cards_that_it_can_use(rack: QueueOnRack) -> None:
    rack.submit("one")
    rack.look()

    assert rack.drivers.alive == ["one-1"]
    assert rack.cards("one") == BOTH
    assert (rack.state("one"), rack.job("one").began) == (JobState.RUNNING, rack.now)
    assert rack.said == ["queue: one begins, 2 cards"]


def test_its_driver_is_told_of_its_cards_before_it_begins(rack: QueueOnRack) -> None:
    rack.submit("one")
    told: list[bool] = []
    rack.moment = lambda: told.append("allotted/one" in rack.gcs.values)
    rack.look()
    rack.moment = lambda: None

    begun = len(told) - 2  # the last moments are those of the driver's start
    assert told[begun:] == [True, True]


def test_the_higher_priority_begins_then_the_older_one(rack: QueueOnRack) -> None:
    rack.machines = [machine("a", "rtx4090")]
    for name, priority in (("younger", 0), ("high", 1)):
        rack.now += 1
        rack.submit(name, priority)
    rack.now -= 10
    rack.submit("older")
    rack.now += 10

    begun = []
    for _ in range(3):
        rack.look()
        [driver] = rack.drivers.alive
        begun.append(rack.drivers.jobs[driver])
        rack.end(begun[-1], 0)
    assert begun == ["high", "older", "younger"]


def test_jobs_of_equal_priority_share_the_cards(rack: QueueOnRack) -> None:
    run(rack)
    rack.submit("two")
    rack.look()

    assert len(rack.cards("one")) == len(rack.cards("two")) == 1
    assert rack.cards("one") | rack.cards("two") == BOTH


def test_a_card_that_is_free_again_goes_to_who_is_at_work(rack: QueueOnRack) -> None:
    run(rack)
    rack.submit("two")
    rack.look()
    rack.end("two", 0)
    rack.look()

    assert rack.cards("one") == BOTH


def test_of_two_that_wait_the_nearer_deadline_begins(rack: QueueOnRack) -> None:
    rack.machines = [machine("a", "rtx4090")]
    rack.submit("early")
    rack.submit("urgent", deadline=rack.now + 3600)
    rack.look()

    assert rack.drivers.alive == ["urgent-1"]


def test_after_ray_was_started_again_every_job_goes_on(rack: QueueOnRack) -> None:
    run(rack)
    rack.restart_ray()
    rack.look()

    assert rack.drivers.alive == ["one-2"]
    assert rack.cards("one") == BOTH
    assert rack.job("one").crashes == 0


def test_a_higher_priority_takes_all_cards_of_a_lower_one(rack: QueueOnRack) -> None:
    run(rack)
    rack.submit("high", 1)
    rack.look()

    assert rack.cards("high") == BOTH
    assert (rack.cards("one"), rack.why("one")) == (set(), "the queue")


def test_a_job_that_gave_its_cards_back_waits_and_then_goes_on(rack: QueueOnRack) -> None:
    run(rack)
    rack.submit("high", 1)
    rack.look()
    rack.end("one", 130)
    rack.look()
    back = rack.job("one")
    assert (back.state, back.message) == (JobState.PENDING, "others are at work on its cards")
    assert (back.crashes, rack.driver("one")) == (0, None)

    rack.end("high", 0)
    rack.look()
    assert (rack.state("one"), rack.job("one").message) == (JobState.RUNNING, "")
    assert rack.drivers.alive == ["one-2"]


def test_a_job_that_has_no_card_is_not_begun_before_its_driver_has_ended(
    rack: QueueOnRack,
) -> None:
    run(rack)
    rack.submit("high", 1)
    rack.look()
    rack.end("high", 0)
    for _ in range(3):  # the cards are free again, and its driver is still at its last rows
        rack.look(1.0)
        assert rack.drivers.alive == ["one-1"]
        assert rack.cards("one") == set()

    rack.end("one", 130)
    rack.look()
    assert rack.drivers.alive == ["one-2"]
    assert rack.cards("one") == BOTH


def test_jobs_that_are_more_than_the_cards_take_turns(rack: QueueOnRack) -> None:
    rack.machines = [machine("a", "rtx4090")]
    run(rack)
    rack.submit("two")
    rack.look(TURN - 1)
    assert rack.cards("one") == {("a", 0)}
    rack.look(2.0)
    assert rack.cards("one") == set()
    rack.end("one", 130)
    rack.look()

    assert rack.drivers.alive == ["two-1"]


def test_a_card_on_which_the_job_does_not_run_goes_to_others(rack: QueueOnRack) -> None:
    run(rack)
    AllocatedCards(rack.gcs, "one").say(Needs(None, frozenset({("a", 0)})))
    rack.submit("two")
    rack.look()

    assert rack.cards("one") == {("a", 1)}
    assert rack.cards("two") == {("a", 0)}


def test_a_job_gets_no_more_cards_than_its_driver_can_use(rack: QueueOnRack) -> None:
    run(rack)
    AllocatedCards(rack.gcs, "one").say(Needs(most=1))
    rack.look()

    assert len(rack.cards("one")) == 1


def test_a_job_that_no_machine_suits_says_so_until_one_comes(rack: QueueOnRack) -> None:
    rack.submit("one", resources={"gpu": "rtx3090"})
    rack.look()
    assert rack.state("one") is JobState.PENDING
    assert rack.job("one").message.startswith("no machine of the rack has what it asks for")

    rack.machines.append(machine("b", "rtx3090"))
    rack.look()
    assert (rack.state("one"), rack.job("one").message) == (JobState.RUNNING, "")
    assert rack.cards("one") == {("b", 0)}


def test_a_job_that_others_only_go_before_is_not_called_hopeless(rack: QueueOnRack) -> None:
    rack.submit("one", resources={"gpu": "rtx3090"})
    rack.look()
    rack.machines = [machine("b", "rtx3090")]
    rack.submit("high", 1)
    rack.look()

    assert (rack.state("one"), rack.job("one").message) == (JobState.PENDING, "")


def test_a_machine_that_is_gone_is_nobodys(rack: QueueOnRack) -> None:
    rack.machines = [machine("a", "rtx4090"), machine("b", "rtx4090")]
    run(rack)
    rack.machines.pop()
    rack.look()

    assert rack.cards("one") == {("a", 0)}


class TestQueueThatIsMadeAnew:
    def test_it_leaves_drivers_at_work_alone(self, rack: QueueOnRack) -> None:
        run(rack)
        rack.submit("two")
        rack.look()
        before = rack.cards("one"), rack.cards("two")
        rack.restart()
        rack.look()

        assert rack.drivers.alive == ["one-1", "two-1"]
        assert (rack.cards("one"), rack.cards("two")) == before

    def test_it_sees_who_ended_meanwhile(self, rack: QueueOnRack) -> None:
        run(rack)
        rack.end("one", 0)
        rack.restart()
        rack.look()

        assert rack.state("one") is JobState.SUCCEEDED

    def test_it_knows_who_was_told_to_make_room(self, rack: QueueOnRack) -> None:
        run(rack)
        rack.submit("high", 1)
        rack.look()
        rack.restart()
        rack.look()
        assert rack.cards("one") == set()
        rack.end("one", 130)
        rack.look()

        assert rack.state("one") is JobState.PENDING

    def test_it_knows_who_was_told_to_stop(self, rack: QueueOnRack) -> None:
        run(rack)
        rack.stop("one")
        rack.look()
        rack.restart()
        rack.end("one", 130)
        rack.look()

        assert rack.state("one") is JobState.STOPPED

    @pytest.mark.parametrize("step", range(12))
    def test_killed_at_any_step_of_a_begin_it_has_one_driver_in_the_end(
        self, rack: QueueOnRack, step: int
    ) -> None:
        rack.submit("one")
        left = step

        def killed_after_some() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

        rack.moment = killed_after_some
        try:
            rack.look()
        except KeyboardInterrupt:
            rack.restart()
        rack.moment = lambda: None
        rack.look()
        rack.look()

        assert len(rack.drivers.alive) == 1
        assert rack.cards("one") == BOTH
        assert rack.drivers.alive == [rack.job("one").submission]


def test_a_head_that_is_away_for_a_while_is_waited_for(
    rack: QueueOnRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_ASKED_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(service, name, 0.005)
    monkeypatch.setattr(service, "Gcs", lambda address: rack.gcs)
    stop = threading.Event()
    keeper = threading.Thread(target=rack.queue.keep, args=(stop,))
    rack.submit("one")
    rack.gcs.gone = True
    keeper.start()
    try:
        time.sleep(0.1)
        rack.gcs.gone = False
        assert ask(rack.gcs, "job", {"job": "one"})["id"] == "one"
        deadline = time.monotonic() + 10
        while not rack.drivers.alive and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        stop.set()
        keeper.join()

    assert allotted_to(rack.gcs, "one") is not None
    assert rack.said == [
        "queue: the rack's head at head:6379 does not answer: it is gone",
        "queue: one begins, 2 cards",
    ]


def test_a_job_that_this_rackmill_does_not_understand_keeps_nobody_from_his_turn(
    rack: QueueOnRack,
) -> None:
    rack.ledger.add(SubmittedJob("odd", "odd", 9, {"no": "job"}, "/odd", None, rack.now))
    rack.submit("one")
    rack.look()

    assert rack.state("odd") is JobState.FAILED
    assert rack.driver("one")
