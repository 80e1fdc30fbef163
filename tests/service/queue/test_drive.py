"""The driver of a submitted job: a run with what was submitted."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.rack_state.gcs import HeadGone
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.run import RunOptions
from pipeline.driver.stop.stop import Stop
from pipeline.errors import AlreadyRunning, NoCard, Stopped
from pipeline.job.job import Job
from pipeline.job.when.deadline import deadline_at
from pipeline.output.runs.job_file import job_content
from pipeline.service.queue import drive as module
from pipeline.service.queue.drive import drive
from pipeline.service.queue.job_db import JobDb, RowCounts, SubmittedJob
from tests.service.queue.a_rack import content
from tests.support.datasets import begin, commit_unit, finish, job_in, write_input

DEADLINE = datetime(2027, 1, 1, 6, tzinfo=UTC)


class Run:
    """What is run; raises ``errors`` first."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.asked: list[tuple[Job, RunOptions]] = []

    def __call__(self, job: Job, options: RunOptions, watcher: Watcher, stop: Stop) -> Any:
        self.asked.append((job, options))
        if self.errors:
            raise self.errors.pop(0)
        return "summary"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    run = Run()
    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    return run


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    job = content("one", resources={"deadline": "8h"})
    at = DEADLINE.timestamp()
    JobDb(path).add(SubmittedJob("one-1", "tweets", 0, job, "/one", 7, 0.0, at))
    return path


def test_it_is_what_was_submitted(run: Run, state: Path) -> None:
    assert drive("one-1", state, "head:6379", Watcher(), Stop()) == "summary"

    [(job, options)] = run.asked
    assert (job.name, job.output.path) == ("tweets", "/one")
    assert options == RunOptions(rows=7, address="head:6379", queued="one-1")


def test_a_deadline_counts_from_submission_not_from_this_driver(run: Run, state: Path) -> None:
    drive("one-1", state, "head:6379", Watcher(), Stop())

    [(job, _)] = run.asked
    assert job.resources.deadline is not None
    assert deadline_at(job.resources.deadline, datetime.now(UTC)) == DEADLINE


def test_an_earlier_driver_that_is_about_to_end_is_waited_for(run: Run, state: Path) -> None:
    run.errors = [AlreadyRunning("another run works on it")] * 3

    assert drive("one-1", state, "head:6379", Watcher(), Stop()) == "summary"
    assert len(run.asked) == 4


def test_a_head_that_is_gone_is_no_failure_of_the_job(run: Run, state: Path) -> None:
    run.errors = [HeadGone("the rack's head does not answer")]

    with pytest.raises(NoCard):
        drive("one-1", state, "head:6379", Watcher(), Stop())


def test_not_for_ever(run: Run, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1.0)
    run.errors = [AlreadyRunning("another run works on it")]

    with pytest.raises(AlreadyRunning):
        drive("one-1", state, "head:6379", Watcher(), Stop())


@pytest.mark.parametrize("error", [None, Stopped("asked to stop")])
def test_what_the_rows_came_to_is_known_when_a_driver_has_ended(
    run: Run, tmp_path: Path, error: Exception | None
) -> None:
    write_input(tmp_path / "rows", 40)
    made = job_in(tmp_path)
    ledger = JobDb(tmp_path / "queue.db")
    out = made.output.path
    ledger.add(SubmittedJob("one-1", "one", 0, job_content(made), out, None, 0.0))
    counts = RowCounts(40, 40, 2)
    if error is None:
        finish(made, fails=lambda row: row in (3, 5))
    else:
        plan, dataset = begin(made)
        commit_unit(plan, dataset, plan.units[0], lambda row: row == 3)
        counts = RowCounts(40, plan.units[0].rows, 1)
        run.errors = [error]

    with suppress(Stopped):
        drive("one-1", ledger.path, "head:6379", Watcher(), Stop())

    assert ledger.job("one-1").counts == counts
