"""The state of a run's rows: each is pending, held by one worker, or committed, exactly one of
them.

Units that nobody has touched cost a byte each, as finished ones do; only units in work have a list
of their ranges. So a million units need a few tens of megabytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.dispatch.events import UnitRange

_WHOLE, _OPEN, _DONE = 0, 1, 2  # pending as a whole, in pieces, committed as a whole


@dataclass(slots=True)
class OpenRange:
    """Uncommitted rows ``start``..``stop`` of a unit in work; ``holder`` None: pending."""

    unit: int
    start: int
    stop: int
    holder: str | None

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def span(self) -> UnitRange:
        return UnitRange(self.unit, self.start, self.stop)


@dataclass(slots=True)
class Holding:
    """What one worker holds, oldest first; its rows and their predicted cost."""

    ranges: dict[tuple[int, int], OpenRange] = field(default_factory=dict)  # by unit and first row
    rows: int = 0
    cost: float = 0.0


class RowRanges:
    """Rows of units. ``rows`` of each unit; ``costs``: their predicted costs, in any measure
    (None: every row costs 1)."""

    def __init__(self, rows: Sequence[int], costs: Sequence[float] | None = None) -> None:
        self.rows = array("q", rows)
        self._costs = None if costs is None else array("d", costs)
        self._state = bytearray(len(self.rows))
        self._open: dict[int, list[OpenRange]] = {}
        self.holdings: dict[str, Holding] = {}
        self.total_rows = sum(self.rows)
        self.pending_rows = self.total_rows
        self.held_rows = self.committed_rows = 0
        self.pending_cost = float(self.total_rows) if self._costs is None else sum(self._costs)
        self.held_cost = 0.0
        self.units_done = 0
        for unit, n in enumerate(self.rows):
            if n == 0:
                self._close(unit)

    def cost(self, unit: int, rows: int) -> float:
        """Predicted cost of ``rows`` rows of the unit."""
        if self._costs is None:
            return float(rows)
        return self._costs[unit] * rows / self.rows[unit]

    @property
    def done(self) -> bool:
        return self.committed_rows == self.total_rows

    def is_done(self, unit: int) -> bool:
        """Whether all rows of the unit are committed."""
        return self._state[unit] == _DONE

    def is_whole(self, unit: int) -> bool:
        """Whether all rows of the unit are pending and always were."""
        return self._state[unit] == _WHOLE

    def pending_range(self, unit: int, start: int) -> UnitRange | None:
        """The pending rows that begin at ``start``, if any do."""
        for piece in self._open.get(unit, ()):
            if piece.start == start and piece.holder is None:
                return piece.span
        return None

    def held_range(self, worker: str, unit: int, start: int) -> OpenRange | None:
        """What ``worker`` holds from ``start`` on."""
        holding = self.holdings.get(worker)
        return None if holding is None else holding.ranges.get((unit, start))

    def hold(self, worker: str, span: UnitRange) -> None:
        """Pending rows go to ``worker``. ``span`` begins where a pending piece does; the rest of
        that piece becomes a pending piece of its own."""
        unit = span.unit
        if self._state[unit] == _WHOLE:
            self._open_up(unit)
        pieces = self._open[unit]
        at = 0
        while (piece := pieces[at]).start != span.start or piece.holder is not None:
            at += 1
        if span.stop < piece.stop:
            pieces.insert(at + 1, OpenRange(unit, span.stop, piece.stop, None))
            piece.stop = span.stop
        piece.holder = worker
        cost = self.cost(unit, piece.rows)
        holding = self.holdings.setdefault(worker, Holding())
        holding.ranges[unit, piece.start] = piece
        holding.rows += piece.rows
        holding.cost += cost
        self.pending_rows -= piece.rows
        self.pending_cost -= cost
        self.held_rows += piece.rows
        self.held_cost += cost

    def adopt(self, worker: str, span: UnitRange) -> list[UnitRange]:
        """``worker`` holds those rows of ``span`` that are pending. Returns the pending pieces
        around them."""
        unit = span.unit
        if self._state[unit] == _DONE:
            return []
        if self._state[unit] == _WHOLE:
            self._open_up(unit)
        around: list[UnitRange] = []
        for piece in list(self._open[unit]):
            start, stop = max(piece.start, span.start), min(piece.stop, span.stop)
            if piece.holder is not None or start >= stop:
                if piece.holder is None:
                    around.append(piece.span)
                continue
            if piece.start < start:
                pieces = self._open[unit]
                pieces.insert(pieces.index(piece) + 1, OpenRange(unit, start, piece.stop, None))
                piece.stop = start
                around.append(piece.span)
            rest = self.pending_range(unit, start)
            self.hold(worker, UnitRange(unit, start, stop))
            if rest is not None and stop < rest.stop:
                around.append(UnitRange(unit, stop, rest.stop))
        return around

    def join(self, unit: int) -> list[UnitRange]:
        """Join adjacent pending pieces. Returns all pending pieces of the unit."""
        joined: list[OpenRange] = []
        for piece in self._open.get(unit, ()):
            last = joined[-1] if joined else None
            if last and last.holder is piece.holder is None and last.stop == piece.start:
                last.stop = piece.stop
            else:
                joined.append(piece)
        if joined:
            self._open[unit] = joined
        return [piece.span for piece in joined if piece.holder is None]

    def keep(self, worker: str, kept: UnitRange) -> UnitRange | None:
        """``worker`` keeps only ``kept`` of what it held from ``kept.start`` on. Returns what
        becomes pending; None if it holds no more than ``kept``."""
        piece = self.held_range(worker, kept.unit, kept.start)
        if piece is None or kept.stop >= piece.stop:
            return None
        given = UnitRange(kept.unit, kept.stop, piece.stop)
        self._take_from(worker, kept.unit, given.rows)
        self.pending_rows += given.rows
        self.pending_cost += self.cost(kept.unit, given.rows)
        pieces = self._open[kept.unit]
        if kept.rows == 0:
            del self.holdings[worker].ranges[kept.unit, kept.start]
            piece.holder = None
        else:
            piece.stop = kept.stop
            pieces.insert(
                pieces.index(piece) + 1, OpenRange(kept.unit, given.start, given.stop, None)
            )
        return given

    def release(self, worker: str) -> list[UnitRange]:
        """Everything that ``worker`` held is pending. Returns it in input order."""
        holding = self.holdings.get(worker)
        pieces = sorted(holding.ranges) if holding else []
        given = [self.keep(worker, UnitRange(unit, start, start)) for unit, start in pieces]
        self.holdings.pop(worker, None)
        return [span for span in given if span is not None]

    def commit(self, span: UnitRange) -> tuple[int, list[UnitRange], dict[str, int]]:
        """The rows of ``span`` have their result.

        Returns how many of them are new, the pending pieces that now begin elsewhere, and how many
        rows each worker no longer holds.
        """
        unit = span.unit
        if self._state[unit] == _DONE:
            return 0, [], {}
        if self._state[unit] == _WHOLE:
            self._open_up(unit)
        moved: list[UnitRange] = []
        freed: dict[str, int] = {}
        fresh = 0
        left: list[OpenRange] = []
        for piece in self._open[unit]:
            start, stop = max(piece.start, span.start), min(piece.stop, span.stop)
            if start >= stop:
                left.append(piece)
                continue
            rows = stop - start
            fresh += rows
            if piece.holder is None:
                self.pending_rows -= rows
                self.pending_cost -= self.cost(unit, rows)
            else:
                self._take_from(piece.holder, unit, rows)
                freed[piece.holder] = freed.get(piece.holder, 0) + rows
                del self.holdings[piece.holder].ranges[unit, piece.start]
            for a, b in ((piece.start, start), (stop, piece.stop)):
                if a < b:
                    rest = OpenRange(unit, a, b, piece.holder)
                    left.append(rest)
                    if piece.holder is not None:
                        self.holdings[piece.holder].ranges[unit, a] = rest
                    else:
                        moved.append(rest.span)
        self._open[unit] = left
        self.committed_rows += fresh
        if not left:
            del self._open[unit]
            self._close(unit)
        return fresh, moved, freed

    def commit_before(self, spans: Iterable[UnitRange]) -> list[UnitRange]:
        """``commit`` what an earlier run left: fast for whole units. Returns the pending pieces of
        units that are committed in part."""
        parts: set[int] = set()
        for span in spans:
            if span.stop - span.start == self.rows[span.unit] and not self._state[span.unit]:
                cost = self.cost(span.unit, span.rows) if span.rows else 0.0
                self.pending_rows -= span.rows
                self.pending_cost -= cost
                self.committed_rows += span.rows
                self._close(span.unit)
            else:
                self.commit(span)
                parts.add(span.unit)
        return [p.span for unit in sorted(parts) for p in self._open.get(unit, ())]

    def check(self) -> None:
        """Raise AssertionError unless every row is in exactly one state."""
        assert self.pending_rows + self.held_rows + self.committed_rows == self.total_rows
        held = sum(p.rows for h in self.holdings.values() for p in h.ranges.values())
        assert held == self.held_rows == sum(h.rows for h in self.holdings.values())
        whole = sum(n for n, s in zip(self.rows, self._state, strict=True) if s == _WHOLE)
        parts = [p for pieces in self._open.values() for p in pieces]
        assert whole + sum(p.rows for p in parts if p.holder is None) == self.pending_rows
        assert sum(p.rows for p in parts if p.holder is not None) == self.held_rows
        for pieces in self._open.values():
            assert all(a.stop <= b.start for a, b in pairwise(pieces))
            assert all(p.rows > 0 for p in pieces)

    def _open_up(self, unit: int) -> None:
        self._state[unit] = _OPEN
        self._open[unit] = [OpenRange(unit, 0, self.rows[unit], None)]

    def _close(self, unit: int) -> None:
        self._state[unit] = _DONE
        self.units_done += 1

    def _take_from(self, worker: str, unit: int, rows: int) -> None:
        cost = self.cost(unit, rows)
        holding = self.holdings[worker]
        holding.rows -= rows
        holding.cost = max(0.0, holding.cost - cost) if holding.rows else 0.0
        self.held_rows -= rows
        self.held_cost = max(0.0, self.held_cost - cost) if self.held_rows else 0.0
