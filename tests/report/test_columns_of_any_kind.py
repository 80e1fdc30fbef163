"""Rows of outputs whose columns have names and types that few have."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import JobFailed, UsageError
from pipeline.cli.look.show import _named
from pipeline.interactive.frames import write_table
from pipeline.output.export import export
from pipeline.output.rows.stored_rows import ROW, StoredRows
from pipeline.report.comparison.comparison import _digest, compare_outputs
from pipeline.report.selection import Selection, rows, tables
from tests.support.datasets import finish, job_in


def output_with(folder: Path, **columns: Any) -> StoredRows:
    """A finished output that keeps these columns of an input of 4 rows."""
    (folder / "rows").mkdir(parents=True)
    pq.write_table(
        pa.table({"id": list(range(4)), "text": list("abcd"), **columns}),
        folder / "rows" / "a.parquet",
    )
    finish(job_in(folder))
    return StoredRows(str(folder / "out"))


def chosen(stored: StoredRows, **asked: Any) -> list[int]:
    return [row[ROW] for row in rows(stored, Selection(**asked))]


class TestNames:
    def test_columns_called_as_places_are_stay_as_they_are(self, tmp_path: Path) -> None:
        stored = output_with(tmp_path, _file=list("wxyz"), _row=[9, 8, 7, 6])

        export(tables(stored, Selection()), stored.schema, tmp_path / "x.parquet")

        assert pq.read_table(tmp_path / "x.parquet")["_row"].to_pylist() == [9, 8, 7, 6]
        assert compare_outputs(stored, stored, 0).rows == 4
        assert _named(stored, rows(stored, Selection())[1])["_file"] == "x"
        assert chosen(stored, where="_row = 7") == [2]

    def test_conditions_know_the_places_where_their_names_are_free(self, tmp_path: Path) -> None:
        stored = output_with(tmp_path)

        assert chosen(stored, where="_row > 1 AND _file LIKE '%a.parquet' -- so") == [2, 3]
        assert _named(stored, rows(stored, Selection())[3])["_row"] == 3

    def test_a_column_called_rowid_is_one_like_others(self, tmp_path: Path) -> None:
        assert chosen(output_with(tmp_path, rowid_=[4, 3, 2, 1]), where="rowid_ < 3") == [2, 3]

    @pytest.mark.parametrize(
        "where", ["1=1) UNION (SELECT 0", "count(*) > 0", "1=1) AS BOOLEAN), ((2=2"]
    )
    def test_what_is_no_condition_on_a_row_is_refused(self, tmp_path: Path, where: str) -> None:
        with pytest.raises(UsageError, match="--where"):
            chosen(output_with(tmp_path), where=where)

    def test_a_column_that_a_part_lacks_is_null_there(self, tmp_path: Path) -> None:
        stored = output_with(tmp_path, more=[1, 2, 3, 4])
        whole = next(stored.tables())
        parts = [whole.slice(0, 2).drop_columns(["more"]), whole.slice(2)]
        stored.tables = lambda: iter(parts)  # type: ignore[method-assign]

        assert chosen(stored, where="more > 3") == [3]
        assert [row["more"] for row in rows(stored, Selection())] == [None, None, 3, 4]


class TestTypes:
    def test_views_and_half_floats_can_be_asked_for(self, tmp_path: Path) -> None:
        view = pa.array(list("wxyz")).cast(pa.string_view())
        half = pa.array(np.arange(4, dtype=np.float16))
        stored = output_with(tmp_path, view=view, half=half)

        assert chosen(stored, where="view = 'y' OR half = 0") == [0, 2]
        assert chosen(stored, errors=True) == []

    def test_a_type_that_sql_lacks_is_refused_by_its_column(self, tmp_path: Path) -> None:
        wide = pa.array([1, 2, 3, 4]).cast(pa.decimal256(40, 1))

        with pytest.raises(UsageError, match="wide"):
            chosen(output_with(tmp_path, wide=wide), where="text = 'a'")

    def test_a_value_that_python_lacks_leaves_its_row(self, tmp_path: Path) -> None:
        far = pa.array([0, 10**12, 0, 0]).cast(pa.timestamp("s"))
        row = rows(output_with(tmp_path, far=far), Selection())[1]

        assert (row["text"], row["far"]) == ("b", None)


FAR = pa.array([0, 10**12]).cast(pa.timestamp("s"))
NOT_TEXT = pa.Array.from_buffers(
    pa.string(),
    1,
    [None, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe")],
)


def exported(folder: Path, ending: str, **columns: Any) -> Path:
    table, path = pa.table(columns), folder / f"x.{ending}"
    export(iter([table]), table.schema, path)
    return path


class TestExport:
    @pytest.mark.parametrize("ending", ["csv", "jsonl", "xlsx"])
    @pytest.mark.parametrize("column", [FAR, NOT_TEXT], ids=["far", "not text"])
    def test_a_value_that_would_be_lost_is_named(
        self, tmp_path: Path, ending: str, column: pa.Array
    ) -> None:
        with pytest.raises(JobFailed, match=rf"column 'b', row {len(column)}"):
            exported(tmp_path, ending, a=["x"] * len(column), b=column)

        assert not list(tmp_path.iterdir())

    def test_json_lines_are_json_with_plain_text(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path,
            "jsonl",
            b=pa.array([b"\xff\x00"]),
            f=[float("nan")],
            l=[[float("inf"), 1.5]],
            d=[timedelta(days=1, seconds=2.5)],
            t=[datetime(2020, 1, 2, 3)],
            n=[Decimal("2.50")],
        )

        assert json.loads(path.read_text(), parse_constant=lambda c: pytest.fail(c)) == {
            "b": "/wA=", "f": None, "l": [None, 1.5], "d": "P1DT2.5S", "t": "2020-01-02T03:00:00",
            "n": 2.5,
        }  # fmt: skip
        assert '"n": 2.50' in path.read_text()

    def test_cells_of_csv_have_the_same_text(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path, "csv", b=[b"\xff\x00"], d=[timedelta(seconds=-1.5)], l=[[b"\xff"]]
        )

        assert path.read_text().splitlines()[1] == '"/wA=","-P0DT1.5S","[""/w==""]"'

    def test_numbers_that_a_spreadsheet_keeps_are_numbers(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path,
            "xlsx",
            f=[0.1 + 0.2],
            i=[2**53],
            j=[2**53 + 1],
            n=[Decimal("12.50")],
            t=[datetime(2020, 1, 2)],
            b=[b"\xff\x00"],
            e=[""],
        )

        cells = next(openpyxl.load_workbook(path).active.iter_rows(min_row=2))
        assert [c.data_type for c in cells[:6]] == ["n", "n", "s", "n", "s", "s"]
        assert [c.value for c in cells[1:6]] == [
            2**53, str(2**53 + 1), 12.5, "2020-01-02T00:00:00", "/wA=",
        ]  # fmt: skip

    def test_what_a_worksheet_cannot_hold_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="columns at most"):
            exported(tmp_path, "xlsx", **{f"c{i}": [1] for i in range(16_385)})
        with pytest.raises(UsageError, match="header"):
            exported(tmp_path, "xlsx", **{"c" * 32_768: [1]})

    def test_a_type_that_parquet_lacks_is_named_with_its_column(self, tmp_path: Path) -> None:
        union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])

        with pytest.raises(JobFailed, match="column 'u', a sparse_union"):
            exported(tmp_path, "parquet", a=[1], u=union)
        with pytest.raises(UsageError, match="cannot be written"):
            write_table(pa.table({"u": union}))


class TestComparison:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            (float("nan"), float("nan"), True),
            (1, 1.0, True),
            ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
            ("1", 1, False),
            (["a", "b"], ["a, b"], False),
        ],
    )
    def test_answers_are_the_same_by_value(self, one: Any, other: Any, same: bool) -> None:
        assert (_digest(one) == _digest(other)) is same
