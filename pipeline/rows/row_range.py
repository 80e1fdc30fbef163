"""Rows of an input file: the one way in which rows are named wherever they go."""

from __future__ import annotations

from typing import NamedTuple


class RowRange(NamedTuple):
    """Rows ``start``..``stop`` (without the latter) of the shard of that number, counted from the
    shard's first row."""

    shard: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.stop - self.start
