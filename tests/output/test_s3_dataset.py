"""A whole dataset on a real S3 server, input and output: finished, changed, retried, proved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from pipeline import Job
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.output.clean import find_litter
from pipeline.output.commit.records import ATTEMPTS
from pipeline.output.dataset import Dataset
from pipeline.output.rows.redo import KEPT, recommit_rows, select
from pipeline.output.runs.status import Course, read_status
from pipeline.output.verify.dataset import Verification, verify
from pipeline.storage.base import open_storage
from tests.storage.s3_servers import CREDENTIALS, make_bucket, s3_server
from tests.support.datasets import answer, finish, job_in, rows_of

OUTPUT = "s3://bucket/out"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """A job over s3://bucket/rows."""
    import s3fs

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server("moto", tmp_path) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        s3fs.S3FileSystem.clear_instance_cache()
        make_bucket(address)
        put("b", 0, 140)
        yield job_in(tmp_path, input={"path": "s3://bucket/rows"}, output={"path": OUTPUT})
        s3fs.S3FileSystem.clear_instance_cache()


def put(letter: str, start: int, stop: int) -> None:
    with fsspec.open(f"s3://bucket/rows/{letter}.parquet", "wb") as file:
        pq.write_table(rows_of(start, stop), file)


def whole(dataset: Dataset) -> Verification:
    verdict = verify(dataset.storage)
    assert verdict.ok, verdict.faults
    return verdict


def test_a_dataset_through_all_its_life(made: Job) -> None:
    dataset = finish(made, fails=lambda row: row in (3, 130))
    assert whole(dataset).compared_rows == 140

    plan = make_plan(check_input(made), fetch=False)
    redo = select(plan.committed, frozenset())
    for unit in redo.units:
        rows = redo.rows_of(unit, dataset)
        results = [answer(unit.start + i) if i in rows else KEPT for i in range(unit.rows)]
        inputs = rows_of(unit.start, unit.stop)
        recommit_rows(dataset, redo, unit, inputs, results, plan.input.columns, {})
    assert "a retry was interrupted" in " ".join(whole(dataset).notes)

    put("a", 500, 510)  # comes first: all others are moved
    put("b", 0, 140)  # the same content has the same ETag
    plan = make_plan(check_input(made), fetch=False)
    assert [len(plan.moved), plan.rows_left] == [2, 10]
    finish(made)
    assert whole(dataset).notes == []
    rows = dataset.first_rows(999)
    assert [row["id"] for row in rows] == [*range(500, 510), *range(140)]
    assert all(row["error"] is None for row in rows)

    status = read_status(open_storage(OUTPUT))
    assert (status.course, status.rows_done, status.failed) == (Course.FINISHED, 150, 0)
    dataset.storage.replace(f"{ATTEMPTS}/ab-cd.parquet", b"left")
    litter = find_litter(dataset)
    assert [one.path for one in litter] == [f"{ATTEMPTS}/ab-cd.parquet"]
    dataset.delete_all(one.path for one in litter)
    assert dataset.storage.files(ATTEMPTS) == []
