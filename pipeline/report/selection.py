"""Which rows of an output to look at."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.input.plain import rows_with_gaps
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.rows.large_tables import take

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Selection:
    """What is asked for; rows must meet all conditions.

    ``wrong``: the label is not the right answer; ``errors``: there is no answer; ``where``: an
    SQL condition on the columns; ``least_confident``: the most doubtful come first; ``rows``: at
    most so many (None: all).
    """

    wrong: bool = False
    errors: bool = False
    least_confident: bool = False
    where: str | None = None
    rows: int | None = None


def tables(stored: StoredRows, asked: Selection) -> Iterator[pa.Table]:
    """The rows that meet the conditions, in input order; ``least_confident`` and ``rows`` are
    ignored.

    Raises UsageError if a condition does not fit the output, before any row is read.
    """
    if asked.wrong and not stored.asked:
        stored.need_column("label")
    judged = stored.right_answers.need() if asked.wrong else ()
    if asked.least_confident and not stored.asked:
        stored.need_column("confidence")
    if asked.where is not None:
        places = [pa.field(FILE, pa.string()), pa.field(ROW, pa.int64())]
        fields = [*stored.schema, *places]
        empty = pa.table({field.name: pa.nulls(0, field.type) for field in fields})
        _holds(empty, stored, asked.where)

    def found() -> Iterator[pa.Table]:
        for table in map(_with_all_columns, stored.tables(), repeat(stored.schema)):
            if asked.errors:
                table = _filtered(table, table["error"].is_valid().to_pylist())
            if judged:
                names = [name for one in judged for name in one.columns]
                few = rows_with_gaps(table.select(list(dict.fromkeys(names))))
                table = _filtered(table, list(map(stored.right_answers.is_wrong, few)))
            if asked.where is not None and table.num_rows:
                table = _filtered(table, _holds(table, stored, asked.where))
            if table.num_rows:
                yield table

    return found()


def rows(stored: StoredRows, asked: Selection) -> list[Row]:
    """The rows as Python values. Raises UsageError."""
    every = chain.from_iterable(map(rows_with_gaps, tables(stored, asked)))
    if not asked.least_confident:
        return list(islice(every, asked.rows))
    known = ((row, sure) for row in every if (sure := stored.confidence(row)) is not None)
    if asked.rows is None:
        found = sorted(known, key=itemgetter(1))
    else:
        found = heapq.nsmallest(asked.rows, known, key=itemgetter(1))
    return [row for row, _ in found]


def _with_all_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A run of a schedule may lack columns of other runs: they are null."""
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def _filtered(table: pa.Table, mask: Sequence[bool | None]) -> pa.Table:
    """The rows for which ``mask`` is true."""
    return take(table, np.flatnonzero(np.array(mask, bool)))


def _holds(table: pa.Table, stored: StoredRows, where: str) -> list[bool | None]:
    """For each row of ``table``, whether an SQL condition holds. Raises UsageError."""
    with duckdb.connect(config={"enable_external_access": False, "threads": 1}) as database:
        try:
            known = _for_sql(table, stored)
            _register(database, known)
            found = database.execute(f"SELECT CAST((\n{where}\n) AS BOOLEAN) FROM rows").fetchall()
        except (duckdb.Error, pa.ArrowException) as e:
            said = str(e).strip().partition("\n")[0]
            raise UsageError(f"--where {where}: {said}") from None
    if len(found) != table.num_rows or any(len(values) != 1 for values in found):
        raise UsageError(f"--where {where}: this is no condition on one row")
    return [holds for (holds,) in found]


def _for_sql(table: pa.Table, stored: StoredRows) -> pa.Table:
    """The table in types that DuckDB has, with file and row under names that are free."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        if name in (FILE, ROW) and name not in stored.shown_names:
            continue
        kind = _SQL_TYPES.get(table.schema.field(name).type)
        column = table[name] if kind is None else table[name].cast(kind)
        columns[stored.shown_names.get(name, name)] = column
    return pa.table(columns)


_SQL_TYPES = {pa.string_view(): pa.string(), pa.float16(): pa.float32()}


def _register(database: duckdb.DuckDBPyConnection, table: pa.Table) -> None:
    """Raises UsageError that names the column that DuckDB cannot read."""
    try:
        database.register("rows", table)
    except duckdb.NotImplementedException:
        for name in table.column_names:
            try:
                database.register("one_column", table.select([name]))
            except duckdb.Error:
                kind = table.schema.field(name).type
                raise UsageError(
                    f"--where cannot read column {name!r}: its type is {kind}"
                ) from None
        raise
