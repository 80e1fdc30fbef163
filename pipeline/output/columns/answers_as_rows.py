"""Several answers of a row as separate rows (``output.n: rows``), and back to one row each.

Everything except the files counts input rows: units, leases, commit records, resume and retry. A
unit's file holds each of its rows once per answer, one after the other, with the answer's number
from 0 on. So two promises stay separate: each row is there exactly once, and it has all of its
answers; ``verify`` checks the second within each file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.input.plain import first_difference
from pipeline.rows.large_tables import pieces, take

if TYPE_CHECKING:
    from pipeline.output.columns.results import RowResult

NUMBER = "answer"  # the column


def taken_apart(
    inputs: pa.Table, results: Sequence[RowResult], answers: int
) -> tuple[pa.Table, list[RowResult]]:
    """The rows of ``inputs`` and their results, each once per answer. A row that failed as a whole
    fails in all of them."""
    rows = np.repeat(np.arange(inputs.num_rows), answers)
    return take(inputs, rows), [one for r in results for one in r.answers or (r,) * answers]


def numbers(rows: int, answers: int) -> list[int]:
    """The column ``NUMBER`` for ``rows`` input rows."""
    return list(range(answers)) * rows


def by_row(table: pa.Table, answers: int) -> pa.Table:
    """One row per input row: that of its first answer, but with the first error of any answer, and
    with the ``completion_tokens`` of all answers as a list."""
    if answers == 1:
        return table
    firsts = np.arange(0, table.num_rows, answers)
    failed = table.column("error").is_valid().to_numpy().reshape(-1, answers)
    tokens = table.column("completion_tokens").combine_chunks()
    ends = pa.array(np.arange(0, table.num_rows + 1, answers), pa.int32())
    changed = {
        "error": take(table.select(["error"]), firsts + failed.argmax(axis=1)).column(0),
        "completion_tokens": pa.ListArray.from_arrays(ends, tokens),
    }
    rows = take(table, firsts)
    for name, column in changed.items():
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, column)
    return rows


def problem_with(table: pa.Table, answers: int, same: Sequence[str]) -> str | None:
    """What is wrong with rows that should have ``answers`` answers each; ``same``: columns with
    the same value in all answers of a row."""
    if table.column(NUMBER).to_pylist() != numbers(table.num_rows // answers, answers):
        return f"has rows whose answers are not numbered from 0 to {answers - 1}"
    for name in same:
        for piece in pieces(table.select([name]), together=answers):
            if _differs(piece.combine_chunks(), answers):
                return f"has answers of one row that differ in {name}"
    return None


def _differs(column: pa.Table, answers: int) -> bool:
    firsts = np.arange(0, column.num_rows, answers)
    first, *others = (take(column, firsts + n).column(0) for n in range(answers))
    return any(first_difference(other, first) is not None for other in others)
