"""Parquet as an input format: footers for the plan, streamed batches for the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import HalfWritten, UsageError
from pipeline.input.formats.base import (
    Mark,
    Reader,
    Rows,
    ScannedFile,
    hash_of,
    lacks_its_end,
    open_file,
    open_parquet,
)
from pipeline.input.formats.parquet.second import SecondGroups, SecondWhole
from pipeline.input.formats.protocol import Looked
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.schema.conform import conform
from pipeline.input.schema.join import CommonSchema, join
from pipeline.input.shard import Shard
from pipeline.job.job import Input
from pipeline.rows.large_tables import inner_types
from pipeline.storage.transient_errors import passes

_BATCH_ROWS = 1024


def scan(_path: str, readable: str, _source: Input) -> ScannedFile:
    """Row count, schema and row groups from the footer. Raises UsageError."""
    file = _open(readable)
    rows = file.metadata.num_rows
    try:
        bounds = _bounds(file)
        schema = _without_field_ids(file.schema_arrow)
        names = schema.names
    except (pa.ArrowException, OSError, ValueError) as e:  # ValueError: a name is not UTF-8
        raise _unreadable(readable, str(e)) from None
    finally:
        file.close(force=True)
    if bounds[-1] != rows or bounds != sorted(bounds):
        raise _unreadable(readable, f"its row groups hold {bounds[-1]} of {rows} rows")
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise UsageError(f"{readable} has the column {twice[0]!r} twice", "rename one of them")
    return ScannedFile(rows, schema, boundaries=tuple(bounds[:-1]))


def common_schema(files: Sequence[Looked]) -> CommonSchema:
    return join([(one.path, one.scan.schema) for one in files])


def open_reader(shard: Shard, schema: pa.Schema) -> Reader:
    return ParquetReader(shard.readable, schema)


def open_second(shard: Shard) -> SecondRows:
    return SecondWhole(shard) if shard.kind else SecondGroups(shard)


def mark_of(shard: Shard) -> Mark:
    """The mark of a file's schema and row groups: it cannot be appended to, but may be written anew
    with more row groups."""
    with open_file(shard.path) as file:
        end = _end_of_groups(file, shard.rows)
        file.seek(0)
        return Mark(hash_of(file, end, _schema(file)), end) if end else Mark()


def rows_still_there(shard: Shard, rows: int, mark: Mark, _quotes: str | None) -> int | None:
    with open_file(shard.path) as file:
        same = _end_of_groups(file, rows) == mark.size
        file.seek(0)
        return rows if same and mark.whole == hash_of(file, mark.size, _schema(file)) else None


def _without_field_ids(schema: pa.Schema) -> pa.Schema:
    """The number of a column in its file is not metadata that anyone set."""
    fields = [
        f.with_metadata({k: v for k, v in f.metadata.items() if k != b"PARQUET:field_id"} or None)
        if f.metadata
        else f
        for f in schema
    ]
    return pa.schema(fields, schema.metadata)


def _bounds(file: pq.ParquetFile) -> list[int]:
    """The first row of each row group, and the end of the last one."""
    groups = range(file.metadata.num_row_groups)
    return list(accumulate((file.metadata.row_group(g).num_rows for g in groups), initial=0))


def _open(path: str) -> pq.ParquetFile:
    try:
        return open_parquet(path)
    except OSError as e:
        if passes(e):
            raise  # the caller waits and retries
        raise UsageError(f"{path} cannot be read: {e}") from None
    except (pa.ArrowException, ValueError, MemoryError) as e:
        if lacks_its_end(path):
            raise HalfWritten(
                f"{path} is not a readable Parquet file: its end is missing",
                "it is still being written, or was cut off: write it again, or leave it out",
            ) from None
        raise _unreadable(path, str(e)) from None


def _unreadable(path: str, why: str) -> UsageError:
    reason = (why.splitlines() or ["damaged"])[0]
    return UsageError(
        f"{path} is not a readable Parquet file: {reason}",
        "the file is cut off or is not Parquet: write it again, or leave it out",
    )


def _end_of_groups(file: Any, rows: int) -> int:
    """The offset after the row groups with the first ``rows`` rows; 0 if none ends there."""
    try:
        metadata = pq.ParquetFile(file).metadata
        end = 0
        for number in range(metadata.num_row_groups):
            if rows <= 0:
                break
            group = metadata.row_group(number)
            rows -= group.num_rows
            for place in range(group.num_columns):
                column = group.column(place)
                first = column.dictionary_page_offset or column.data_page_offset
                end = max(end, first + column.total_compressed_size)
    except (pa.ArrowException, ValueError):
        return 0
    return 0 if rows else end


def _schema(file: Any) -> bytes:
    schema = pq.ParquetFile(file).schema_arrow
    file.seek(0)
    return bytes(schema.serialize().to_pybytes())


class ParquetReader:
    """Streams row groups; a unit directly after the last one needs no second decoding."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self._file = _open(path)
        self._schema = schema
        self._starts = _bounds(self._file)[:-1]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._position = -1  # the first row of the buffered batches
        self._buffer: list[pa.RecordBatch] = []

    def read(self, start: int, stop: int) -> Rows:
        group = max((i for i, first in enumerate(self._starts) if first <= start), default=0)
        if not self._position <= start or self._position < self._starts[group]:
            self._batches = self._batches_from(group)
            self._position, self._buffer = self._starts[group], []
        while self._position + sum(b.num_rows for b in self._buffer) < stop:
            try:
                self._buffer.append(next(self._batches))
            except StopIteration:
                break
            while self._buffer and self._position + self._buffer[0].num_rows <= start:
                self._position += self._buffer.pop(0).num_rows
        schema = self._file.schema_arrow.remove_metadata()
        batches = [b.replace_schema_metadata(None) for b in self._buffer]
        table = pa.Table.from_batches(batches, schema).slice(start - self._position, stop - start)
        while self._buffer and self._position + self._buffer[0].num_rows <= stop:
            self._position += self._buffer.pop(0).num_rows
        found, invalid = conform(table, self._schema)
        return Rows(found, invalid, _OwnIntegers(table, self._schema))

    def _batches_from(self, group: int) -> Iterator[pa.RecordBatch]:
        groups = list(range(group, len(self._starts)))
        kinds = (kind for f in self._file.schema_arrow for kind in inner_types(f.type))
        if any(pa.types.is_dictionary(kind) for kind in kinds):
            # each row group has its own dictionary, and Arrow joins none within structs
            for one in groups:
                yield from self._file.iter_batches(_BATCH_ROWS, row_groups=[one])
        else:
            yield from self._file.iter_batches(_BATCH_ROWS, row_groups=groups)

    def close(self) -> None:
        self._file.close(force=True)


class _OwnIntegers:
    """Integers of columns that are wider in other files: 1, not 1.0."""

    def __init__(self, table: pa.Table, schema: pa.Schema) -> None:
        self._table = table
        self._schema = schema

    def __call__(self, name: str) -> list[Any] | None:
        if name not in self._table.column_names:
            return None
        ours, common = self._table.schema.field(name).type, self._schema.field(name).type
        if not pa.types.is_integer(ours) or pa.types.is_integer(common):
            return None
        return list(self._table.column(name).to_pylist())
