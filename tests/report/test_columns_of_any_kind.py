"""Rows of outputs whose columns have names and types that few have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UsageError
from pipeline.cli.show import _named
from pipeline.output.export import export
from pipeline.output.stored_rows import ROW, StoredRows
from pipeline.report.comparison import compare_outputs
from pipeline.report.selection import Selection, rows, tables
from tests.datasets import finish, job_in


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
