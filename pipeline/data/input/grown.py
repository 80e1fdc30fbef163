"""Whether a file only grew: what its first rows looked like then, and do now.

A mark stands for the first rows of a file. JSONL and CSV: the SHA-256 of their bytes. Parquet,
which cannot be appended to but is written anew with more row groups: that of what the footer says
of the row groups that hold them (rows, bytes and statistics of every column). Nothing else is read.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

_CHUNK = 1 << 20  # bytes


def mark(path: str, file_format: str, *, rows: int, size: int) -> str:
    """Of the first ``rows`` rows, in ``size`` bytes; "" where nothing can be said.

    Raises OSError.
    """
    if file_format == "parquet":
        return _of_row_groups(path, rows)
    return _of_bytes(path, size)


def begins_as(path: str, file_format: str, *, rows: int, size: int, marked: str) -> bool:
    """Whether the first ``rows`` rows, in ``size`` bytes, are those that ``marked`` stands for."""
    return bool(marked) and marked == mark(path, file_format, rows=rows, size=size)


def _of_bytes(path: str, size: int) -> str:
    found, last = hashlib.sha256(), b""
    with fsspec.open(path, "rb") as file:
        while size > 0 and (part := file.read(min(size, _CHUNK))):
            found.update(part)
            size, last = size - len(part), part
    whole_lines = not size and last.endswith(b"\n")
    return found.hexdigest() if whole_lines else ""


def _of_row_groups(path: str, rows: int) -> str:
    with fsspec.open(path, "rb") as file:
        try:
            metadata = pq.ParquetFile(file).metadata
            groups: list[Any] = []
            for number in range(metadata.num_row_groups):
                if rows <= 0:
                    break
                group = metadata.row_group(number)
                rows -= group.num_rows
                columns = [group.column(n) for n in range(group.num_columns)]
                groups.append([group.num_rows, *map(_facts, columns)])
        except (pa.ArrowException, ValueError):
            return ""
    if rows:
        return ""
    return hashlib.sha256(json.dumps(groups, default=repr).encode()).hexdigest()


def _facts(column: pq.ColumnChunkMetaData) -> list[Any]:
    known = column.statistics
    values = [known.min, known.max, known.null_count] if known and known.has_min_max else []
    sizes = [column.total_compressed_size, column.total_uncompressed_size]
    return [column.path_in_schema, column.num_values, *sizes, *values]
