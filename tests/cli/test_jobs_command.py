"""`rackmill submit`, `jobs`, `watch`, `logs` and `stop`: what they refuse where there is no rack,
and what they show of one whose head and queue are in memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.service.queue import api as answers
from pipeline.service.queue import client
from pipeline.service.queue.api import QueueApi
from pipeline.service.queue.job_db import JobDb, JobState, RowCounts, SubmittedJob
from pipeline.service.queue.mailbox import Mailbox
from pipeline.service.rack import record
from pipeline.service.rack.record import RackRecord
from tests.service.queue.memory_gcs import MemoryGcs
from tests.support.processes import Finished

Ask = Callable[..., Finished]

_JOB = """\
name: tweets
model: gemma-3-270m
input: {path: rows}
prompt: "{text}"
output: {path: out}
"""
_COMMANDS = {
    "submit": ("submit", "job.yaml"),
    "jobs": ("jobs",),
    "watch": ("watch", "tweets"),
    "logs": ("logs", "tweets"),
    "stop": ("stop", "tweets"),
}


@pytest.fixture(autouse=True)
def _no_rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine in no rack, without a token; and a job."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RACKMILL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "no-token"))
    (tmp_path / "job.yaml").write_text(_JOB)


def refused(result: Finished, *says: str) -> None:
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    for words in says:
        assert words in " ".join(result.err.split())


@pytest.fixture
def nobody() -> str:
    """An address of this machine at which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.parametrize("command", _COMMANDS)
class TestWithoutRack:
    def test_a_machine_in_no_rack_is_told_how_to_name_one(self, ask: Ask, command: str) -> None:
        refused(
            ask(*_COMMANDS[command]),
            "this machine is in no rack",
            "give --address HEAD:PORT, as rackmill rack start printed it, or set RAY_ADDRESS",
        )

    @pytest.mark.parametrize("how", ["option", "environment"])
    def test_an_address_where_nobody_listens(
        self, ask: Ask, command: str, how: str, nobody: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if how == "environment":
            monkeypatch.setenv("RAY_ADDRESS", nobody)
        given = ("--address", nobody) if how == "option" else ()

        refused(
            ask(*_COMMANDS[command], *given),
            f"{nobody}: no Ray answers there",
            "rackmill rack start --head",
        )

    def test_a_head_elsewhere_needs_its_token(self, ask: Ask, command: str) -> None:
        refused(
            ask(*_COMMANDS[command], "--address", "192.0.2.1:6379"),
            "192.0.2.1:6379: a Ray on the network is joined with its token, and there is none",
            "copy the token of its head",
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("submit",), "JOB.yaml"),
        (("submit", "nowhere.yaml"), "nowhere.yaml: no such job file"),
        (("submit", "job.yaml", "--set", "resources.deadline=8"), "or a duration: 90m, 8h, 2d"),
        (("submit", "job.yaml", "--set", "promt=x"), "did you mean 'prompt'?"),
        (("submit", "job.yaml", "--priority", "high"), "--priority"),
        (("submit", "job.yaml", "--rows", "-1"), "--rows"),
        (("submit", "job.yaml", "--workers", "0"), "--workers"),
        (("submit", "job.yaml", "--fresh"), "--fresh"),
        (("jobs", "tweets"), "tweets"),
        (("watch",), "JOB"),
        (("logs", "--lines", "3", "tweets"), "--lines"),
        (("stop",), "WHAT"),
        (("stop", "tweets", "--grace", "5"), "--grace is for a run by its output folder"),
    ],
)
def test_a_command_line_that_is_wrong_is_refused_before_a_rack_is_looked_for(
    ask: Ask, arguments: tuple[str, ...], says: str
) -> None:
    refused(ask(*arguments), says)


class RackInMemory:
    """A queue that answers at once."""

    def __init__(self, folder: Path) -> None:
        self.ledger = JobDb(folder / "queue.db")
        found: Any = self
        self.gcs = MemoryGcs(asked=Mailbox(QueueApi(self.ledger, found, time.time)).look)
        self._folder = folder

    def of(self, job: str) -> None: ...

    def log_of(self, submission: str) -> Path:
        return self._folder / "driver.log"

    def end(self, state: JobState, code: int, message: str = "") -> None:
        """The one job there is."""
        [job] = self.ledger.jobs()
        self.ledger.end(job, state, time.time(), message, code)


