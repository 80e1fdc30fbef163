"""Finished datasets without an engine: what a run leaves behind, made in a fraction of a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import Job
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.driver.plan.provenance import provenance
from pipeline.driver.run import claim
from pipeline.errors import RowError, RowErrorType
from pipeline.input.reader import UnitReader
from pipeline.input.shards import InputFiles
from pipeline.input.units import Unit
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.storage.base import open_storage
from tests.support.samples import job, write_model

Fails = Callable[[int], bool | RowErrorType | RowError | None]  # True: some type


def rows_of(start: int, stop: int) -> pa.Table:
    """Input rows with an ``id`` of their own."""
    ids = list(range(start, stop))
    return pa.table({"id": ids, "text": [f"text {i}" for i in ids]})


def write_input(folder: Path, *rows: int) -> Path:
    """Files ``a.parquet``, ``b.parquet``, … with so many rows each, the ids counting on."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for letter, number in zip("abcdefgh", rows, strict=False):
        pq.write_table(rows_of(start, start + number), folder / f"{letter}.parquet")
        start += number
    return folder


def job_in(folder: Path, **changes: Any) -> Job:
    """A job over the files in ``folder/rows``, into ``folder/out``."""
    if not (folder / "model").exists():
        write_model(folder / "model")
    return job(
        **{
            "model": str(folder / "model"),
            "input": {"path": str(folder / "rows")},
            "output": {"path": str(folder / "out")},
            "engine": {"kind": "simulated"},
        }
        | changes
    )


def answer(row: int, *, fails: Fails = lambda row: False, text: str = "answer") -> RowResult:
    """What became of the row with the id ``row``."""
    if failed := fails(row):
        kind = failed if isinstance(failed, RowErrorType) else RowErrorType.SCHEMA_NOT_MET
        said = RowError(kind, f"no schema in row {row}", 1)
        error = failed if isinstance(failed, RowError) else said
        return RowResult(prompt_tokens=7, completion_tokens=3, error=error)
    return RowResult(
        completion=f"{text} {row}", finish_reason="stop", prompt_tokens=7, completion_tokens=2
    )


def commit_unit(
    plan: Plan, dataset: Dataset, unit: Unit, fails: Fails = lambda row: False, text: str = "answer"
) -> CommitRecord:
    """Commit a unit as a worker would."""
    reader = UnitReader(plan.input.files.shards, plan.input.files.schema)
    table = reader.read(unit).table
    reader.close()
    results = [answer(i, fails=fails, text=text) for i in table.column("id").to_pylist()]
    columns = plan.input.columns
    return dataset.commit(
        unit, to_table(table, results, columns), tally(table, results, columns), provenance(plan)
    )


def begin(
    made: Job, rows: int | None = None, files: InputFiles | None = None
) -> tuple[Plan, Dataset]:
    """A plan whose folder is claimed."""
    plan = make_plan(check_input(made, rows, files), fetch=False)
    return plan, claim(plan, open_storage(made.output.path), fresh=False)


def finish(made: Job, fails: Fails = lambda row: False, rows: int | None = None) -> Dataset:
    """All rows of ``made`` done, from whatever is there."""
    plan, dataset = begin(made, rows)
    for unit in plan.missing:
        commit_unit(plan, dataset, unit, fails)
    conclude_now(plan, dataset)
    return dataset


def conclude_now(plan: Plan, dataset: Dataset) -> None:
    """All units are committed: the dataset is finished."""
    conclude(plan, dataset, RunOutcome(), time.time())


def ids_in(folder: Path) -> list[int]:
    """The ids of the rows that a reader of the folder sees, in the order of its files."""
    files = sorted(folder.glob("*.parquet"))
    return [i for file in files for i in pq.read_table(file).column("id").to_pylist()]
