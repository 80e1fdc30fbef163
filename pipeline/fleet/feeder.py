"""The stage before the engine: leases in, tokenized rows out, always a few hundred ahead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from weakref import WeakValueDictionary

from pipeline.data.prompts import PromptBuilder
from pipeline.data.read import UnitReader
from pipeline.data.results import RowResult
from pipeline.data.units import Unit, part
from pipeline.errors import RowError, RowErrorType
from pipeline.fleet.work import Coordination, GiveUpRows, OpenUnit, ReadyRow, Stage, WorkerSpec
from pipeline.model.tokenizer import Tokenizer
from pipeline.schedule.leases import Word

_TOKENIZED_AT_ONCE = 64  # rows
_ROWS_AHEAD = 512
_POLL_SECONDS, _LONGEST_POLL = 0.2, 2.0  # while there is nothing to do: ever more seldom


class Feeder:
    """Asks for the next lease as soon as there is room ahead, whatever the engine still does
    with the rows of the last one: so the engine never drains between leases.

    Rows that were not taken yet can be given up to another worker (``give_up``).
    """

    def __init__(
        self,
        spec: WorkerSpec,
        tokenizer: Tokenizer,
        coordination: Coordination,
        whole: Callable[[OpenUnit], None],
    ) -> None:
        """``whole`` takes units that need no engine (empty, or all rows invalid)."""
        self._spec = spec
        self._builder = PromptBuilder(spec.job, tokenizer)
        self._coordination = coordination
        self._whole = whole
        self._rows: deque[ReadyRow] = deque()
        self._leased: deque[Unit] = deque()  # not begun with
        # by shard and first row, as long as anyone has to do with it
        self._open: WeakValueDictionary[tuple[int, int], OpenUnit] = WeakValueDictionary()
        self._changed = threading.Condition()  # guards all of the above
        self._taken = 0
        self._nothing_left = False
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._stage = Stage("feeder", self._feed)
        coordination.listen(self)

    def start(self) -> None:
        self._stage.start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def exhausted(self) -> bool:
        """All is done, or failed (then this raises why): no row will come any more."""
        self._stage.check()
        return self._ended.is_set() and not self._rows

    @property
    def ending(self) -> bool:
        """No row waits here, and there was nothing to lease when last asked: the rows that were
        taken are the last, unless another worker gives some up."""
        return self._nothing_left and not self._rows and not self._leased

    @property
    def taken(self) -> int:
        """Rows handed out by ``take`` up to now."""
        return self._taken

    def take(self, *, wait_seconds: float = 0.0) -> ReadyRow | None:
        """The next row; None if there is none within the time."""
        with self._changed:
            if not self._rows and wait_seconds:
                self._changed.wait(wait_seconds)
            if not self._rows:
                return None
            row = self._rows.popleft()
            row.unit.begun = row.row + 1
            self._taken += 1
            self._changed.notify_all()
            return row

    def give_up(self, asked: GiveUpRows) -> int:
        """Rows that this worker shall not do. Returns the row (of the shard) before which it
        keeps those of ``asked.unit``: none after it was taken, and none will be."""
        key = asked.unit.shard, asked.unit.start
        with self._changed:
            for place, unit in enumerate(self._leased):
                if (unit.shard, unit.start) == key:
                    self._leased[place] = part(unit, unit.start, min(unit.stop, asked.keep))
                    return self._leased[place].stop
            opened = self._open.get(key)
            if opened is None:
                return asked.unit.stop  # it is done
            unit = opened.unit
            stop = max(asked.keep, unit.start + opened.begun_or_done)
            if stop >= unit.stop:
                return unit.stop
            whole = opened.shrink(part(unit, unit.start, stop))
            rows = opened.unit.rows
            self._rows = deque(r for r in self._rows if r.unit is not opened or r.row < rows)
            self._changed.notify_all()
        if whole and rows:
            self._whole(opened)
        return stop

    def _feed(self) -> None:
        reader = UnitReader(self._spec.shards, self._spec.input_schema)
        poll = _POLL_SECONDS
        try:
            while not self._stop.is_set():
                lease = self._coordination.acquire()
                self._nothing_left = isinstance(lease, Word)
                if lease is Word.DONE:
                    return
                if isinstance(lease, Word):
                    self._stop.wait(poll)
                    poll = min(1.2 * poll, _LONGEST_POLL)
                    continue
                poll = _POLL_SECONDS
                with self._changed:
                    self._leased.extend(lease)
                while self._leased and not self._stop.is_set():
                    self._feed_unit(reader)
        finally:
            reader.close()
            self._ended.set()

    def _feed_unit(self, reader: UnitReader) -> None:
        read = reader.read(self._leased[0])
        with self._changed:
            unit = self._leased.popleft()  # some of it may have been given up meanwhile
            opened = OpenUnit(unit, read.table.slice(0, unit.rows))
            self._open[unit.shard, unit.start] = opened
        if unit.rows == 0:
            if unit.whole is None:  # else all of it was given up
                self._whole(opened)
            return
        inputs = read.table.select(self._builder.columns(read.table.column_names))
        for start in range(0, unit.rows, _TOKENIZED_AT_ONCE):
            if start >= opened.unit.rows or self._stop.is_set():
                return
            rows = inputs.slice(start, _TOKENIZED_AT_ONCE).to_pylist()
            for row, prompt in enumerate(self._builder.build(rows), start):
                if row in read.invalid:
                    error = RowError(RowErrorType.INVALID_ROW, read.invalid[row])
                elif isinstance(prompt, RowError):
                    error = prompt
                else:
                    self._offer(ReadyRow(opened, row, prompt))
                    continue
                if opened.finish(row, RowResult(error=error)):
                    self._whole(opened)

    def _offer(self, row: ReadyRow) -> None:
        with self._changed:
            while len(self._rows) >= _ROWS_AHEAD and not self._stop.is_set():
                self._changed.wait(_POLL_SECONDS)
            if row.row < row.unit.unit.rows:
                self._rows.append(row)
                self._changed.notify_all()