@pytest.fixture
def rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RackInMemory:
    rack = RackInMemory(tmp_path)
    monkeypatch.setattr(client, "Gcs", lambda address: rack.gcs)
    monkeypatch.setattr(client, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(answers, "log_of", rack.log_of)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    return rack


class TestWithRack:
    def test_a_submitted_job_is_in_the_queue(
        self, ask: Ask, rack: RackInMemory, tmp_path: Path
    ) -> None:
        result = ask("submit", "job.yaml", "--priority", "2", "--rows", "9", "--workers", "1")

        [job] = rack.ledger.jobs()
        assert (result.code, result.out) == (0, "")
        assert f"{job.id} is in the queue, nothing before it → {tmp_path / 'out'}" in result.err
        assert f"rackmill watch {job.id}" in result.err
        assert (job.name, job.priority, job.rows) == ("tweets", 2, 9)
        assert job.content["resources"] == {"workers": 1}

    def test_with_json_it_is_one_object(self, ask: Ask, rack: RackInMemory) -> None:
        result = ask("submit", "job.yaml", "--name", "other", "--json")

        [job] = rack.ledger.jobs()
        assert (result.json["id"], result.json["state"]) == (job.id, "PENDING")
        assert result.json["name"] == "other"

    def test_an_output_that_a_job_works_on_is_refused(self, ask: Ask, rack: RackInMemory) -> None:
        ask("submit", "job.yaml")

        refused(ask("submit", "job.yaml"), "is what the job tweets-", "give another --output")

    @pytest.mark.parametrize("given", [("--name", "a b"), ("--priority", "2000000000")])
    def test_what_the_queue_would_not_have_is_not_sent(
        self, ask: Ask, rack: RackInMemory, given: tuple[str, str]
    ) -> None:
        refused(ask("submit", "job.yaml", *given), given[0])
        assert rack.ledger.jobs() == []

    def test_jobs_lists_them(self, ask: Ask, rack: RackInMemory) -> None:
        assert "rackmill submit JOB.yaml adds one" in ask("jobs").out
        ask("submit", "job.yaml", "--priority", "2")
        [job] = rack.ledger.jobs()
        [line] = ask("jobs").out.splitlines()

        assert line.startswith(f"{job.id}  PENDING   · priority 2 · waits since ")
        assert [one["id"] for one in ask("jobs", "--json").json["jobs"]] == [job.id]

    def test_a_job_that_is_not_there_is_refused(self, ask: Ask, rack: RackInMemory) -> None:
        for command in ("watch", "logs", "stop"):
            refused(ask(command, "tweets"), "there is no job tweets", "rackmill jobs shows")

    def test_a_job_that_is_to_stop_says_so(self, ask: Ask, rack: RackInMemory) -> None:
        ask("submit", "job.yaml")
        result = ask("stop", "tweets", "--no-wait")

        assert (result.code, result.out) == (0, "")
        assert " STOPPING " in result.err
        assert rack.ledger.jobs()[0].stop_asked

    @pytest.mark.parametrize(
        ("state", "code"),
        [(JobState.SUCCEEDED, 0), (JobState.SUCCEEDED, 3), (JobState.STOPPED, 130)],
    )
    def test_watching_ends_as_the_job_did(
        self, ask: Ask, rack: RackInMemory, state: JobState, code: int
    ) -> None:
        ask("submit", "job.yaml")
        rack.end(state, code)
        result = ask("watch", "tweets", "--json")

        assert result.code == code
        assert result.json["state"] == state

    def test_a_job_that_ended_says_what_its_rows_came_to(
        self, ask: Ask, rack: RackInMemory
    ) -> None:
        ask("submit", "job.yaml")
        rack.end(JobState.SUCCEEDED, 3)
        assert "SUCCEEDED" in (line := ask("jobs").out)
        assert "some rows failed" in line

        rack.ledger.count(rack.ledger.jobs()[0].id, RowCounts(400, 400, 3))
        assert " · 400 of 400 rows · 3 failed · " in ask("jobs").out
        [told] = ask("jobs", "--json").json["jobs"]
        assert (told["rows"], told["rows_done"], told["failed"]) == (400, 400, 3)

    def test_of_a_job_that_failed_the_reason_is_told(self, ask: Ask, rack: RackInMemory) -> None:
        ask("submit", "job.yaml")
        rack.end(JobState.FAILED, 1, "its deadline passed")
        result = ask("watch", "tweets")

        assert result.code == 1
        assert "failed: its deadline passed" in result.err
        assert "rackmill logs tweets-" in result.err

    @pytest.mark.parametrize(
        ("command", "says"),
        [
            (("watch", "tweets"), "goes on, or waits for its turn: only this command has ended"),
            (("logs", "tweets", "-f"), "goes on, or waits for its turn"),
            (("submit", "job.yaml", "--output", "other", "--wait"), "goes on, or waits"),
            (("stop", "tweets"), "is asked to stop, and will: only this command has ended"),
        ],
    )
    def test_who_stops_looking_is_told_that_the_job_goes_on(
        self,
        ask: Ask,
        rack: RackInMemory,
        monkeypatch: pytest.MonkeyPatch,
        command: tuple[str, ...],
        says: str,
    ) -> None:
        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        ask("submit", "job.yaml")
        monkeypatch.setattr(client.time, "sleep", interrupted)
        result = ask(*command)

        assert result.code == 130
        assert says in result.err
        assert "  see it   rackmill watch tweets" in result.err
        assert "stopped" not in result.err

    def test_stopping_a_rack_says_how_many_jobs_wait_for_it(
        self, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = JobDb(tmp_path / "state/queue.db")
        for name, guest in (("a", False), ("b", False), ("c", True)):
            ledger.add(SubmittedJob(name, name, 0, {}, name, None, 0.0, guest=guest))
        gone = RackRecord(1, 0.0, "head:6379", "head", True, "rack")
        monkeypatch.setattr(record, "read_record", lambda: gone)
        result = ask("rack", "stop")

        assert result.code == 0
        assert "2 jobs in its queue go on when it is started again" in result.err

    def test_a_log_is_printed_as_it_is(self, ask: Ask, rack: RackInMemory, tmp_path: Path) -> None:
        said = "plan    1 engine · 268 tokens/row → out\n" * 3000
        (tmp_path / "driver.log").write_text(said)
        ask("submit", "job.yaml")
        rack.ledger.start(rack.ledger.jobs()[0], 0.0)

        assert ask("logs", "tweets") == Finished(0, said, "")
