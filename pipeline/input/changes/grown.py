"""Whether a file only grew: whether its first rows are still the same.

A mark identifies the rows of a file: the SHA-256 of the bytes that hold them. How it is computed
depends on the format.
"""

from __future__ import annotations

from pipeline.input.changes.mark import Mark
from pipeline.input.formats.protocol import format_module
from pipeline.input.shard import Shard


def mark_of(shard: Shard) -> Mark:
    """The mark of all rows of a file. A file that is compressed or has to be converted before
    reading has none. Raises OSError, UsageError."""
    return Mark() if shard.kind else format_module(shard.format).mark_of(shard)


def rows_still_there(shard: Shard, rows: int, mark: Mark, quotes: str | None = None) -> int | None:
    """How many of the first ``rows`` rows, which ``mark`` identifies, are unchanged: all; all but
    the last, whose line was continued; or None if anything else changed. ``quotes``: the shard's
    earlier setting, if it may differ now. Raises as ``mark_of``."""
    if shard.kind or not mark.whole:
        return None
    return format_module(shard.format).rows_still_there(shard, rows, mark, quotes)
