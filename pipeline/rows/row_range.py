"""Rows of an input file: the one form in which all code names rows."""

from __future__ import annotations

from typing import NamedTuple


class RowRange(NamedTuple):
    """Rows ``start`` to ``stop`` (exclusive) of the shard with that number, counted from the
    shard's first row."""

    shard: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.stop - self.start
