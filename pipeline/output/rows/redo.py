"""Error rows that are done again: which rows they are, and how they get back into their unit.

A retry leases committed units. A worker computes those rows of a unit that have an error and takes
the others unchanged from the published file. The unit's next generation is that file with the new
rows in their places; if two workers do rows of one unit, the later one puts its rows into the
generation that the earlier one made.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.input.units import Unit
from pipeline.output.columns.answers_as_rows import by_row
from pipeline.output.columns.results import OutputColumns, RowResult, tally, to_table
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally, length_bucket
from pipeline.rows.error_reasons import discount_reason
from pipeline.rows.row_range import RowRange

KEPT = RowResult()  # stands for the result of a row that is not done again


@dataclass(frozen=True)
class Redo:
    """What is done again: the rows with an error, or with one of ``only``, in these units."""

    records: Mapping[str, CommitRecord]  # by unit id, in input order
    only: frozenset[str] = frozenset()

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(Unit(record.unit, *record.row_range) for record in self.records.values())

    @property
    def rows(self) -> int:
        """How many rows are done again."""
        return sum(
            number
            for record in self.records.values()
            for kind, number in record.tally.errors.items()
            if not self.only or kind in self.only
        )

    def record_of(self, unit: Unit) -> CommitRecord:
        """The record of the committed unit that is ``unit`` or contains it."""
        return self.records[(unit.whole or unit).id]

    def rows_of(self, unit: Unit, dataset: Dataset, each: int = 1) -> list[int]:
        """Which rows of ``unit`` (0: its first) must be done. ``each``: output rows per input row.
        Raises JobFailed, StorageFailed."""
        record = dataset.newest(self.record_of(unit))
        first = unit.start - record.row_range.start
        rows = by_row(dataset.read_rows(record), each)
        kinds = error_types(rows).slice(first, unit.rows).to_pylist()
        return [
            row
            for row, kind in enumerate(kinds)
            if kind is not None and (not self.only or kind in self.only)
        ]


@dataclass(frozen=True)
class Redone:
    """Rows that need no more work, and their counts."""

    row_range: RowRange
    tally: Tally


def select(committed: Mapping[str, CommitRecord], only: frozenset[str]) -> Redo:
    """What a retry of errors of the types ``only`` (empty: all) has to do."""
    records = {
        unit: record
        for unit, record in committed.items()
        if any(n and (not only or kind in only) for kind, n in record.tally.errors.items())
    }
    return Redo(records, only)


def error_types(table: pa.Table) -> pa.ChunkedArray:
    """The type of each row's error; null for a row without one."""
    chunks = [c.flatten()[0] for c in table.column("error").chunks]
    return pa.chunked_array(chunks, pa.string())


def token_count(column: pa.ChunkedArray) -> int:
    """The sum over all rows, and over several answers of a row."""
    tokens = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return int(pc.sum(tokens).as_py() or 0)


def recommit_rows(
    dataset: Dataset,
    redo: Redo,
    unit: Unit,
    inputs: pa.Table,
    results: Sequence[RowResult | None],
    columns: OutputColumns,
    provenance: Mapping[str, str],
    engine: str | None = None,
) -> Redone:
    """Replace the errors in the rows of ``unit`` by their ``results``, except where these are
    ``KEPT``. If a row fails again, its earlier attempts are counted, too. ``engine``: the one that
    answered them.

    Raises CommitFailed, CommitStateUnknown, JobFailed.
    """
    record = redo.record_of(unit)
    first = unit.start - record.row_range.start
    done = {i: r for i, r in enumerate(results) if r is not None and r is not KEPT}
    counted = Tally(rows=unit.rows - len(done))

    def change(newest: CommitRecord, table: pa.Table) -> tuple[pa.Table, Tally] | None:
        nonlocal counted
        each = columns.rows_of_one
        errors = by_row(table, each).column("error").slice(first, unit.rows).to_pylist()
        # if another worker had the same row and got an answer, that answer stays
        rows = [i for i in done if errors[i] is not None]
        if not rows:
            return None
        again = [done[i].tried_before(int(errors[i]["attempts"] or 0)) for i in rows]
        taken = pa.concat_tables([inputs.slice(i, 1) for i in rows])
        places = [(first + i) * each + answer for i in rows for answer in range(each)]
        new = tally(taken, again, columns, engine)
        counted = Tally(rows=unit.rows - len(rows))
        counted.add(new)
        old = by_row(pa.concat_tables([table.slice(i, 1) for i in places]), each)
        merged = merge(table, to_table(taken, again, columns, engine), places)
        return merged, retally(newest.tally, old, new, columns.results)

    if done:
        dataset.recommit(record, change, provenance)
    return Redone(unit.row_range, counted)


def merge(earlier: pa.Table, new: pa.Table, places: Sequence[int]) -> pa.Table:
    """``earlier`` with the rows of ``new`` at ``places`` (ascending); the other rows stay in the
    same memory."""
    earlier = earlier.replace_schema_metadata(None)
    if earlier.schema != new.schema:
        earlier = earlier.cast(new.schema)
    pieces, at = [], 0
    for number, place in enumerate(places):
        pieces += [earlier.slice(at, place - at), new.slice(number, 1)]
        at = place + 1
    return pa.concat_tables([*pieces, earlier.slice(at)])


def retally(before: Tally, old: pa.Table, new: Tally, results: Container[str]) -> Tally:
    """The counts of a unit after its error rows ``old`` became the rows that ``new`` counts.
    ``results``: the columns that do not come from the input."""
    total = deepcopy(before)
    total.rows -= old.num_rows
    total.failed -= old.num_rows
    for error in old.column("error").to_pylist():
        total.errors[error["type"]] -= 1
        discount_reason(total.error_reasons, error["type"], error["message"])
    for name in ("prompt_tokens", "completion_tokens"):
        if name in results:
            column = old.column(name)
            setattr(total, name, getattr(total, name) - token_count(column))
            if name == "prompt_tokens":
                total.prompt_lengths.subtract(length_bucket(n) for n in column.to_pylist() if n)
    total.add(new)
    total.errors, total.prompt_lengths = +total.errors, +total.prompt_lengths
    total.error_reasons = +total.error_reasons
    gone = total.error_examples.keys() - total.errors.keys()
    total.error_examples = {k: v for k, v in total.error_examples.items() if k not in gone}
    total.duplicates = min(total.duplicates, total.rows)
    return total
