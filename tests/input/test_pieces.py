"""Tables of more text than one Arrow array holds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.units import Unit
from pipeline.output.columns.answers_as_rows import by_row, problem_with
from pipeline.output.columns.results import RowResult, output_columns, tally, to_table
from pipeline.output.dataset import Dataset
from pipeline.rows.large_tables import in_own_memory, pieces, take
from pipeline.storage.base import open_storage
from tests.support.samples import job, quick

TEXTS = st.lists(st.text("xy", max_size=30) | st.none(), min_size=1, max_size=20)
CUTS = st.lists(st.integers(0, 20), max_size=3)
BYTES = st.integers(1, 200)


def chunked(texts: list[str | None], cuts: list[int]) -> pa.Table:
    ends = sorted({0, len(texts), *(cut for cut in cuts if cut < len(texts))})
    kind = pa.string()
    chunks = [pa.array(texts[a:b], kind) for a, b in pairwise(ends)]
    return pa.table({"row": range(len(texts)), "text": pa.chunked_array(chunks, kind)})


@quick
@given(TEXTS, CUTS, BYTES)
def test_pieces_are_the_table_and_none_is_too_large(
    texts: list[str | None], cuts: list[int], most: int
) -> None:
    table = chunked(texts, cuts)

    made = list(pieces(table, most))

    assert pa.concat_tables(made).equals(table)
    assert all(piece.num_rows == 1 or piece.nbytes <= most for piece in made)


_VIEWS = (
    pa.array(["a", None, "b"], pa.string_view()),
    pa.array([b"a", None, b"b"], pa.binary_view()),
    pa.array([["a"], None, ["b", None]], pa.list_(pa.string_view())),
    pa.array([{"x": "a"}, None, {"x": None}], pa.struct([("x", pa.string_view())])),
)
_RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", "b"]))


@pytest.mark.parametrize("column", _VIEWS, ids=lambda column: str(column.type))
def test_slices_of_views_are_written(column: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"v": pa.chunked_array([column] * 3)})

    with pq.ParquetWriter(tmp_path / "rows.parquet", table.schema) as writer:
        for start in (0, 2, 5):
            writer.write_table(in_own_memory(table.slice(start, 3)))

    expected = [value for start in (0, 2, 5) for value in table["v"].to_pylist()[start:][:3]]
    assert pq.read_table(tmp_path / "rows.parquet")["v"].to_pylist() == expected


@pytest.mark.parametrize("column", [*_VIEWS, _RUNS], ids=lambda column: str(column.type))
@pytest.mark.parametrize("cuts", [[], [1, 2]])
def test_rows_of_any_type_can_be_taken(column: pa.Array, cuts: list[int]) -> None:
    ends = [0, *cuts, len(column)]
    parts = [column.slice(start, end - start) for start, end in pairwise(ends)]
    table = pa.table({"v": pa.chunked_array(parts, column.type), "n": range(3)})

    taken = take(table, np.array([0, 0, 1, 1, 2, 2]))

    assert taken.schema == table.schema
    assert taken["v"].to_pylist() == [one for one in column.to_pylist() for _ in range(2)]


@quick
@given(TEXTS, CUTS, BYTES, st.integers(1, 4))
def test_rows_that_belong_together_are_in_one_piece(
    texts: list[str | None], cuts: list[int], most: int, together: int
) -> None:
    table = chunked([text for text in texts for _ in range(together)], cuts)

    made = list(pieces(table, most, together))

    assert pa.concat_tables(made).equals(table)
    assert all(piece.num_rows % together == 0 for piece in made)
    assert all(piece.num_rows == together or piece.nbytes <= most for piece in made)


@quick
@given(TEXTS, CUTS, BYTES, st.integers(1, 5), st.integers(1, 4))
def test_rows_are_taken_once_in_a_while_or_often(
    texts: list[str | None], cuts: list[int], most: int, often: int, step: int
) -> None:
    table = chunked(texts, cuts)
    rows = np.repeat(np.arange(0, len(texts), step), often)

    taken = take(table, rows, most)

    assert taken.equals(table.take(rows))
    chunks = [chunk for column in taken.columns for chunk in column.chunks]
    assert all(len(chunk) == 1 or chunk.nbytes <= most for chunk in chunks)


def test_a_table_without_rows_is_one_piece() -> None:
    empty = chunked(["x"], []).slice(0, 0)

    assert list(pieces(empty)) == [empty]
    assert take(empty, np.arange(0)).equals(empty)


N, ROWS = 256, 9


@pytest.mark.long
@pytest.mark.parametrize("kind", [pa.string(), pa.list_(pa.string())])
def test_answers_beside_more_than_two_gibibytes_are_written_and_read_again(
    tmp_path: Path, kind: pa.DataType
) -> None:
    text = "x" * (1 << 20)
    value = text if kind == pa.string() else [text]
    inputs = pa.table({"kept": pa.array([value] * ROWS, kind)})
    changes = {"sampling": {"n": N, "temperature": 1.0}, "output": {"path": "out", "n": "rows"}}
    columns = output_columns(job(**changes), inputs.schema)
    answer = RowResult(completion="a", finish_reason="stop", prompt_tokens=1, completion_tokens=1)
    results = [RowResult(prompt_tokens=1, answers=(answer,) * N)] * ROWS
    dataset = Dataset(open_storage(str(tmp_path)))

    table = to_table(inputs, results, columns)
    assert table.nbytes > 1 << 31
    total = tally(inputs, results, columns)
    record = dataset.commit(Unit("unit", 0, 0, ROWS), table, total, {})
    del table
    read = dataset.read_rows(record)

    assert read.num_rows == ROWS * N
    assert problem_with(read, N, ["kept"]) is None
    assert by_row(read, N).column("kept").equals(inputs.column("kept"))
