"""What the queue answers: to who submits, looks, stops, reads the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.machine.facts import own_versions
from pipeline.errors import UsageError
from pipeline.output.runs.run_registry import RunRecord
from pipeline.service.queue import api as answers
from pipeline.service.queue.api import QueueApi
from pipeline.service.queue.job_db import JobDb, JobState
from tests.service.queue.a_rack import content

NOW = 1_780_000_000.0


class Logs:
    """What drivers said, by the names of drivers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, submission: str) -> Path | None:
        path = self._folder / submission
        return path if path.exists() else None

    def write(self, submission: str, said: str | bytes) -> None:
        said = said if isinstance(said, bytes) else said.encode()
        with (self._folder / submission).open("ab") as file:
            file.write(said)


class Asked:
    """The queue's answers, and what it has to find them."""

    def __init__(self, folder: Path) -> None:
        self.ledger = JobDb(folder / "queue.db")
        self.progress: dict[str, RunRecord] = {}
        self.logs = Logs(folder)
        self.now = NOW
        self._ask = QueueApi(self.ledger, self, lambda: self.now)  # type: ignore[arg-type]

    def of(self, job: str) -> RunRecord | None:
        return self.progress.get(job)

    def __call__(self, what: str, **about: Any) -> dict[str, Any]:
        return self._ask(what, about)

    def submit(self, name: str = "one", **changes: Any) -> dict[str, Any]:
        more = {k: changes.pop(k) for k in ("id", "priority", "rackmill", "rows") if k in changes}
        about = {
            "id": name,
            "name": name,
            "priority": 0,
            "content": content(name, **changes),
            "rows": None,
            "rackmill": own_versions()["rackmill"],
        }
        return self("submit", **about | more)

    def all_of_the_log(self, job: str) -> str:
        """As who reads it from the beginning, answer by answer."""
        text, offset = "", 0
        while True:
            found = self("log", job=job, offset=offset)
            if not found["text"]:
                return text
            text, offset = text + found["text"], found["offset"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked(tmp_path)
    monkeypatch.setattr(answers, "log_of", asked.logs.of)
    return asked


class TestSubmit:
    def test_a_job_is_in_the_ledger_when_that_is_said(self, asked: Asked) -> None:
        said = asked.submit(priority=3, rows=7)

        job = asked.ledger.job("one")
        assert (job.priority, job.rows, job.submitted, job.output) == (3, 7, NOW, "/one")
        assert job.content == content("one")
        assert (said["id"], said["state"], said["output"]) == ("one", "PENDING", "/one")

    def test_it_is_said_how_many_jobs_go_before_it(self, asked: Asked) -> None:
        assert asked.submit("one")["before"] == 0
        assert asked.submit("two")["before"] == 1
        assert asked.submit("three", priority=1)["before"] == 0

    def test_another_version_is_told_so(self, asked: Asked) -> None:
        with pytest.raises(UsageError, match=r"rackmill 0\.0\.1 submits to a rack of") as raised:
            asked.submit(rackmill="0.0.1")

        assert "git pull && ./infra/setup" in raised.value.hints[-1]
        assert asked.ledger.jobs() == []

    def test_a_job_that_this_version_does_not_understand_is_refused(self, asked: Asked) -> None:
        about = {"id": "one", "name": "one", "priority": 0, "rows": None}
        with pytest.raises(UsageError, match="unknown key 'promt'"):
            asked(
                "submit",
                **about,
                content=content("one") | {"promt": "x"},
                rackmill=own_versions()["rackmill"],
            )

    @pytest.mark.parametrize(
        "path", ["/nowhere/at/all/rows.parquet", "/nowhere/at/all/*.parquet", "/nowhere/at/[ab]/x"]
    )
    def test_input_that_the_head_does_not_see_is_refused(self, asked: Asked, path: str) -> None:
        with pytest.raises(UsageError, match=r"input\.path .* is not there on") as raised:
            asked.submit(input={"path": path})

        assert "mount the folder there under the same name, or use s3://" in raised.value.hints[-1]

    @pytest.mark.parametrize(
        "path", ["rows.parquet", "*.parquet", "[ab]/*.parquet", "?/x.csv", "."]
    )
    def test_input_in_a_folder_that_the_head_sees_is_taken(
        self, asked: Asked, tmp_path: Path, path: str
    ) -> None:
        asked.submit(input={"path": [f"{tmp_path}/{path}", "s3://bucket/rows"]})

        assert asked.ledger.job("one").state is JobState.PENDING

    def test_a_model_folder_that_the_head_does_not_see_is_refused(self, asked: Asked) -> None:
        with pytest.raises(UsageError, match="model /nowhere/at/all is not there on"):
            asked.submit(model="/nowhere/at/all")

    @pytest.mark.parametrize("other", ["/one", "/one/", "/x/../one", "file:///one"])
    def test_an_output_that_a_job_works_on_is_refused(self, asked: Asked, other: str) -> None:
        asked.submit("one")
        with pytest.raises(UsageError, match="is what the job one works on"):
            asked.submit("two", output={"path": other})

    @pytest.mark.parametrize("other", ["s3://b/one/", "s3://b/one"])
    def test_so_is_one_on_an_object_store(self, asked: Asked, other: str) -> None:
        asked.submit("one", output={"path": "s3://b/one"})
        with pytest.raises(UsageError, match="is what the job one works on"):
            asked.submit("two", output={"path": other})

    def test_a_job_that_comes_twice_is_one(self, asked: Asked) -> None:
        """Who got no answer asks again."""
        asked.submit("one", id="one-1")

        assert asked.submit("one", id="one-1")["id"] == "one-1"
        assert len(asked.ledger.jobs()) == 1

    def test_a_deadline_that_has_passed_is_refused(self, asked: Asked) -> None:
        with pytest.raises(UsageError, match="has passed"):
            asked.submit("one", resources={"deadline": "2020-01-01T00:00Z"})

    def test_a_deadline_counts_from_submission(self, asked: Asked) -> None:
        asked.submit("one", resources={"deadline": "8h"})
        asked.submit("two", resources={"deadline": "2026-06-01T00:00Z"})

        assert asked.ledger.job("one").deadline == NOW + 8 * 3600
        assert asked.ledger.job("two").deadline == 1_780_272_000.0


class TestJobs:
    def test_those_that_wait_come_first_in_their_order(self, asked: Asked) -> None:
        for name, priority in (("ended", 0), ("later", 0), ("high", 1)):
            asked.submit(name, priority=priority)
            asked.now += 1
        asked.ledger.end(asked.ledger.job("ended"), JobState.SUCCEEDED, asked.now, "", 0)

        assert [job["id"] for job in asked("jobs")["jobs"]] == ["high", "later", "ended"]

    def test_of_those_that_ended_only_the_last_ones_are_listed(
        self, asked: Asked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answers, "_MOST_ENDED", 3)
        for name in "abcde":
            asked.now += 1
            asked.submit(name)
            asked.ledger.end(asked.ledger.job(name), JobState.SUCCEEDED, asked.now, "", 0)
        asked.submit("f")

        assert [job["id"] for job in asked("jobs")["jobs"]] == ["f", "e", "d", "c"]

    def test_one_that_runs_says_how_far_it_is(self, asked: Asked) -> None:
        asked.submit()
        asked.ledger.start(asked.ledger.job("one"), NOW)
        assert asked("job", job="one")["rows"] is None

        asked.progress["one"] = _course(rows=100, rows_done=40)
        found = asked("job", job="one")
        assert (found["state"], found["rows"], found["rows_done"]) == ("RUNNING", 100, 40)

    def test_what_an_earlier_run_said_beside_the_output_is_not_its_course(
        self, asked: Asked
    ) -> None:
        asked.submit()
        asked.ledger.start(asked.ledger.job("one"), NOW)
        asked.progress["one"] = _course(rows=100, rows_done=40, started=NOW - 1)

        assert asked("job", job="one")["rows"] is None

    def test_one_that_waits_has_no_course(self, asked: Asked) -> None:
        asked.submit()
        asked.progress["one"] = _course(rows=100, rows_done=40)

        assert asked("job", job="one")["rows"] is None

    def test_a_job_that_is_not_there_is_an_error(self, asked: Asked) -> None:
        asked.submit("tweets")
        for what in ("job", "stop", "log"):
            with pytest.raises(UsageError, match="there is no job tweet") as raised:
                asked(what, job="tweet", offset=0)
            assert raised.value.hints == ("did you mean tweets?",)


class TestStop:
    def test_a_job_that_is_to_stop_says_so(self, asked: Asked) -> None:
        asked.submit()

        assert asked("stop", job="one")["stopping"]
        assert asked.ledger.job("one").stop_asked

    def test_a_job_that_has_ended_stays_as_it_is(self, asked: Asked) -> None:
        asked.submit()
        asked.ledger.end(asked.ledger.job("one"), JobState.SUCCEEDED, NOW, "", 0)

        said = asked("stop", job="one")
        assert (said["state"], said["stopping"]) == ("SUCCEEDED", False)
        assert not asked.ledger.job("one").stop_asked


class TestLog:
    def drivers(self, asked: Asked, number: int) -> None:
        asked.submit()
        for _ in range(number):
            asked.ledger.start(asked.ledger.job("one"), NOW)

    def test_a_job_without_a_driver_has_said_nothing(self, asked: Asked) -> None:
        self.drivers(asked, 0)

        assert asked("log", job="one", offset=0) == {
            "id": "one",
            "text": "",
            "offset": 0,
            "ended": False,
        }

    def test_what_several_drivers_said_is_one_text(self, asked: Asked) -> None:
        self.drivers(asked, 3)
        for number, said in enumerate(["first\n", "", "third\n"], 1):
            asked.logs.write(f"one-{number}", said)

        assert asked("log", job="one", offset=0)["text"] == "first\nthird\n"

    @pytest.mark.parametrize("offset", range(13))
    def test_it_goes_on_where_it_ended(self, asked: Asked, offset: int) -> None:
        self.drivers(asked, 2)
        asked.logs.write("one-1", "first\n")
        asked.logs.write("one-2", "second\n")

        found = asked("log", job="one", offset=offset)
        assert found["text"] == "first\nsecond\n"[offset:]
        assert found["offset"] == 13

    def test_what_is_said_later_comes_later(self, asked: Asked) -> None:
        self.drivers(asked, 1)
        asked.logs.write("one-1", "first\n")
        offset = asked("log", job="one", offset=0)["offset"]
        asked.ledger.start(asked.ledger.job("one"), NOW)
        assert asked("log", job="one", offset=offset)["text"] == ""

        asked.logs.write("one-2", "second\n")
        assert asked("log", job="one", offset=offset)["text"] == "second\n"

    @pytest.mark.parametrize("said", ["xyz\n", "x→\n", "é→😀\n"])
    def test_a_long_log_comes_in_pieces_whole(self, asked: Asked, said: str) -> None:
        self.drivers(asked, 3)
        whole = ""
        for number in (1, 2, 3):
            text = f"driver {number}\n" + said * (200_000 // len(said.encode()))
            asked.logs.write(f"one-{number}", text)
            whole += text

        assert asked.all_of_the_log("one") == whole

    def test_half_a_character_waits_for_its_other_half(self, asked: Asked) -> None:
        self.drivers(asked, 1)
        asked.logs.write("one-1", "a→".encode()[:-1])
        found = asked("log", job="one", offset=0)
        assert found["text"] == "a"

        asked.logs.write("one-1", "→".encode()[-1:])
        assert asked("log", job="one", offset=found["offset"])["text"] == "→"

    def test_what_a_killed_driver_left_unfinished_is_shown_as_such(self, asked: Asked) -> None:
        self.drivers(asked, 2)
        asked.logs.write("one-1", "a→".encode()[:-1])
        asked.logs.write("one-2", "b→".encode()[:-1])
        asked.ledger.end(asked.ledger.job("one"), JobState.FAILED, NOW, "", 1)

        assert asked.all_of_the_log("one") == "a\ufffdb\ufffd"

    def test_a_log_that_is_gone_is_left_out(self, asked: Asked) -> None:
        self.drivers(asked, 2)
        asked.logs.write("one-2", "second\n")

        assert asked("log", job="one", offset=0)["text"] == "second\n"


def test_what_is_no_question_is_none(asked: Asked) -> None:
    with pytest.raises(KeyError):
        asked("dance")


def _course(**known: Any) -> RunRecord:
    """What a run says of itself."""
    times = {"pid_started": NOW, "started": NOW, "beat": NOW}
    return RunRecord("run", "host", "machine", 1, **times | known)
