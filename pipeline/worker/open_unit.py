"""A unit whose rows are on their way through a worker, and a row of it that is ready."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.input.units import Unit
from pipeline.output.columns.results import RowResult
from pipeline.output.rows.redo import KEPT
from pipeline.prompt.join import Prompt
from pipeline.rows.row_range import RowRange
from pipeline.worker.coordination.messages import LeaseRows

_GAP_ROWS = 32


class OpenUnit:
    """A unit whose rows are on their way. ``finish`` may be called from any thread."""

    def __init__(self, unit: Unit, table: pa.Table, again: Sequence[int] | None = None) -> None:
        """``again``: only these rows are to be done; the others have their result already."""
        self.unit = unit
        self.table = table
        self.results: list[RowResult | None] = [None if again is None else KEPT] * unit.rows
        for row in again or ():
            if row < unit.rows:
                self.results[row] = None
        self.begun = 0  # the engine has not begun this row or any after it
        self.losses = 0  # engines that died with some of these rows
        self.settled = False  # committed, and the coordinator knows
        self._missing = sum(result is None for result in self.results)
        self._lock = threading.Lock()

    def finish(self, row: int, result: RowResult) -> bool:
        """Note a row's result; True for the one that makes the unit whole."""
        with self._lock:
            if row >= len(self.results) or self.results[row] is not None:
                return False  # it was given up, or has its result
            self.results[row] = result
            self._missing -= 1
            return self._missing == 0

    def open_rows(self, start: int, stop: int) -> list[int]:
        """Those of the rows ``start``..``stop`` that have no result."""
        with self._lock:
            results = self.results[start:stop]
        return [row for row, result in enumerate(results, start) if result is None]

    @property
    def begun_or_done(self) -> int:
        """The first row that, like all after it, has not been begun; rows before it have their
        result or may have been begun."""
        row = self.begun
        while row < len(self.results) and self.results[row] is not None:
            row += 1
        return row

    def unfinished(self, stop: int) -> list[RowRange]:
        """Rows without a result among the first ``stop``. A few that have one may be among them
        where that makes the list shorter."""
        runs: list[list[int]] = []
        for row, result in enumerate(self.results[:stop]):
            if result is None:
                if runs and row - runs[-1][1] <= _GAP_ROWS:
                    runs[-1][1] = row + 1
                else:
                    runs.append([row, row + 1])
        shard, start = self.unit.shard, self.unit.start
        return [RowRange(shard, start + first, start + end) for first, end in runs]

    @property
    def counts(self) -> LeaseRows:
        """Of the rows to be done here."""
        results = list(self.results)
        missing = sum(result is None for result in results)
        kept = sum(result is KEPT for result in results)
        return LeaseRows(missing, len(results) - missing - kept)

    @property
    def whole(self) -> bool:
        """Whether every row has its result."""
        return self._missing == 0

    @property
    def front(self) -> int:
        """Rows before this one have their result."""
        with self._lock:
            return next((i for i, r in enumerate(self.results) if r is None), len(self.results))

    @property
    def last(self) -> int:
        """No row from this one on has a result."""
        with self._lock:
            behind = enumerate(reversed(self.results))
            rows = len(self.results)
            return rows - next((i for i, r in behind if r is not None), rows)

    def shrink(self, unit: Unit) -> bool:
        """Keep only ``unit``, the first rows of this one, unless it is whole already. True if that
        makes it whole."""
        with self._lock:
            if self._missing == 0:
                return False
            self.unit, self.table = unit, self.table.slice(0, unit.rows)
            self.results = self.results[: unit.rows]
            self._missing = sum(result is None for result in self.results)
            return self._missing == 0


@dataclass(frozen=True, slots=True)
class ReadyRow:
    """A tokenized row, on its way to the engine."""

    unit: OpenUnit
    row: int
    prompt: Prompt
