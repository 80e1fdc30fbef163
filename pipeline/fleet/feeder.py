"""The stage before the engine: leases in, tokenized rows out, always a few hundred ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from pipeline.data.prompts import PromptBuilder
from pipeline.data.read import UnitReader
from pipeline.data.results import RowResult
from pipeline.data.units import Unit
from pipeline.errors import RowError, RowErrorType
from pipeline.fleet.work import Coordination, OpenUnit, ReadyRow, Stage, WorkerSpec
from pipeline.model.tokenizer import Tokenizer
from pipeline.schedule.dispatcher import Word

_TOKENIZED_AT_ONCE = 64  # rows
_ROWS_AHEAD = 512
_POLL_SECONDS = 0.2


class Feeder:
    """Asks for the next lease as soon as there is room ahead, whatever the engine still does
    with the rows of the last one: so the engine never drains between leases.
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
        self._rows: queue.Queue[ReadyRow] = queue.Queue(_ROWS_AHEAD)
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._stage = Stage("feeder", self._feed)

    def start(self) -> None:
        self._stage.start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def exhausted(self) -> bool:
        """All is done, or failed (then this raises why): no row will come any more."""
        self._stage.check()
        return self._ended.is_set() and self._rows.empty()

    def take(self, *, wait_seconds: float = 0.0) -> ReadyRow | None:
        """The next row; None if there is none within the time."""
        try:
            return self._rows.get(timeout=wait_seconds) if wait_seconds else self._rows.get_nowait()
        except queue.Empty:
            return None

    def _feed(self) -> None:
        reader = UnitReader(self._spec.shards, self._spec.input_schema)
        try:
            while not self._stop.is_set():
                lease = self._coordination.acquire()
                if lease is Word.DONE:
                    return
                if isinstance(lease, Unit):
                    self._feed_unit(lease, reader)
                else:
                    self._stop.wait(_POLL_SECONDS)
        finally:
            reader.close()
            self._ended.set()

    def _feed_unit(self, unit: Unit, reader: UnitReader) -> None:
        read = reader.read(unit)
        opened = OpenUnit(unit, read.table)
        if unit.rows == 0:
            self._whole(opened)
            return
        inputs = read.table.select(self._builder.columns(read.table.column_names))
        for start in range(0, unit.rows, _TOKENIZED_AT_ONCE):
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
        while not self._stop.is_set():
            try:
                self._rows.put(row, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue
