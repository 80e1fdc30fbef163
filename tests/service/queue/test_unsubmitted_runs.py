"""Runs that nobody submitted share the rack's cards with the jobs of its queue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.cluster.rack_state.allocation import OTHERS
from pipeline.errors import JobFailed, Stopped
from pipeline.service.queue import unsubmitted_runs as guests
from pipeline.service.queue.api import QueueApi
from pipeline.service.queue.job_db import JobState
from pipeline.service.queue.mailbox import Mailbox
from pipeline.service.queue.unsubmitted_runs import guest_of
from tests.service.queue.a_rack import QueueOnRack, content
from tests.service.queue.memory_gcs import MemoryGcs
from tests.support.samples import job


class _Nowhere:
    def of(self, job: str) -> None: ...


def answers(rack: QueueOnRack) -> Callable[[str, Any], dict[str, Any]]:
    return QueueApi(rack.ledger, _Nowhere(), lambda: rack.now)  # type: ignore[arg-type]


def enter(rack: QueueOnRack, name: str) -> None:
    answers(rack)("enter", {"id": name, "name": name, "content": content(name)})


@pytest.fixture
def head(rack: QueueOnRack, monkeypatch: pytest.MonkeyPatch) -> MemoryGcs:
    """The rack's head, as guests reach it."""
    mailbox = Mailbox(answers(rack))
    gcs = MemoryGcs(asked=lambda gcs: mailbox.look(gcs))  # type: ignore[arg-type]
    monkeypatch.setattr(guests, "Gcs", lambda address: gcs)
    return gcs


def test_a_guest_gets_its_share_beside_a_submitted_job(rack: QueueOnRack) -> None:
    rack.submit("one")
    rack.look()
    enter(rack, "guest")
    rack.look()

    assert len(rack.cards("one")) == len(rack.cards("guest")) == 1


def test_a_guest_without_cards_waits_and_has_some_again(rack: QueueOnRack) -> None:
    enter(rack, "guest")
    rack.look()
    rack.submit("high", priority=1)
    rack.look()
    assert (rack.cards("guest"), rack.why("guest")) == (set(), OTHERS)
    rack.end("high", 0)
    rack.look()

    assert len(rack.cards("guest")) == 2
    assert rack.drivers.alive == []


def test_a_guest_that_left_makes_room(rack: QueueOnRack) -> None:
    enter(rack, "guest")
    rack.submit("one")
    rack.look()
    answers(rack)("leave", {"job": "guest", "code": 0, "message": ""})
    rack.look()

    assert rack.state("guest") is JobState.SUCCEEDED
    assert len(rack.cards("one")) == 2


def test_a_guest_of_whom_nothing_is_heard_is_gone(
    rack: QueueOnRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(rack, "guest")
    rack.look()
    monkeypatch.setattr(guests, "_SILENT_SECONDS", 0.0)
    rack.look()

    assert rack.state("guest") is JobState.FAILED
    assert rack.cards("guest") == set()


def test_a_guest_that_is_to_stop_is_told_who_asks(rack: QueueOnRack) -> None:
    enter(rack, "guest")
    rack.look()
    rack.stop("guest")
    rack.look()

    assert rack.why("guest") == "rackmill stop"


def test_the_same_command_after_a_kill_is_a_guest_beside_the_dead_one(rack: QueueOnRack) -> None:
    for name in ("before", "after"):
        given = {"id": name, "name": "one", "content": content("one")}
        answers(rack)("enter", given)

    assert rack.state("after") is JobState.RUNNING


def test_where_no_queue_is_nobody_is_its_guest(head: MemoryGcs) -> None:
    with guest_of("head:6379", job()) as name:
        assert name is None


def test_without_a_rack_nobody_is_a_guest() -> None:
    with guest_of(None, job()) as name:
        assert name is None


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (None, JobState.SUCCEEDED),
        (Stopped("stopped"), JobState.STOPPED),
        (KeyboardInterrupt(), JobState.STOPPED),
        (JobFailed("no engine is left"), JobState.FAILED),
        (OSError("a defect"), JobState.FAILED),
    ],
)
def test_the_queue_hears_how_a_guest_ended(
    rack: QueueOnRack, head: MemoryGcs, end: BaseException | None, state: JobState
) -> None:
    head.put("queue", b"")
    with (
        contextlib.suppress(BaseException),
        guest_of("head:6379", job(name="mine", output={"path": "/mine"})) as name,
    ):
        assert rack.state(str(name)) is JobState.RUNNING
        if end is not None:
            raise end

    assert rack.state(str(name)) is state
