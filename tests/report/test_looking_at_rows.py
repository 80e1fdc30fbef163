"""Rows of finished outputs: chosen, compared, exported, and put on a page."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import openpyxl
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UsageError
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.output.export import export
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.report.comparison.comparison import compare_outputs
from pipeline.report.selection import Selection, rows, tables
from tests.support.datasets import begin, job_in

TEXTS = [f"text {i}, <b>été</b>" for i in range(40)]
GOLD = ["good" if i % 2 else "bad" for i in range(40)]
CODES = [f"{i:05d}" for i in range(40)]


def label(row: int) -> str:
    """Wrong in every tenth row."""
    return GOLD[row] if row % 10 else "good"


def labelled(folder: Path, answer: Callable[[int], str] = label, out: str = "out") -> str:
    """An output of 40 labels with confidences that fall with the row; row 7 failed."""
    if not (folder / "rows").exists():
        (folder / "rows").mkdir(parents=True)
        table = pa.table({"text": TEXTS, "gold": GOLD, "code": CODES, "tags": [["a", "b"]] * 40})
        pq.write_table(table, folder / "rows" / "a.parquet")
    made = job_in(
        folder,
        prompt="{text}",
        label={"choices": ["bad", "good"], "gold": "gold"},
        output={"path": str(folder / out)},
    )
    from pipeline.errors import RowError, RowErrorType
    from pipeline.input.reader import UnitReader

    plan, dataset = begin(made)
    reader = UnitReader(plan.input.files.shards, plan.input.files.schema)
    columns = plan.input.columns
    failed = RowResult(error=RowError(RowErrorType.TIMEOUT, "not finished", 1), prompt_tokens=5)
    for unit in plan.missing:
        table = reader.read(unit).table
        results = [
            failed
            if row == 7
            else RowResult(
                f" {answer(row)}", answer(row), 1 - row / 100, finish_reason="stop",
                prompt_tokens=5, completion_tokens=1,
            )
            for row in range(unit.start, unit.stop)
        ]  # fmt: skip
        made_table = to_table(table, results, columns)
        dataset.commit(unit, made_table, tally(table, results, columns), {"model": "m"})
    reader.close()
    conclude(plan, dataset, RunOutcome(), time.time())
    return made.output.path


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return labelled(tmp_path_factory.mktemp("labelled"))


def chosen(output: str, **asked: object) -> list[int]:
    return [row[ROW] for row in rows(StoredRows(output), Selection(**asked))]  # type: ignore[arg-type]


class TestSelection:
    def test_rows_come_in_the_order_of_the_input_with_their_places(self, output: str) -> None:
        found = rows(StoredRows(output), Selection())

        assert [row[ROW] for row in found] == list(range(40))
        assert {row[FILE].rpartition("/")[2] for row in found} == {"a.parquet"}

    def test_wrong_rows_are_those_whose_label_is_not_the_right_answer(self, output: str) -> None:
        assert chosen(output, wrong=True) == [0, 10, 20, 30]

    def test_errors_are_the_rows_without_an_answer(self, output: str) -> None:
        assert chosen(output, errors=True) == [7]

    def test_the_most_doubtful_come_first(self, output: str) -> None:
        assert chosen(output, least_confident=True, rows=3) == [39, 38, 37]

    def test_conditions_narrow_each_other(self, output: str) -> None:
        assert chosen(output, wrong=True, where="confidence < 0.85", rows=1) == [20]

    def test_a_condition_in_sql_may_use_any_column(self, output: str) -> None:
        assert chosen(output, where="code = '00012' or list_contains(tags, 'z')") == [12]

    @pytest.mark.parametrize("where", ["nope = 1", "code =", "code; drop table x"])
    def test_a_condition_that_is_none_is_refused(self, output: str, where: str) -> None:
        with pytest.raises(UsageError, match="--where"):
            chosen(output, where=where)

    def test_a_condition_reaches_no_file(self, output: str, tmp_path: Path) -> None:
        (tmp_path / "secret.csv").write_text("a\n1\n")

        with pytest.raises(UsageError, match="--where"):
            chosen(output, where=f"(select count(*) from '{tmp_path}/secret.csv') > 0")

    def test_wrong_rows_need_right_answers(self, tmp_path: Path) -> None:
        from tests.support.datasets import finish, write_input

        write_input(tmp_path / "rows", 5)
        finish(job_in(tmp_path))

        with pytest.raises(UsageError, match="label"):
            chosen(str(tmp_path / "out"), wrong=True)

    def test_a_folder_without_output_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no output of rackmill"):
            StoredRows(str(tmp_path))


class TestComparison:
    def test_it_says_which_is_right_where_the_other_is_wrong(self, tmp_path: Path) -> None:
        one = labelled(tmp_path)
        other = labelled(tmp_path, lambda row: GOLD[row] if row != 3 else "bad", "better")

        compared = compare_outputs(StoredRows(one), StoredRows(other), keep=2)

        assert (compared.rows, compared.answered, compared.same) == (40, 39, 34)
        assert (compared.only_first, compared.only_second) == (1, 4)
        assert [share.part for share in compared.accuracies] == [35, 38]
        assert compared.p_value == pytest.approx(0.375)  # 2 * P(at most 1 of 5)
        assert [(c.row, c.before, c.after, c.truth) for c in compared.changes] == [
            (0, "good", "bad", "bad"),
            (3, "good", "bad", "good"),
        ]

    def test_outputs_over_other_rows_are_refused(self, tmp_path: Path) -> None:
        one = labelled(tmp_path / "x")
        other = labelled(tmp_path / "y")
        for path in Path(other).glob("*.parquet"):
            path.unlink()

        with pytest.raises(UsageError, match="no row in common"):
            compare_outputs(StoredRows(one), StoredRows(other), keep=0)


class TestExport:
    @pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "xlsx"])
    def test_every_row_and_value_is_there(self, output: str, tmp_path: Path, ending: str) -> None:
        stored, path = StoredRows(output), tmp_path / f"x.{ending}"

        assert export(tables(stored, Selection()), stored.schema, path) == 40

        texts, codes, labels = read_back(path)
        assert (texts, codes) == (TEXTS, CODES)
        assert labels[:7] + labels[8:] == [label(i) for i in range(40) if i != 7]
        assert list(tmp_path.iterdir()) == [path]

    def test_a_formula_is_text_in_a_spreadsheet(self, tmp_path: Path) -> None:
        table = pa.table({"a": ["=1+1", "https://x.example"], "n": [2**60, 3]})

        export(iter([table]), table.schema, tmp_path / "x.xlsx")

        cells = list(openpyxl.load_workbook(tmp_path / "x.xlsx").active.iter_rows(min_row=2))
        assert [(c.value, c.data_type) for c in cells[0]] == [("=1+1", "s"), (str(2**60), "s")]
        assert (cells[1][0].hyperlink, cells[1][1].value) == (None, 3)

    def test_null_and_empty_text_differ_in_csv(self, tmp_path: Path) -> None:
        table = pa.table({"a": ["", None], "b": ["x", "y"]})

        export(iter([table]), table.schema, tmp_path / "x.csv")

        assert (tmp_path / "x.csv").read_text() == '"a","b"\n"","x"\n,"y"\n'

    def test_another_ending_is_refused_with_those_that_go(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="not known") as raised:
            export(iter([]), pa.schema([]), tmp_path / "x.doc")

        assert ".xlsx" in raised.value.hints[0]


def read_back(path: Path) -> tuple[list[str], list[str], list[str]]:
    if path.suffix == ".xlsx":
        frame = pandas.read_excel(path, dtype=str)
    else:
        reader = {".csv": "read_csv('{}', all_varchar=true)", ".parquet": "'{}'"}.get(
            path.suffix, "read_json('{}')"
        )
        frame = duckdb.sql(f"SELECT * FROM {reader.format(path)}").df()
    return list(frame["text"]), list(frame["code"]), list(frame["label"])


class TestPage:
    def test_it_has_the_facts_of_the_summary_and_loads_nothing(self, output: str) -> None:
        page = (Path(output) / "_rackmill" / "report.html").read_text()
        summary = json.loads((Path(output) / "_rackmill" / "summary.json").read_text())

        assert (summary["graded"], summary["graded_right"]) == (39, 35)
        assert summary["confusion"] == {"bad": {"bad": 16, "good": 4}, "good": {"good": 19}}
        assert "89.7% of 39 graded rows agree with gold" in page
        assert not re.search(r"(src|href)=|url\(|@import|<script", page)
        assert "Labels that differ from the right answer" in page

    def test_texts_of_rows_are_escaped(self, output: str) -> None:
        page = (Path(output) / "_rackmill" / "report.html").read_text()

        assert "&lt;b&gt;été&lt;/b&gt;" in page
        assert "<b>été" not in page
