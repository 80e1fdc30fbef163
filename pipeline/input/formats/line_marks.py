"""Marks of line-based files, which may be appended to: one for all complete lines, and a separate
one for the last line if it has no end yet, since it may be continued."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from pipeline.input.formats.base import Mark, hash_of, open_file
from pipeline.input.shard import Shard

_CHUNK = 1 << 20  # bytes


def mark_of_lines(shard: Shard, ends: bytes, is_row: Callable[[bytes], object]) -> Mark:
    """``ends``: the bytes that end a line. ``is_row``: whether the text after the last of them is
    the beginning of a row. Raises OSError, UsageError."""
    with open_file(shard.path) as file:
        tail = _tail_of(file, shard.size, ends)
        whole = shard.size - len(tail)
        file.seek(0)
        found = hash_of(file, whole)
    if not is_row(tail):
        return Mark(found, whole)
    return Mark(found, whole, hashlib.sha256(tail).hexdigest(), len(tail))


def lines_still_there(
    shard: Shard, rows: int, mark: Mark, ends_line: Callable[[bytes], bool]
) -> int | None:
    """See ``protocol.FormatModule``. ``ends_line``: whether a line ends before these two
    bytes (fewer at the file's end)."""
    with open_file(shard.path) as file:
        if hash_of(file, mark.size) != mark.whole:
            return None
        if not mark.tail:
            return rows
        tail, after = file.read(mark.tail_size), file.read(2)
    same = hashlib.sha256(tail).hexdigest() == mark.tail and ends_line(after)
    return rows if same else rows - 1 if rows else None


def _tail_of(file: Any, size: int, ends: bytes) -> bytes:
    """The text after the end of the last complete line."""
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
