"""The columns of probabilities: kept, proven, exported; and outputs of before there were any."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Job
from pipeline.cli.look.show import row_lines
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.errors import RowError, RowErrorType
from pipeline.input.reader import UnitReader
from pipeline.output.columns.results import RowResult, output_columns, tally, to_table
from pipeline.output.dataset import Dataset
from pipeline.output.export import export
from pipeline.output.rows.redo import recommit_rows, select
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.verify.dataset import verify
from pipeline.report.selection import Selection, rows, tables
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, conclude_now, job_in, write_input

ROWS = 40
CHOICES = ("bad", "good.very", "Bad")
FAILED = RowResult(error=RowError(RowErrorType.TIMEOUT, "not finished", 1), prompt_tokens=5)
NEW = ["accepted", "raw_confidence", "probabilities"]


def answer(row: int) -> RowResult:
    """The row's; row 7 failed."""
    if row == 7:
        return FAILED
    good = 0.5 + row / 100
    return RowResult(
        "good.very", "good.very", good, finish_reason="stop", prompt_tokens=5, completion_tokens=1,
        probabilities=((1 - good) / 2, good, (1 - good) / 2),
    )  # fmt: skip


def the_job(folder: Path) -> Job:
    if not (folder / "rows").exists():
        write_input(folder / "rows", ROWS // 2, ROWS // 2)
    return job_in(folder, label={"choices": CHOICES})


def commit(plan: Plan, dataset: Dataset, units: int | None = None) -> None:
    reader = UnitReader(plan.input.files.shards, plan.input.files.schema)
    columns = plan.input.columns
    for unit in plan.missing[:units]:
        table = reader.read(unit).table
        results = [answer(row) for row in table.column("id").to_pylist()]
        dataset.commit(unit, to_table(table, results, columns), tally(table, results, columns), {})
    reader.close()


@pytest.fixture
def output(tmp_path: Path) -> str:
    plan, dataset = begin(the_job(tmp_path))
    commit(plan, dataset)
    conclude_now(plan, dataset)
    return plan.job.output.path


def test_a_dataset_with_probabilities_is_proven_right(output: str) -> None:
    assert verify(open_storage(output)).faults == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probabilities": (0.5, 0.6, 0.1)}, "do not sum to 1"),
        ({"probabilities": ()}, "neither probabilities nor an error"),
    ],
)
def test_probabilities_that_are_none_are_a_fault(
    tmp_path: Path, wrong: dict[str, tuple[float, ...]], said: str
) -> None:
    plan, dataset = begin(the_job(tmp_path))
    columns = plan.input.columns
    for unit in plan.missing:
        table = pa.table({"id": [0] * unit.rows, "text": [""] * unit.rows})
        results = [replace(answer(0), **wrong)] * unit.rows
        dataset.commit(unit, to_table(table, results, columns), tally(table, results, columns), {})
    conclude_now(plan, dataset)

    assert any(said in fault.what for fault in verify(dataset.storage).faults)


def test_a_row_is_shown_with_its_label_alone(output: str) -> None:
    stored = StoredRows(output)

    [line] = row_lines(stored, rows(stored, Selection(rows=1)), 80)

    assert "good.very 0.50" in line
    assert "0.25" not in line


def test_a_condition_may_ask_for_the_probability_of_a_choice(output: str) -> None:
    asked = Selection(where="probabilities['good.very'] > 0.875")

    assert [row["id"] for row in rows(StoredRows(output), asked)] == [38, 39]


def test_csv_has_the_probabilities_as_json_and_nothing_for_no_promise(
    output: str, tmp_path: Path
) -> None:
    stored = StoredRows(output)
    path = tmp_path / "rows.csv"
    export(tables(stored, Selection()), stored.schema, path)

    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert json.loads(read[0]["probabilities"]) == {"bad": 0.25, "good.very": 0.5, "Bad": 0.25}
    assert read[0]["accepted"] == read[7]["probabilities"] == ""


def test_an_error_row_done_again_has_its_probabilities_and_the_others_keep_theirs(
    tmp_path: Path,
) -> None:
    plan, dataset = begin(the_job(tmp_path))
    commit(plan, dataset)
    redo = select(dataset.records(), frozenset())
    [unit] = redo.units
    inputs = pa.table({"id": list(range(unit.rows)), "text": ["t"] * unit.rows})
    results = [answer(8) if row == 7 else None for row in range(unit.rows)]
    recommit_rows(dataset, redo, unit, inputs, results, plan.input.columns, {})
    dataset.recover(dataset.records().values())

    first, _ = sorted(Path(plan.job.output.path).glob("*.parquet"))
    table = pq.read_table(first)
    assert table.column("raw_confidence").to_pylist() == [
        answer(8 if row == 7 else row).confidence for row in range(unit.rows)
    ]
    assert table.column("probabilities").null_count == 0


class TestBefore:
    """An output that an earlier version began, whose rows have no such columns."""

    @pytest.fixture
    def begun(self, tmp_path: Path) -> Job:
        made = the_job(tmp_path)
        inputs = check_input(made)
        before = output_columns(made, inputs.files.schema, begun=())
        plan = make_plan(replace(inputs, columns=before), fetch=False)
        dataset = Dataset(open_storage(made.output.path))
        dataset.take_over(plan.manifest)
        commit(plan, dataset, units=1)
        dataset.recover(dataset.records().values())
        return made

    def test_is_gone_on_with_in_the_columns_that_it_has(self, begun: Job) -> None:
        plan, dataset = begin(begun)
        assert len(plan.missing) < len(plan.units)
        commit(plan, dataset)
        conclude_now(plan, dataset)

        stored = StoredRows(begun.output.path)
        assert not set(NEW) & set(stored.schema.names)
        assert len(rows(stored, Selection())) == ROWS
        assert len(row_lines(stored, rows(stored, Selection()), 80)) == ROWS
        assert verify(dataset.storage).faults == []

    def test_started_over_it_has_them_all(self, begun: Job) -> None:
        plan = make_plan(check_input(begun), fresh=True, fetch=False)

        assert set(NEW) <= set(plan.input.columns.schema.names)
