"""Which pending rows go out next: in the order given, long rows before the tail, prefix groups
to one card each."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Hashable, Iterable, Sequence

from pipeline.dispatch.events import Span
from pipeline.dispatch.row_ranges import RowRanges

_LONG = 2.0  # times the mean cost of a row
_BEFORE = 0.75  # of the work by which long rows are all handed out


def handing_order(
    rows: Sequence[int], costs: Sequence[float] | None, order: Sequence[int] | None = None
) -> Sequence[int]:
    """Units in the order they are handed out. ``order``: in which they otherwise are.

    Units whose rows are predicted long, two times the mean and more, are spread evenly over the
    first three quarters of the others: a long row begun last would make everyone wait, and all of
    them first would fill a card with nothing else. Everything else stays in order.
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


class _Group:
    """Units of one prefix (key None: of none), in handing order; cut ones first."""

    __slots__ = ("free", "front", "head", "key", "number", "owner", "units")

    def __init__(self, number: int, key: Hashable, units: Sequence[int]) -> None:
        self.number = number
        self.key = key
        self.units = units
        self.head = 0
        self.front: list[tuple[int, int]] = []  # heap of (unit, first row) that came back
        self.owner: str | None = None
        self.free = True  # in the queue of groups without an owner

    def peek(self, ranges: RowRanges) -> Span | None:
        """The next pending rows of the group."""
        while self.front:
            span = ranges.pending_piece(*self.front[0])
            if span is not None:
                return span
            heapq.heappop(self.front)
        while self.head < len(self.units):
            unit = self.units[self.head]
            if ranges.is_whole(unit):
                return Span(unit, 0, ranges.rows[unit])
            self.head += 1
        return None


class Pending:
    """The queue of pending row ranges. ``groups``: a key for each unit, None for none.
    ``order``: of the units, None for theirs."""

    def __init__(
        self,
        ranges: RowRanges,
        costs: Sequence[float] | None = None,
        groups: Sequence[Hashable] | None = None,
        order: Sequence[int] | None = None,
    ) -> None:
        self._ranges = ranges
        order = handing_order(ranges.rows, costs, order)
        self._keys = groups
        members: dict[Hashable, Sequence[int]] = {None: order}
        if groups is not None:
            sorted_out: dict[Hashable, array[int]] = {}
            for unit in order:
                sorted_out.setdefault(groups[unit], array("q")).append(unit)
            members = dict(sorted_out)
        self._groups = [_Group(n, key, units) for n, (key, units) in enumerate(members.items())]
        self._number = {group.key: group.number for group in self._groups}
        self._free = [group.number for group in self._groups]  # heap
        self._owned: dict[str, _Group] = {}  # by owner

    def came_back(self, spans: Iterable[Span]) -> None:
        """These rows are pending again, or pending from another row on: first in line."""
        for span in spans:
            key = None if self._keys is None else self._keys[span.unit]
            group = self._groups[self._number[key]]
            heapq.heappush(group.front, (span.unit, span.start))
            if group.owner is None:
                self._offer(group)

    def gone(self, worker: str) -> None:
        """The worker's group is anyone's."""
        group = self._owned.pop(worker, None)
        if group is not None:
            group.owner = None
            self._offer(group)

    def peek(self, worker: str) -> Span | None:
        """The rows that ``worker`` should have next; None when nothing is pending."""
        mine = self._owned.get(worker)
        if mine is not None:
            span = mine.peek(self._ranges)
            if span is not None:
                return span
            self.gone(worker)
        while self._free:
            group = self._groups[self._free[0]]
            span = group.peek(self._ranges)
            if span is None or group.key is not None:
                heapq.heappop(self._free)
                group.free = False
            if span is None:
                continue
            if group.key is not None:
                group.owner = worker
                self._owned[worker] = group
            return span
        while self._owned:  # an idle card is worse than a prefix computed twice
            owner, group = next(iter(self._owned.items()))
            span = group.peek(self._ranges)
            if span is not None:
                return span
            self._owned.pop(owner).owner = None
        return None

    def _offer(self, group: _Group) -> None:
        if not group.free:
            group.free = True
            heapq.heappush(self._free, group.number)
