"""Which engine answered a row, and how far unlike ones agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import UsageError
from pipeline.driver.loop import shared_rows
from pipeline.errors import RowError, RowErrorType
from pipeline.input.units import Unit
from pipeline.output.columns.results import (
    OutputColumns,
    RowResult,
    output_columns,
    tally,
    to_table,
)
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.shared_answers import (
    SHARED_ROWS,
    EngineAgreement,
    SharedAnswers,
    agreements,
    read_shared,
    write_shared,
)
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.support.datasets import job_in, write_input
from tests.support.samples import job

INPUT = pa.table({"id": [1, 2], "text": ["a", "b"]})
DONE = RowResult(completion="yes", finish_reason="stop")
FAILED = RowResult(error=RowError(RowErrorType.PROMPT_TOO_LONG, "too long"))


def columns(**changes: Any) -> OutputColumns:
    return output_columns(job(resources={"mixed": True}, **changes), INPUT.schema)


def test_a_mixed_job_says_of_each_row_which_engine_answered_it() -> None:
    table = to_table(INPUT, [DONE, FAILED], columns(), "ollama gemma3")

    assert table.column("engine").to_pylist() == ["ollama gemma3", None]


def test_other_jobs_have_no_such_column() -> None:
    assert "engine" not in output_columns(job(), INPUT.schema).schema.names


def test_rows_are_counted_by_engine() -> None:
    counted = tally(INPUT, [DONE, FAILED], columns(), "ollama gemma3")

    assert counted.answered_by == {"ollama gemma3": 1}


def test_an_input_column_of_that_name_is_kept_under_another() -> None:
    given = INPUT.append_column("engine", pa.array(["V8", "V6"]))
    laid_out = output_columns(job(resources={"mixed": True}), given.schema)

    assert ("engine", "input_engine") in laid_out.kept


def test_an_answers_property_of_that_name_is_refused() -> None:
    schema = {"type": "object", "properties": {"engine": {"type": "string"}}}
    with pytest.raises(UsageError, match="'engine'"):
        columns(label={"json_schema": schema})


def test_agreement_counts_what_both_answered() -> None:
    one = SharedAnswers("a", {"f:0": "yes", "f:1": "no", "f:2": None, "f:3": "no"})
    other = SharedAnswers("b", {"f:0": "yes", "f:1": "yes", "f:2": "no"})

    assert agreements([one, other]) == [EngineAgreement(("a", "b"), 2, 1)]


def test_answers_are_found_again(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    told = [SharedAnswers("a 1", {"f:0": "ä"}), SharedAnswers("b/2", {"f:0": None})]
    for one in told:
        write_shared(storage, one)

    assert read_shared(storage) == told


@pytest.mark.parametrize(("rows", "shared"), [(7, 0), (80, 10), (512, 48), (100_000, 48)])
def test_a_few_dozen_rows_are_shared_and_no_more_than_an_eighth(rows: int, shared: int) -> None:
    units = [Unit(str(at), 0, at, min(at + 100, rows)) for at in range(0, rows, 100)]

    found = shared_rows(units)

    assert sum(one.rows for one in found) == pytest.approx(shared, abs=4)
    assert all(any(u.start <= one.start and one.stop <= u.stop for u in units) for one in found)


def test_who_answered_is_no_part_of_the_answer(tmp_path: Path) -> None:
    """Else two outputs that say the same would differ in every row."""
    write_input(tmp_path / "rows", 4)
    run_here(job_in(tmp_path, resources={"mixed": True}))

    assert StoredRows(str(tmp_path / "out")).answer_columns == ("completion",)


@pytest.mark.parametrize(
    "content", [b'{"engine": "a", "answers": {"f:1": "\xff"}}', b'{"engine": "a", "ans', b"[]"]
)
def test_a_file_that_is_damaged_or_not_ours_is_passed_over(tmp_path: Path, content: bytes) -> None:
    storage = open_storage(str(tmp_path))
    told = SharedAnswers("b", {"f:1": "yes"})
    write_shared(storage, told)
    storage.replace(f"{SHARED_ROWS}/strange.json", content)

    assert read_shared(storage) == [told]
