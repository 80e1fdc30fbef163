"""Converts rows between the worker's names and the dispatcher's numbers, the only place to do so.

Workers, commit records and the driver speak of rows of a shard (``RowRange``); the dispatcher of
rows of a unit (``UnitRange``, which says why).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from pipeline.dispatch.events import UnitRange
from pipeline.input.units import Unit, part
from pipeline.rows.row_range import RowRange


class UnitIndex:
    """The units of a run, in input order."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._places = [(unit.shard, unit.start) for unit in units]

    def within(self, rows: RowRange) -> list[UnitRange]:
        """The rows, unit by unit; rows of no unit are left out."""
        shard, start, stop = rows
        found: list[UnitRange] = []
        number = max(0, bisect_right(self._places, (shard, start)) - 1)
        while number < len(self._units):
            unit = self._units[number]
            if unit.shard > shard or unit.start >= stop:
                break
            first, last = max(start, unit.start), min(stop, unit.stop)
            if unit.shard == shard and first < last:
                found.append(UnitRange(number, first - unit.start, last - unit.start))
            number += 1
        return found

    def all_within(self, rows: Iterable[RowRange]) -> tuple[UnitRange, ...]:
        """All of the rows, unit by unit."""
        return tuple(span for some in rows for span in self.within(some))

    def unit(self, span: UnitRange) -> Unit:
        """How a worker calls these rows: the unit, or the part of it that they are."""
        unit = self._units[span.unit]
        if span.rows == unit.rows:
            return unit
        return part(unit, unit.start + span.start, unit.start + span.stop)

    def row_of(self, unit: int, place: int) -> int:
        """The row of the shard that is at ``place`` in the unit of that number."""
        return self._units[unit].start + place

    def kept(self, unit: Unit, stop: int) -> list[UnitRange]:
        """Of the leased ``unit`` the rows before ``stop`` (of the shard), perhaps none."""
        return [
            UnitRange(span.unit, span.start, stop - self._units[span.unit].start)
            for span in self.within(unit.row_range)
        ]
