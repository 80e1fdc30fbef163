"""What is known of submitted jobs, whatever ends."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.service.queue.job_db import JobDb, JobState, SubmittedJob

WAITS = SubmittedJob("tweets-1", "tweets", 0, {"model": "m"}, "/out", None, submitted=100.0)


@pytest.fixture
def ledger(tmp_path: Path) -> JobDb:
    return JobDb(tmp_path / "state" / "queue.db")


def add(ledger: JobDb, job: str, **given: object) -> SubmittedJob:
    ledger.add(replace(WAITS, **({"id": job, "output": f"/{job}"} | given)))
    return ledger.job(job)


def open_ids(ledger: JobDb) -> list[str]:
    return [job.id for job in ledger.open_jobs()]


def test_a_job_is_found_as_it_was_submitted(ledger: JobDb) -> None:
    job = replace(WAITS, priority=-3, rows=0, deadline=200.5, content={"label": {"choices": "é"}})
    ledger.add(job)

    assert JobDb(ledger.path).job("tweets-1") == job


def test_jobs_are_in_the_order_of_priority_then_of_age(ledger: JobDb) -> None:
    for name, priority, submitted in (("a", 0, 9.0), ("b", 1, 8.0), ("c", 0, 7.0), ("d", -1, 6.0)):
        add(ledger, name, priority=priority, submitted=submitted)

    assert open_ids(ledger) == ["b", "c", "a", "d"]


def test_who_has_ended_is_in_no_order_any_more(ledger: JobDb) -> None:
    job = add(ledger, "a")
    ledger.end(job, JobState.FAILED, 300.0, "it failed", 1)

    assert open_ids(ledger) == []
    ended = ledger.job("a")
    assert (ended.state, ended.ended, ended.message, ended.exit_code) == (
        JobState.FAILED,
        300.0,
        "it failed",
        1,
    )


def test_a_job_that_is_added_again_changes_nothing(ledger: JobDb) -> None:
    ledger.start(add(ledger, "a"), 150.0)
    before = ledger.job("a")
    ledger.add(replace(WAITS, id="a", output="/a", priority=9))

    assert ledger.job("a") == before


def test_two_jobs_do_not_write_to_one_output(ledger: JobDb) -> None:
    add(ledger, "a", output="/out")
    with pytest.raises(UsageError, match="/out is what the job a works on") as raised:
        add(ledger, "b", output="/out")

    assert raised.value.hints == ("give another --output, or: rackmill stop a",)
    assert open_ids(ledger) == ["a"]


def test_the_output_of_a_job_that_has_ended_is_free(ledger: JobDb) -> None:
    ledger.end(add(ledger, "a", output="/out"), JobState.SUCCEEDED, 300.0, "", 0)

    assert add(ledger, "b", output="/out").state is JobState.PENDING


def test_each_driver_of_a_job_has_a_name_of_its_own(ledger: JobDb) -> None:
    first = ledger.start(add(ledger, "a"), 150.0)
    ledger.back(first, "its driver died and is replaced", crashed=True)
    second = ledger.start(ledger.job("a"), 170.0)

    assert [first.submission, second.submission] == ["a-1", "a-2"]
    assert (second.state, second.began, second.crashes) == (JobState.RUNNING, 150.0, 1)


def test_only_drivers_that_crashed_are_counted_as_such(ledger: JobDb) -> None:
    ledger.back(ledger.start(add(ledger, "a"), 150.0), "others are at work on its cards")

    back = ledger.job("a")
    assert (back.state, back.drivers, back.crashes) == (JobState.PENDING, 1, 0)


def test_a_job_is_found_by_its_name_too_the_last_one_of_that_name(ledger: JobDb) -> None:
    add(ledger, "tweets-1", submitted=1.0)
    add(ledger, "tweets-2", submitted=2.0)

    assert ledger.job("tweets").id == "tweets-2"
    assert ledger.job("tweets-1").id == "tweets-1"


def test_an_id_goes_before_a_name(ledger: JobDb) -> None:
    add(ledger, "a", submitted=1.0)
    add(ledger, "b", name="a", submitted=2.0)

    assert ledger.job("a").id == "a"


@pytest.mark.parametrize(
    ("asked", "fix"),
    [("tweets-11", "did you mean tweets-1?"), ("zzz", "rackmill jobs shows what there is")],
)
def test_a_job_that_is_not_there(ledger: JobDb, asked: str, fix: str) -> None:
    add(ledger, "tweets-1")
    with pytest.raises(UsageError, match=f"there is no job {asked}") as raised:
        ledger.job(asked)

    assert raised.value.hints == (fix,)


def test_all_jobs_are_listed_the_last_one_first(ledger: JobDb) -> None:
    for name, submitted in (("a", 1.0), ("b", 2.0)):
        ledger.end(add(ledger, name, submitted=submitted), JobState.STOPPED, 9.0, "", 130)
    add(ledger, "c", submitted=3.0)

    assert [job.id for job in ledger.jobs()] == ["c", "b", "a"]


def test_a_wish_to_stop_is_kept(ledger: JobDb) -> None:
    ledger.stop(add(ledger, "a"))

    assert JobDb(ledger.path).job("a").stop_asked


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database, but long enough to be looked into " * 40)
    with pytest.raises(UsageError, match="is not a file of submitted jobs"):
        JobDb(tmp_path / "x.db")


def test_the_ledger_outlives_its_writer_at_any_moment(ledger: JobDb) -> None:
    add(ledger, "a")
    with sqlite3.connect(ledger.path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_of_guests_that_have_ended_the_last_hundred_are_remembered(ledger: JobDb) -> None:
    first = add(ledger, "submitted")
    ledger.end(first, JobState.SUCCEEDED, 1.0, "")
    add(ledger, "at-work", guest=True)
    for number in range(103):
        guest = add(ledger, f"guest-{number}", guest=True)
        ledger.end(guest, JobState.SUCCEEDED, 2.0 + number, "")
    add(ledger, "last", guest=True)

    known = {job.id for job in ledger.jobs()}
    assert {"submitted", "at-work", "last", "guest-3", "guest-102"} <= known
    assert len(known) == 3 + 100
