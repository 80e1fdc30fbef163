"""Whether a file only grew: what its first rows looked like then, and do now.

A mark stands for the rows of a file: the SHA-256 of the bytes that hold them. JSONL and CSV: of all
whole lines, and of the last one apart if it has no end yet, for it may go on. Parquet, which cannot
be appended to but is written anew with more row groups: of its schema and of its row groups.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input.formats.base import open_file
from pipeline.input.shards import Shard

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Mark:
    """``whole``: the hash of ``size`` bytes. ``tail``: that of ``tail_size`` more, a last line
    without end; "" where there is none."""

    whole: str = ""
    size: int = 0
    tail: str = ""
    tail_size: int = 0


def mark_of(shard: Shard) -> Mark:
    """Of all rows of a file. What is packed, or otherwise not read as it lies there, has none.
    Raises OSError, UsageError."""
    if shard.kind:
        return Mark()
    with open_file(shard.path) as file:
        if shard.format == "parquet":
            end = _end_of_groups(file, shard.rows)
            file.seek(0)
            return Mark(_hash(file, end, _schema(file)), end) if end else Mark()
        tail = _tail_of(file, shard.size, b"\n\r" if shard.format == "csv" else b"\n")
        whole = shard.size - len(tail)
        file.seek(0)
        found = _hash(file, whole)
    if not (tail if shard.format == "csv" else tail.strip()):  # cells may be blanks or tabs
        return Mark(found, whole)
    return Mark(found, whole, hashlib.sha256(tail).hexdigest(), len(tail))


def rows_still_there(shard: Shard, rows: int, mark: Mark, quotes: str | None = None) -> int | None:
    """How many of the first ``rows`` rows that ``mark`` stands for are still what they were: all,
    all but the last, whose line went on, or None where anything else changed. ``quotes``: as the
    shard had it then, if it may be another one now. Raises as ``mark_of``."""
    if shard.kind or not mark.whole:
        return None
    with open_file(shard.path) as file:
        if shard.format == "parquet":
            same = _end_of_groups(file, rows) == mark.size
            file.seek(0)
            return rows if same and mark.whole == _hash(file, mark.size, _schema(file)) else None
        if quotes not in (None, shard.quotes) and _has_quotes(file, mark.size + mark.tail_size):
            return None
        file.seek(0)
        if _hash(file, mark.size) != mark.whole:
            return None
        if not mark.tail:
            return rows
        tail, after = file.read(mark.tail_size), file.read(2)
    same = hashlib.sha256(tail).hexdigest() == mark.tail and _ends_line(after, shard.format)
    return rows if same else rows - 1 if rows else None


def _ends_line(after: bytes, file_format: str) -> bool:
    """Whether a line ends where these two bytes follow, fewer at the file's end."""
    if file_format == "csv":
        return after[:1] in (b"", b"\n", b"\r")
    return after[:1] in (b"", b"\n") or after in (b"\r", b"\r\n")


def _hash(file: Any, size: int, begin: bytes = b"") -> str:
    """Of the next ``size`` bytes; "" where there are fewer."""
    found = hashlib.sha256(begin)
    while size > 0 and (part := file.read(min(size, _CHUNK))):
        found.update(part)
        size -= len(part)
    return "" if size else found.hexdigest()


def _has_quotes(file: Any, size: int) -> bool:
    """In the next ``size`` bytes."""
    while size > 0 and (part := file.read(min(size, _CHUNK))):
        if b'"' in part:
            return True
        size -= len(part)
    return False


def _tail_of(file: Any, size: int, ends: bytes) -> bytes:
    """What comes after the last line's end."""
    tail, at = b"", size
    while at > 0:
        start = max(0, at - _CHUNK)
        file.seek(start)
        part = file.read(at - start)
        last = max(part.rfind(bytes([end])) for end in ends)
        tail, at = part[last + 1 :] + tail, start
        if last >= 0:
            break
    return tail


def _end_of_groups(file: Any, rows: int) -> int:
    """The byte after the row groups that hold the first ``rows`` rows; 0 where none end there."""
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
