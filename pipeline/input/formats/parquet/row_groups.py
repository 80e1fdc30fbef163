"""Marks of Parquet files, of their schema and row groups. Such a file cannot be appended to, but
may be written anew with more row groups."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input.formats.base import Mark, hash_of, open_file
from pipeline.input.shard import Shard


def mark_of(shard: Shard) -> Mark:
    """The mark of all row groups of a file. Raises OSError, UsageError."""
    with open_file(shard.path) as file:
        end = _end_of_groups(file, shard.rows)
        file.seek(0)
        return Mark(hash_of(file, end, _schema(file)), end) if end else Mark()


def rows_still_there(shard: Shard, rows: int, mark: Mark, _quotes: str | None) -> int | None:
    """See ``protocol.FormatModule``."""
    with open_file(shard.path) as file:
        same = _end_of_groups(file, rows) == mark.size
        file.seek(0)
        return rows if same and mark.whole == hash_of(file, mark.size, _schema(file)) else None


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
