"""Which rows of an output to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.input.plain import plain_rows
from pipeline.output.stored_rows import StoredRows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Selection:
    """What is asked for; each condition narrows it.

    ``wrong``: the label is not the right answer; ``errors``: there is no answer; ``where``: an
    SQL condition on the columns; ``least_confident``: the most doubtful come first; ``rows``: not
    more than so many (None: all).
    """

    wrong: bool = False
    errors: bool = False
    least_confident: bool = False
    where: str | None = None
    rows: int | None = None


def tables(stored: StoredRows, asked: Selection) -> Iterator[pa.Table]:
    """Those rows in input order, without regard to ``least_confident`` and ``rows``.

    Raises UsageError for a condition that does not go with the output, before any row is read.
    """
    gold = stored.need_gold() if asked.wrong and stored.need_column("label") else None
    if asked.least_confident:
        stored.need_column("confidence")
    if asked.where is not None:
        _matching(stored.schema.empty_table(), asked.where)

    def found() -> Iterator[pa.Table]:
        for table in stored.tables():
            if asked.errors:
                table = table.filter(pc.is_valid(table["error"]))
            if gold is not None:
                pairs = plain_rows(table.select(["label", gold]))[0]
                table = table.filter(pa.array(map(stored.is_wrong, pairs), pa.bool_()))
            if asked.where is not None and table.num_rows:
                table = _matching(table, asked.where)
            if table.num_rows:
                yield table

    return found()


def rows(stored: StoredRows, asked: Selection) -> list[Row]:
    """The rows as Python has them. Raises UsageError."""
    every = _each(tables(stored, asked))
    if not asked.least_confident:
        return list(islice(every, asked.rows))
    known = [row for row in every if row["confidence"] is not None]
    return sorted(known, key=lambda row: row["confidence"])[: asked.rows]


def _each(found: Iterator[pa.Table]) -> Iterator[Row]:
    for table in found:
        yield from plain_rows(table)[0]


def _matching(table: pa.Table, where: str) -> pa.Table:
    """The rows of ``table`` for which an SQL condition holds. Raises UsageError."""
    with duckdb.connect(config={"enable_external_access": False, "threads": 1}) as database:
        database.register("rows", table)
        try:
            found = database.execute(f"SELECT rowid_ FROM (SELECT {_NUMBERED}) WHERE ({where})")
            places = [place for (place,) in found.fetchall()]
        except duckdb.Error as e:
            said = str(e).strip().partition("\n")[0]
            raise UsageError(f"--where {where}: {said}") from None
    return table.take(pa.array(sorted(places), pa.int64()))


_NUMBERED = "*, row_number() OVER () - 1 AS rowid_ FROM rows"
