"""Tables with more text than one Arrow array can hold, 2 GiB: its offsets have 32 bits.

Arrow takes rows from a table into one array per column, after joining all arrays of that column;
and it cannot read lists and structs with more text in one row group of a Parquet file. So such
tables are handled in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_MOST_BYTES = 1 << 30  # of a piece


def pieces(table: pa.Table, most_bytes: int = _MOST_BYTES, together: int = 1) -> Iterator[pa.Table]:
    """Consecutive slices of ``table``, each of at most so many bytes, or with no more rows than
    have to stay ``together``."""
    if table.num_rows <= together or table.nbytes <= most_bytes:
        yield table
        return
    middle = max(1, table.num_rows // together // 2) * together
    yield from pieces(table.slice(0, middle), most_bytes, together)
    yield from pieces(table.slice(middle), most_bytes, together)


def in_own_memory(table: pa.Table) -> pa.Table:
    """The same rows in memory that begins with the first of them, where needed: Arrow's Parquet
    writer refuses slices of text views within structs and lists."""
    views = (pa.string_view(), pa.binary_view())
    if not any(kind in views for field in table.schema for kind in inner_types(field.type)):
        return table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def inner_types(kind: pa.DataType) -> Iterator[pa.DataType]:
    """The types inside ``kind``, at any depth."""
    for number in range(kind.num_fields):
        inner = kind.field(number).type
        yield inner
        yield from inner_types(inner)


def take(table: pa.Table, rows: NDArray[np.int64], most_bytes: int = _MOST_BYTES) -> pa.Table:
    """The ``rows`` of ``table``, in ascending order; a row may be repeated, if its neighbours are
    repeated about as often."""
    if not len(rows):
        return table.slice(0, 0)
    first, end = int(rows[0]), int(rows[-1]) + 1
    span = table.slice(first, end - first)
    often = max(1.0, len(rows) / span.num_rows)
    if len(rows) == 1 or often * span.nbytes <= most_bytes:
        columns = [_take(column, rows - first) for column in span.columns]
        return pa.Table.from_arrays(columns, schema=span.schema)
    middle = len(rows) // 2
    halves = (take(table, part, most_bytes) for part in (rows[:middle], rows[middle:]))
    return pa.concat_tables(halves)


def _take(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    try:
        return column.take(pa.array(rows))
    except pa.ArrowNotImplementedError:  # for text views, at any depth
        slices = [column.slice(row, 1).chunks for row in rows.tolist()]
        chunks = [chunk for some in slices for chunk in some if len(chunk)]
        return pa.chunked_array([pa.concat_arrays(chunks)], column.type)
