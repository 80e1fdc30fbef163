"""Which pending rows are handed out next: in the given order, but long rows before the end."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Sequence

from pipeline.dispatch.events import UnitRange
from pipeline.dispatch.row_ranges import RowRanges

_LONG = 2.0  # times the mean cost of a row
_BEFORE = 0.75  # of the work by which long rows are all handed out


def handing_order(
    rows: Sequence[int], costs: Sequence[float] | None, order: Sequence[int] | None = None
) -> Sequence[int]:
    """Units in the order in which they are handed out. ``order``: the order without long rows.

    Units whose rows are predicted to be long (twice the mean or more) are spread evenly over the
    first three quarters of the others: a long row that begins last would make everyone wait, and
    all of them first would fill a card with nothing else. Everything else stays in order.
    """
    given = range(len(rows)) if order is None else order
    if costs is None or not len(rows):
        return given
    mean = sum(costs) / max(1, sum(rows))
    each = [c / n if n else 0.0 for c, n in zip(costs, rows, strict=True)]
    long = [unit for unit, cost in enumerate(each) if cost >= _LONG * mean]
    if not long:
        return given
    long.sort(key=lambda unit: (-each[unit], unit))
    is_long = bytearray(len(rows))
    for unit in long:
        is_long[unit] = 1
    others = [unit for unit in given if not is_long[unit]]
    every = max(1.0, _BEFORE * len(others) / len(long))
    found = array("q")
    taken = 0
    for place, unit in enumerate(others):
        while taken < len(long) and taken * every <= place:
            found.append(long[taken])
            taken += 1
        found.append(unit)
    found.extend(long[taken:])
    return found


class Pending:
    """The queue of pending row ranges; those that came back go first. ``order``: of the units, None
    for input order."""

    def __init__(
        self,
        ranges: RowRanges,
        costs: Sequence[float] | None = None,
        order: Sequence[int] | None = None,
    ) -> None:
        self._ranges = ranges
        self._units = handing_order(ranges.rows, costs, order)
        self._head = 0
        self._front: list[tuple[int, int]] = []  # heap of (unit, first row) that came back

    def came_back(self, spans: Iterable[UnitRange]) -> None:
        """These rows are pending again, or now begin at another row: they go first."""
        for span in spans:
            heapq.heappush(self._front, (span.unit, span.start))

    def peek(self) -> UnitRange | None:
        """The next pending rows; None when there are none."""
        while self._front:
            span = self._ranges.pending_range(*self._front[0])
            if span is not None:
                return span
            heapq.heappop(self._front)
        while self._head < len(self._units):
            unit = self._units[self._head]
            if self._ranges.is_whole(unit):
                return UnitRange(unit, 0, self._ranges.rows[unit])
            self._head += 1
        return None
