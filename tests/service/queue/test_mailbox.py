"""Questions to the queue by way of the rack's head, and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.errors import JobFailed, UsageError
from pipeline.service.queue import mailbox
from pipeline.service.queue.mailbox import Mailbox, NobodyAnswers, ask
from tests.service.queue.memory_gcs import MemoryGcs


class Clock:
    """Time passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(mailbox, "time", clock)
    return clock


def answer(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
    if what == "twice":
        return {"found": 2 * about["number"]}
    if what == "wrong":
        raise UsageError("there is no such job", "rackmill jobs shows what there is")
    if what == "failed":
        raise JobFailed("it failed")
    if what == "broken":
        raise RuntimeError("the disk is full")
    raise KeyError(what)


def answered() -> MemoryGcs:
    """A head beside which a queue answers at once."""
    return MemoryGcs(asked=Mailbox(answer).look)


def test_a_question_gets_its_answer() -> None:
    assert ask(answered(), "twice", {"number": 21}) == {"found": 42}


def test_a_fetched_answer_leaves_nothing_behind() -> None:
    gcs = answered()
    ask(gcs, "twice", {"number": 1})

    assert gcs.values == {}


def test_each_of_several_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gcs = MemoryGcs()
    for number in range(3):
        gcs.put(f"ask/{number}", b'{"what": "twice", "about": {"number": %d}}' % number)
    Mailbox(answer).look(gcs)

    assert [gcs.get(f"answer/{n}") for n in range(3)] == [
        b'{"ok": true, "answer": {"found": %d}}' % (2 * n) for n in range(3)
    ]
    assert gcs.names("ask/") == []


def test_what_the_queue_refuses_is_raised_where_it_was_asked() -> None:
    with pytest.raises(UsageError, match="there is no such job") as raised:
        ask(answered(), "wrong")

    assert raised.value.hints == ("rackmill jobs shows what there is",)


def test_what_fails_there_is_no_mistake_of_who_asked() -> None:
    with pytest.raises(JobFailed, match="it failed"):
        ask(answered(), "failed")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"what": "twice"}', b'{"what": "twice", "about": {}}', b"\xff"],
)
def test_a_question_of_another_version_is_answered_with_a_guess_at_why(content: bytes) -> None:
    gcs = MemoryGcs()
    gcs.put("ask/1", content)
    Mailbox(answer).look(gcs)

    assert b"does not understand" in gcs.values["answer/1"]
    assert b"another version" in gcs.values["answer/1"]


@pytest.mark.parametrize(
    "content", [b'{"what": "broken", "about": {}}', b"[" * 100_000], ids=["broken", "nested"]
)
def test_a_question_that_breaks_the_queue_does_not_keep_others_from_their_answers(
    content: bytes,
) -> None:
    gcs = MemoryGcs()
    gcs.put("ask/1", content)
    gcs.put("ask/2", b'{"what": "twice", "about": {"number": 1}}')
    Mailbox(answer).look(gcs)

    assert b'"ok": false' in gcs.values["answer/1"]
    assert gcs.values["answer/2"] == b'{"ok": true, "answer": {"found": 2}}'


def test_where_nobody_answers_that_is_said_and_the_question_withdrawn(clock: Clock) -> None:
    gcs = MemoryGcs()
    with pytest.raises(NobodyAnswers, match="head:6379 has no queue that answers"):
        ask(gcs, "jobs")

    assert clock.now == pytest.approx(15, abs=1)
    assert gcs.values == {}


def test_an_answer_that_nobody_fetches_goes_after_a_minute(clock: Clock) -> None:
    gcs, box = MemoryGcs(), Mailbox(answer)
    gcs.put("ask/1", b'{"what": "twice", "about": {"number": 1}}')
    box.look(gcs)
    clock.now = 59.0
    box.look(gcs)
    assert "answer/1" in gcs.values
    clock.now = 61.0
    box.look(gcs)

    assert gcs.values == {}


def test_a_question_too_large_for_a_head_is_not_sent() -> None:
    gcs = answered()
    with pytest.raises(UsageError, match="too large to be sent"):
        ask(gcs, "submit", {"content": "x" * (17 << 20)})

    assert gcs.values == {}
