"""Whether a file only grew: what its first rows looked like then, and do now.

A mark stands for the rows of a file: the SHA-256 of the bytes that hold them. How that is found is
each format's own affair.
"""

from __future__ import annotations

from pipeline.input.changes.mark import Mark
from pipeline.input.formats.protocol import format_module
from pipeline.input.shard import Shard


def mark_of(shard: Shard) -> Mark:
    """Of all rows of a file. What is packed, or otherwise not read as it lies there, has none.
    Raises OSError, UsageError."""
    return Mark() if shard.kind else format_module(shard.format).mark_of(shard)


def rows_still_there(shard: Shard, rows: int, mark: Mark, quotes: str | None = None) -> int | None:
    """How many of the first ``rows`` rows that ``mark`` stands for are still what they were: all,
    all but the last, whose line went on, or None where anything else changed. ``quotes``: as the
    shard had it then, if it may be another one now. Raises as ``mark_of``."""
    if shard.kind or not mark.whole:
        return None
    return format_module(shard.format).rows_still_there(shard, rows, mark, quotes)
