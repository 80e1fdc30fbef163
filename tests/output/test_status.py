"""How far a job is, told from its output alone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import UsageError
from pipeline.input.units import part
from pipeline.output.commit.commit_tree import commit_rows
from pipeline.output.dataset import Dataset
from pipeline.output.runs.run_registry import RunRecord, own_process, this_machine
from pipeline.output.runs.status import Course, Status, read_status
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, commit_unit, finish, job_in, write_input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(tmp_path / "rows", 300)
    return tmp_path


def status(folder: Path) -> Status:
    return read_status(open_storage(str(folder / "out")))


def put_run(dataset: Dataset, **changes: object) -> RunRecord:
    pid, since = own_process()
    now = time.time()
    record = RunRecord("r", "here", this_machine(), pid, since, now - 9, now, rows=300)
    record = replace(record, **changes)
    dataset.storage.replace(record.path, record.encode())
    return record


def test_a_finished_job_is_told_from_its_summary(folder: Path) -> None:
    finish(job_in(folder), fails=lambda row: row in (1, 2))
    told = status(folder)

    assert (told.course, told.rows_done, told.rows) == (Course.FINISHED, 300, 300)
    assert told.errors == {"SchemaNotMet": 2}
    assert (told.units_done, told.units) == (3, 3)


def test_an_interrupted_job_is_told_from_its_records(folder: Path) -> None:
    plan, dataset = begin(job_in(folder))
    commit_unit(plan, dataset, plan.units[1], lambda row: row == 130)
    told = status(folder)

    assert (told.course, told.rows_done, told.failed) == (Course.INTERRUPTED, 128, 1)
    assert (told.units_done, told.units) == (1, 3)


def test_a_part_of_a_unit_counts_with_its_rows_alone(folder: Path) -> None:
    plan, dataset = begin(job_in(folder))
    unit = plan.units[0]
    record = commit_unit(plan, Dataset(open_storage(str(folder / "x"))), part(unit, 0, 50))
    table = Dataset(open_storage(str(folder / "x"))).read_rows(record)
    commit_rows(dataset, part(unit, 0, 50), lambda start, stop: (table, record.tally), {})
    told = status(folder)

    assert (told.rows_done, told.units_done) == (50, 0)


@pytest.mark.parametrize(
    ("state", "course"),
    [
        ("running", Course.RUNNING),
        ("stopping", Course.STOPPING),
        ("stopped", Course.STOPPED),
        ("failed", Course.INTERRUPTED),
    ],
)
def test_the_last_run_says_where_the_job_is(state: str, course: Course, folder: Path) -> None:
    _, dataset = begin(job_in(folder))
    record = put_run(dataset, state=state)
    told = status(folder)

    assert told.course is course
    assert told.run == record


def test_a_run_that_died_is_not_alive(folder: Path) -> None:
    _, dataset = begin(job_in(folder))
    put_run(dataset, pid_started=1.0)

    assert status(folder).course is Course.INTERRUPTED


def test_the_first_rows_of_an_input_are_all_of_the_job(folder: Path) -> None:
    finish(job_in(folder), rows=200)

    assert (status(folder).rows, status(folder).course) == (200, Course.FINISHED)


def test_a_folder_that_is_not_rackmills_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output of rackmill"):
        status(tmp_path)
