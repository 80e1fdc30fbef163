"""Cutting shards into units of work: a pure function of the input, so that resume finds them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.data.jsonl_format import STRIDE
from pipeline.data.shards import Shard

_SMALLEST, _LARGEST = STRIDE, 4096  # rows
_WANTED_UNITS = 64  # enough to balance a rack and to lose little by an interruption


@dataclass(frozen=True)
class Unit:
    """Rows ``start``..``stop`` of a shard, and the name of the output file they become."""

    id: str
    shard: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def file_name(self) -> str:
        """Sorts in input order."""
        return f"{self.shard:05d}-{self.start:012d}.parquet"


def unit_rows(total_rows: int) -> int:
    """Rows per unit for an input of ``total_rows``: a power of two from 128 to 4,096."""
    rows = _SMALLEST
    while rows < _LARGEST and rows * _WANTED_UNITS < total_rows:
        rows *= 2
    return rows


def cut(shards: Sequence[Shard], rows_per_unit: int, limit: int | None = None) -> list[Unit]:
    """Units in input order over the first ``limit`` rows (None: all).

    A unit starts anew at a shard, and ends at a row group's end where one lies within the last
    quarter of it, so that row groups are rarely decoded for two units. An input without rows
    is one empty unit: its dataset has a schema and no rows.
    """
    units: list[Unit] = []
    left = sum(s.rows for s in shards) if limit is None else limit
    for shard in shards:
        boundaries = [b for b in shard.boundaries if b]
        start, end = 0, min(shard.rows, left)
        while start < end:
            stop = min(start + rows_per_unit, end)
            near = [b for b in boundaries if stop - rows_per_unit // 4 <= b <= stop]
            if near and stop < end:
                stop = near[-1]
            units.append(_unit(shard, start, stop))
            start = stop
        left -= end
    return units or [_unit(shards[0], 0, 0)]


def _unit(shard: Shard, start: int, stop: int) -> Unit:
    text = f"{sorted(shard.identity.items())}:{start}:{stop}"
    return Unit(hashlib.sha256(text.encode()).hexdigest()[:24], shard.index, start, stop)
