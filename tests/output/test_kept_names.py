"""Columns of the input that are called as other jobs' results are: nobody takes them for these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RowError, RowErrorType
from pipeline.output.columns.results import RowResult, output_columns, tally, to_table
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import read_manifest
from pipeline.output.rows.redo import retally
from pipeline.output.verify.dataset import verify
from pipeline.output.verify.promises import check_table
from pipeline.rows.request import Scores
from pipeline.rows.workload import RequestShape
from pipeline.simulate.run_trace import read_trace
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.support.datasets import job_in
from tests.support.samples import job

SCORE: dict[str, Any] = {"score": {}}
LISTS: dict[str, Any] = {"sampling": {"n": 2, "temperature": 1.0, "max_tokens": 4}}
TOKENS: Sequence[list[Any]] = ([5, 6, 7], ["5", "six", None], [[1, 2], [3], None])
SCORES = Scores(
    token_ids=np.array([4, 5], np.int32),
    logprobs=np.array([-1.0, -2.0], np.float32),
    top_ids=np.zeros((2, 0), np.int32),
    top_logprobs=np.zeros((2, 0), np.float32),
)
GOOD = RowResult(scores=SCORES, prompt_tokens=3)
FAILED = RowResult(error=RowError(RowErrorType.ENGINE_FAILURE, "it died", 1), prompt_tokens=3)


def earlier_output(tokens: list[Any]) -> pa.Table:
    """What another run may have left."""
    return pa.table(
        {"text": ["a", "b", "c"], "completion": ["x", None, "z"], "completion_tokens": tokens}
    )


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("changes", [SCORE, LISTS])
def test_verify_counts_and_misses_none_of_them(
    tmp_path: Path, changes: dict[str, Any], tokens: list[Any]
) -> None:
    (tmp_path / "rows").mkdir()
    pq.write_table(earlier_output(tokens), tmp_path / "rows/a.parquet")

    run_here(job_in(tmp_path, **changes))

    assert verify(open_storage(str(tmp_path / "out"))).faults == []


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_retry_takes_none_of_them_from_the_counts(tokens: list[Any]) -> None:
    inputs = earlier_output(tokens)
    columns = output_columns(job(**SCORE), inputs.schema)
    before = tally(inputs, [GOOD, FAILED, GOOD], columns)
    redone = inputs.slice(1, 1)
    old, new = to_table(redone, [FAILED], columns), tally(redone, [GOOD], columns)

    after = retally(before, old, new, columns.results)

    assert after.as_json() == tally(inputs, [GOOD] * 3, columns).as_json()


@pytest.mark.parametrize("tokens", TOKENS)
def test_the_output_of_a_score_job_is_a_trace_of_one_request_a_row(
    tmp_path: Path, tokens: list[Any]
) -> None:
    inputs = earlier_output(tokens)
    table = to_table(inputs, [GOOD] * 3, output_columns(job(**SCORE), inputs.schema))
    shape = {"rackmill.requests": RequestShape("score", max_tokens=1).encode()}
    pq.write_table(table.replace_schema_metadata(shape), tmp_path / "0.parquet")

    rows = read_trace(tmp_path).rows

    assert [(row.prompt_tokens, row.output_tokens) for row in rows] == [(3, 1)] * 3


@pytest.mark.parametrize("changes", [SCORE, {}])
def test_verify_misses_the_answer_of_a_row_without_one(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    (tmp_path / "rows").mkdir()
    pq.write_table(earlier_output([1, 2, 3]), tmp_path / "rows/a.parquet")
    run_here(job_in(tmp_path, **changes))
    dataset = Dataset(open_storage(str(tmp_path / "out")))
    manifest = read_manifest(dataset.manifest() or {}, "here")
    record = next(iter(dataset.state().commits.values()))
    table = dataset.read_rows(record)

    answer = "logprob" if changes else "completion"
    field = table.schema.field(answer)
    nulls = pa.nulls(table.num_rows, field.type)
    emptied = table.set_column(table.column_names.index(answer), field, nulls)

    faults = [fault.what for fault in check_table(emptied, record, manifest)]
    assert any("with neither an answer nor an error" in fault for fault in faults)
