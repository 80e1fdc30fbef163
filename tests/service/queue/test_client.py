"""What a machine with the token asks the queue, over a head in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.rack_state.gcs import HeadGone
from pipeline.errors import JobFailed, UsageError
from pipeline.service.queue import client
from pipeline.service.queue.client import QueueClient, exit_code
from pipeline.service.queue.mailbox import Mailbox, NobodyAnswers
from tests.service.queue.memory_gcs import MemoryGcs
from tests.support.samples import job


class Queue(MemoryGcs):
    """A head with a queue that gives the answers that it is told to give, one after the other, the
    last one for ever. One that is an error is raised where it was asked."""

    def __init__(self) -> None:
        super().__init__(asked=Mailbox(self._answer).look)
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.answers: list[dict[str, Any] | Exception] = []

    def put(self, name: str, value: bytes, *, over: bool = True) -> bool:
        if name.startswith("ask/") and isinstance(self.answers[0], Exception):
            raise self.answers.pop(0)  # type: ignore[misc]
        return super().put(name, value, over=over)

    def _answer(self, what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((what, about))
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        assert not isinstance(found, Exception)
        return found


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    monkeypatch.setattr(client, "Gcs", lambda address: queue)
    monkeypatch.setattr(client, "_LOOK_SECONDS", 0.0)
    return queue


@pytest.fixture
def ask(queue: Queue) -> QueueClient:
    return QueueClient("head:6379")


def state(name: str, **more: Any) -> dict[str, Any]:
    ended = None if name in ("PENDING", "RUNNING") else 1.0
    return {"id": "one-1", "state": name, "ended": ended, "message": "", "exit_code": None} | more


class TestSubmit:
    def test_a_job_travels_with_paths_that_hold_on_the_head(
        self, queue: Queue, ask: QueueClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        queue.answers = [state("PENDING")]
        ask.submit(job(), priority=2, rows=5)

        [(what, about)] = queue.asked
        here = os.path.realpath(tmp_path)
        assert (what, about["priority"], about["rows"]) == ("submit", 2, 5)
        assert about["content"]["input"]["path"] == f"{here}/in.parquet"
        assert about["content"]["output"]["path"] == f"{here}/out"

    def test_each_submission_has_an_id_of_its_own(self, queue: Queue, ask: QueueClient) -> None:
        queue.answers = [state("PENDING")]
        for _ in range(2):
            ask.submit(job(), name="tweets")

        ids = [about["id"] for _, about in queue.asked]
        assert len(set(ids)) == 2
        assert all(found.startswith("tweets-") for found in ids)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"priority": 1_000_000_001},
            {"priority": -1_000_000_001},
            {"name": ""},
            {"name": "../etc"},
            {"name": "a b"},
            {"name": "-a"},
            {"name": "a" * 101},
        ],
    )
    def test_what_is_wrong_is_not_sent(
        self, queue: Queue, ask: QueueClient, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
            ask.submit(job(), **wrong)

        assert queue.asked == []

    def test_a_job_that_would_read_what_it_writes_is_not_sent(
        self, queue: Queue, ask: QueueClient
    ) -> None:
        with pytest.raises(UsageError, match="lies in the input"):
            ask.submit(job(input={"path": "/data"}, output={"path": "/data/out"}))

        assert queue.asked == []


class TestFollow:
    def test_a_job_is_followed_until_it_has_ended(self, queue: Queue, ask: QueueClient) -> None:
        queue.answers = [state("PENDING"), state("RUNNING"), state("SUCCEEDED"), state("RUNNING")]

        assert [found["state"] for found in ask.follow("one")] == [
            "PENDING",
            "RUNNING",
            "SUCCEEDED",
        ]

    def test_by_its_id_once_that_is_known(self, queue: Queue, ask: QueueClient) -> None:
        """A younger job of the same name is another one."""
        queue.answers = [state("RUNNING"), state("SUCCEEDED")]
        list(ask.follow("one"))

        assert [about["job"] for _, about in queue.asked] == ["one", "one-1"]

    def test_a_head_that_is_started_again_is_waited_for(
        self, queue: Queue, ask: QueueClient
    ) -> None:
        queue.answers = [state("RUNNING"), HeadGone("gone"), HeadGone("gone"), state("SUCCEEDED")]

        assert [found["state"] for found in ask.follow("one")] == ["RUNNING", "SUCCEEDED"]

    @pytest.mark.parametrize("gone", [HeadGone, NobodyAnswers])
    def test_not_for_ever(
        self,
        queue: Queue,
        ask: QueueClient,
        monkeypatch: pytest.MonkeyPatch,
        gone: type[JobFailed],
    ) -> None:
        monkeypatch.setattr(client, "_GONE_SECONDS", 0.02)
        queue.answers = [gone("gone")] * 1_000_000
        with pytest.raises(gone):
            list(ask.follow("one"))


class TestLog:
    def piece(self, text: str, offset: int, *, ended: bool = False) -> dict[str, Any]:
        return {"id": "one-1", "text": text, "offset": offset, "ended": ended}

    def test_it_is_read_to_its_end(self, queue: Queue, ask: QueueClient) -> None:
        queue.answers = [self.piece("a", 1), self.piece("b", 2), self.piece("", 2)]

        assert list(ask.log("one")) == ["a", "b"]
        assert [about["offset"] for _, about in queue.asked] == [0, 1, 2]

    def test_it_is_followed_until_the_job_has_ended(self, queue: Queue, ask: QueueClient) -> None:
        queue.answers = [
            self.piece("a", 1),
            self.piece("", 1),
            self.piece("b", 2, ended=True),
            self.piece("", 2, ended=True),
        ]

        assert list(ask.log("one", follow=True)) == ["a", "b"]


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (state("SUCCEEDED", exit_code=0), 0),
        (state("SUCCEEDED", exit_code=3), 3),
        (state("STOPPED", exit_code=130), 130),
    ],
)
def test_who_waited_ends_as_the_job_did(ended: dict[str, Any], code: int) -> None:
    assert exit_code(ended) == code


def test_of_a_job_that_failed_the_reason_is_told() -> None:
    with pytest.raises(JobFailed, match="one-1 failed: its deadline passed") as raised:
        exit_code(state("FAILED", message="its deadline passed", exit_code=1))

    assert raised.value.hints == ("rackmill logs one-1",)
