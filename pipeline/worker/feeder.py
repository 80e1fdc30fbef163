"""The stage before the engine: leases in, tokenized rows out, always a few hundred ahead."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pipeline.dispatch.events import NoLease
from pipeline.errors import RowError, RowErrorType
from pipeline.humanize import duration
from pipeline.input.formats.base import PlainRows
from pipeline.input.reader import UnitReader
from pipeline.input.units import Unit, part
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.output.dataset import Dataset
from pipeline.prompt.builder import PromptBuilder, prompt_columns
from pipeline.rows.row_range import RowRange
from pipeline.rows.work_order import STREAMS
from pipeline.worker.coordination.messages import (
    GiveUpRows,
    Lease,
    LeaseRows,
    Progress,
    WorkerSpec,
)
from pipeline.worker.open_unit import OpenUnit, ReadyRow
from pipeline.worker.stage import Stage

if TYPE_CHECKING:  # it imports Ray, and this module
    from pipeline.worker.coordination.remote import RemoteCoordination

_log = logging.getLogger(__name__)
_TOKENIZED_AT_ONCE = 64  # rows
_ROWS_AHEAD = 512
# finished units, lost if the worker dies, and in memory; twice as many as may finish
# at the same time, so that we only wait for storage that is slower than the engine
_MOST_UNCOMMITTED = 2 * STREAMS
_LONGEST_WHY = 300  # characters
_SURELY_AHEAD = 64  # rows that may be taken within a heartbeat, however few were before
_POLL_SECONDS, _LONGEST_POLL = 0.2, 2.0  # while there is nothing to do: less and less often


@dataclass(eq=False)
class _Stream:
    """A unit in progress: rows before ``start`` were fed."""

    opened: OpenUnit
    inputs: PlainRows
    start: int = 0
    round_start: int = 0

    @property
    def done(self) -> bool:
        return self.start >= self.opened.unit.rows  # it may have fewer rows than when it was begun

    def next_rows(self, number: int) -> list[tuple[int, Mapping[str, Any], str | None]]:
        """Those of the next ``number`` rows that have no result: their places, their values, and
        what is wrong with them, if anything."""
        self.round_start, self.start = self.start, self.start + number
        places = self.opened.open_rows(self.round_start, self.start)
        if not places:
            return []
        values, wrong = self.inputs.read(self.round_start, self.start)
        read = [(place, place - self.round_start) for place in places]
        return [(place, values[at], wrong.get(at)) for place, at in read]


class Feeder:
    """Asks for the next lease as soon as there is room ahead, even while the engine still works on
    the rows of the last one: so the engine never drains between leases. Several units are read side
    by side (see ``rows.work_order``), each from its first row on.

    Rows that the engine has not begun can be given up to another worker (``give_up``).
    """

    def __init__(
        self,
        spec: WorkerSpec,
        dataset: Dataset,
        tokenizer: Tokenizer,
        coordination: RemoteCoordination,
        whole: Callable[[OpenUnit], None],
    ) -> None:
        """``whole`` receives units that need no engine (empty, or all rows invalid)."""
        self._spec = spec
        self._builder = PromptBuilder(spec.job, tokenizer)
        self._dataset = dataset
        self._coordination = coordination
        self._whole = whole
        self._rows: deque[ReadyRow] = deque()
        self._leased: deque[tuple[Unit, Lease]] = deque()  # not begun
        # by shard and first row, as long as anyone uses it
        self._open: WeakValueDictionary[tuple[int, int], OpenUnit] = WeakValueDictionary()
        self._changed = threading.Condition()  # guards all of the above
        self.taken = self._taken_before = 0  # rows handed out by ``take``
        self._errors: Counter[str] = Counter()
        self._streams = 0  # begun units with rows still to feed
        self._nothing_left = False
        # if the run is stopping: until when rows that were taken may still be finished, on the
        # monotonic clock
        self.deadline: float | None = None
        self._stop = threading.Event()
        self.stage = Stage("feeder", self._feed)
        coordination.listen(self)

    def stop(self) -> None:
        self._stop.set()

    @property
    def exhausted(self) -> bool:
        """All is done, or failed (then this raises the reason): no more rows will come."""
        if self.stage.is_alive():
            return False
        self.stage.check()
        return not self._rows

    @property
    def ending(self) -> bool:
        """No row waits here, and there was nothing to lease at the last request: the rows taken so
        far are the last, unless another worker gives some up."""
        return not (self._rows or self._leased or self._streams) and self._nothing_left

    @property
    def holding(self) -> list[Unit]:
        """What is leased and perhaps not committed: units, or what is left of them."""
        with self._changed:
            opened = [one.unit for one in self._open.values() if not one.settled]
            return [*opened, *(unit for unit, _ in self._leased)]

    @property
    def lease_rows(self) -> LeaseRows:
        """How far the rows are that are leased and not committed."""
        with self._changed:
            opened = [one for one in self._open.values() if not one.settled]
            ahead = sum(unit.rows for unit, _ in self._leased)
        counts = [one.counts for one in opened]
        unfinished = ahead + sum(count.unfinished for count in counts)
        return LeaseRows(unfinished, sum(count.finished for count in counts))

    @property
    def errors(self) -> dict[str, int]:
        """Rows that became error rows here, before any engine had them, by type."""
        return dict(self._errors)

    def active_rows(self, progress: Progress) -> int:
        """Rows that were handed out by ``take`` and are not finished, as ``progress`` has it."""
        return max(0, self.taken - progress.rows - progress.given_up)

    def take(self, *, wait_seconds: float = 0.0) -> ReadyRow | None:
        """The next row; None if there is none within the time."""
        with self._changed:
            if not self._rows and wait_seconds:
                self._changed.wait(wait_seconds)
            if not self._rows:
                return None
            row = self._rows.popleft()
            self.taken += 1
            self._changed.notify_all()
            return row

    def begin(self, row: ReadyRow) -> bool:
        """The engine is about to begin a row that was taken. False: do not, since the row was given
        up meanwhile."""
        with self._changed:
            if row.row >= row.unit.unit.rows:
                return False
            row.unit.begun = max(row.unit.begun, row.row + 1)
            return True

    @property
    def flights(self) -> list[RowRange]:
        """Rows that were taken and have no result, and as many of the next ones as may be taken
        before the next call."""
        with self._changed:
            if not self.taken:
                return []  # the engine still loads
            ahead = 2 * (self.taken - self._taken_before) + _SURELY_AHEAD
            self._taken_before = self.taken
            opened, leased = list(self._open.values()), [unit for unit, _ in self._leased]
        rows: list[RowRange] = []
        for unit in opened:  # they are read side by side: any of them may be next
            rows += unit.unfinished(min(unit.begun + ahead, unit.unit.rows))
        ahead -= sum(unit.unit.rows - unit.begun for unit in opened)
        for waiting in leased:
            stop = min(waiting.start + ahead, waiting.stop)
            if stop > waiting.start:
                rows.append(RowRange(waiting.shard, waiting.start, stop))
        return rows

    def give_up(self, asked: GiveUpRows) -> int:
        """Rows that this worker shall not do. Returns the row (of the shard) before which it keeps
        those of ``asked.unit``: from there on none was begun, and none will be."""
        key = asked.unit.shard, asked.unit.start
        with self._changed:
            for place, (unit, lease) in enumerate(self._leased):
                if (unit.shard, unit.start) == key:
                    kept = part(unit, unit.start, min(unit.stop, asked.keep))
                    self._leased[place] = kept, lease
                    return kept.stop
            opened = self._open.get(key)
            if opened is None:
                return asked.unit.stop  # it is done
            unit = opened.unit
            stop = max(asked.keep, unit.start + opened.begun_or_done)
            if stop >= unit.stop:
                return unit.stop
            _log.info("work stealing: gives up %s from row %d on", unit.id, stop)
            self._shrink(opened, stop)
            rows = opened.unit.rows
            self._rows = deque(r for r in self._rows if r.unit is not opened or r.row < rows)
            self._changed.notify_all()
        return stop

    def wind_up(self, seconds: float) -> None:
        """The run is stopping: rows that were not taken are left for another run. The others may
        end within ``seconds`` from now."""
        with self._changed:
            begins, self.deadline = self.deadline is None, time.monotonic() + seconds
            if not begins:
                return
            _log.info("finishes what it is at, within %s", duration(seconds))
            self._leased.clear()
            self._rows.clear()
            units = list(self._open.values())
            self._changed.notify_all()
        for opened in units:
            self.keep(opened)

    def unfinished(self) -> list[OpenUnit]:
        """Units in which some row has no result yet."""
        with self._changed:
            return [opened for opened in self._open.values() if not opened.whole]

    def keep(self, opened: OpenUnit, rows: int | None = None) -> None:
        """Do only this many first rows of a unit now; None: those that the engine may have begun.
        If all of them have their result, they are handed on as a unit of their own."""
        with self._changed:
            unit = opened.unit
            stop = unit.start + (opened.begun_or_done if rows is None else rows)
            if not opened.whole and stop < unit.stop:
                self._shrink(opened, stop)

    def _shrink(self, opened: OpenUnit, stop: int) -> None:
        """End a unit before a row of its shard. Call it with the lock: a caller that finds the unit
        whole afterwards can rely on it that it was handed on."""
        if opened.shrink(part(opened.unit, opened.unit.start, stop)) and opened.unit.rows:
            self._whole(opened)

    def _feed(self) -> None:
        reader = UnitReader(self._spec.shards, self._spec.input_schema)
        streams: list[_Stream] = []
        more, poll, ask_at = True, _POLL_SECONDS, 0.0
        try:
            while not self._stop.is_set() and self.deadline is None:
                while len(streams) < STREAMS and self._leased and not self._storage_is_behind:
                    streams += self._begin(reader)
                room = len(streams) < STREAMS and not self._leased
                if more and room and time.monotonic() >= ask_at:
                    lease = self._coordination.acquire()
                    self._nothing_left = isinstance(lease, NoLease)
                    if not isinstance(lease, NoLease):
                        poll = _POLL_SECONDS
                        rows = sum(unit.rows for unit in lease.units)
                        _log.debug("leased %d rows in %d units", rows, len(lease.units))
                        self._take_in(lease)
                        continue
                    more = lease is NoLease.WAIT
                    ask_at = time.monotonic() + poll
                    poll = min(1.2 * poll, _LONGEST_POLL)
                if streams:
                    self._feed_round(streams)
                    streams = [stream for stream in streams if not stream.done]
                    self._streams = len(streams)
                elif self._leased:
                    self._stop.wait(_POLL_SECONDS)
                elif not more:
                    return
                else:
                    self._stop.wait(ask_at - time.monotonic())
        finally:
            reader.close()

    @property
    def _storage_is_behind(self) -> bool:
        """So many finished units are not committed yet that no new one is begun for now."""
        with self._changed:
            waiting = sum(one.whole and not one.settled for one in self._open.values())
        return waiting >= _MOST_UNCOMMITTED

    def _take_in(self, lease: Lease) -> None:
        with self._changed:
            if self.deadline is None:
                self._leased.extend((unit, lease) for unit in lease.units)

    def _begin(self, reader: UnitReader) -> list[_Stream]:
        """Open the first of the leased units; does nothing if none of its rows is to be fed."""
        with self._changed:
            if not self._leased:
                return []
            unit, _ = self._leased[0]
        read = reader.read(unit)
        redo = self._spec.redo
        each = self._spec.columns.rows_of_one
        again = redo.rows_of(unit, self._dataset, each) if redo is not None else None
        with self._changed:
            if not self._leased:
                return []
            unit, lease = self._leased.popleft()  # part of it may have been given up meanwhile
            opened = OpenUnit(unit, read.table.slice(0, unit.rows), again)
            nothing_to_do = opened.whole and unit.rows > 0  # all keep their result: see ``Redo``
            self._open[unit.shard, unit.start] = opened
            opened.losses = lease.losses
            self._streams += 1
        if unit.rows == 0:
            if unit.whole is None:  # otherwise all of it was given up
                self._whole(opened)
        elif nothing_to_do:
            self._whole(opened)
        elif lease.quarantined:
            self._give_up_on(opened, lease)
        else:
            columns = prompt_columns(self._spec.job, read.table.column_names)
            return [_Stream(opened, read.plain(columns))]
        self._streams -= 1
        return []

    def _feed_round(self, streams: list[_Stream]) -> None:
        """The next few rows of each unit, in turn."""
        few = -(-_TOKENIZED_AT_ONCE // len(streams))
        rows = [(stream, *row) for stream in streams for row in stream.next_rows(few)]
        where = [
            (self._spec.shards[stream.opened.unit.shard].name, stream.opened.unit.start + place)
            for stream, place, _, _ in rows
        ]
        prompts = self._builder.build([values for _, _, values, _ in rows], where)
        turns = zip(rows, prompts, strict=True)
        for (stream, place, _, wrong), prompt in sorted(
            turns, key=lambda turn: turn[0][1] - turn[0][0].round_start
        ):
            if wrong is not None:
                error = RowError(RowErrorType.INVALID_ROW, wrong)
            elif isinstance(prompt, RowError):
                error = prompt
            else:
                self._offer(ReadyRow(stream.opened, place, prompt))
                continue
            self._fail(stream.opened, place, error)

    def _fail(self, opened: OpenUnit, row: int, error: RowError) -> None:
        if row < opened.unit.rows:  # otherwise it was given up
            self._errors[error.type.value] += 1
        if opened.finish(row, RowResult(error=error)):
            self._whole(opened)

    def _give_up_on(self, opened: OpenUnit, lease: Lease) -> None:
        """Rows that kill engines become error rows."""
        why = (lease.why.strip() or "nobody knows why").splitlines()[0][:_LONGEST_WHY]
        message = f"its engine died {lease.losses} times with this row: {why}"
        error = RowError(RowErrorType.ENGINE_FAILURE, message, lease.losses)
        for row, result in enumerate(list(opened.results)):
            if result is None:
                self._fail(opened, row, error)

    def _offer(self, row: ReadyRow) -> None:
        with self._changed:
            while len(self._rows) >= _ROWS_AHEAD and not self._stop.is_set():
                self._changed.wait(_POLL_SECONDS)
            if self.deadline is None and row.row < row.unit.unit.rows:
                self._rows.append(row)
                self._changed.notify_all()
