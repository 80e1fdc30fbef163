"""The coordinator: the dispatcher's state machine with names, a clock and a tally. It sees leases
and facts, never rows, so its memory grows with the number of units."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.data.dataset import CommitRecord
from pipeline.data.tally import Tally
from pipeline.data.units import Unit, part
from pipeline.engine.protocol import EngineFacts
from pipeline.fleet.work import GiveUpRows, Progress
from pipeline.schedule.dispatcher import Dispatcher, Sizing
from pipeline.schedule.leases import (
    Asked,
    Committed,
    Done,
    Event,
    Expired,
    GaveUp,
    GiveUp,
    Grant,
    Instruction,
    Joined,
    Lost,
    Refuse,
    Reported,
    Span,
    Ticked,
    Word,
)


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. ``workers``: the running totals of each, lost ones included. ``silent``:
    workers whose leases expired since the last snapshot."""

    units: int
    units_done: int
    committed: Tally  # of this run's commits
    workers: Mapping[str, Progress]
    engines: Mapping[str, EngineFacts]
    silent: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        return self.units_done == self.units


class Coordinator:
    """Hands out rows of a run's units and counts what comes back."""

    def __init__(
        self,
        units: Sequence[Unit],
        done: Iterable[tuple[int, int, int]],
        rates: Mapping[str, float],
        costs: Sequence[float] | None = None,
        *,
        sizing: Sizing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``done``: shard, first row and end of what is committed. ``rates``: rows per second to
        expect of each kind of card. ``costs``: predicted ones of units, in any measure."""
        self._units = units
        self._rates = rates
        self._clock = clock
        self._places = [(unit.shard, unit.start) for unit in units]
        spans = [span for rows in done for span in self._spans(*rows)]
        rows = [unit.rows for unit in units]
        self._dispatcher = Dispatcher(rows, spans, costs=costs, sizing=sizing)
        self._tally = Tally()
        self._workers: dict[str, Progress] = {}
        self._engines: dict[str, EngineFacts] = {}
        self._beats: dict[str, tuple[float, float]] = {}  # last heartbeat, busy seconds
        self._silent: list[str] = []

    def join(self, worker: str, card: str) -> None:
        """A worker was hired: it will come, and have its share."""
        rate = self._rates.get(card) or max(self._rates.values(), default=1.0)
        self._handle(Joined(worker, self._clock(), card, rate))

    def acquire(self, worker: str) -> tuple[Unit, ...] | Word:
        """A lease for ``worker``, or why it gets none."""
        for answer in self._handle(Asked(worker, self._clock())):
            if isinstance(answer, Grant):
                return tuple(self._unit(span) for span in answer.spans)
            if isinstance(answer, Done | Refuse):
                return Word.DONE
        return Word.WAIT

    def commit(self, records: Iterable[CommitRecord]) -> None:
        """These commit records exist."""
        for record in records:
            before = self._dispatcher.ledger.committed_rows
            for span in self._spans(*record.span):
                self._handle(Committed(span))
            if self._dispatcher.ledger.committed_rows > before:
                self._tally.add(record.tally)

    def heartbeat(self, worker: str, progress: Progress, active: int = 0) -> list[GiveUpRows]:
        """The worker lives. ``active``: rows it has started and not finished. Returns what it
        shall give up."""
        now = self._clock()
        last, busy = self._beats.get(worker, (now, 0.0))
        if progress.running or progress.rows > self._rows_before(worker):
            busy += now - last
        self._beats[worker] = now, busy
        self._workers[worker] = progress
        tokens = progress.prompt_tokens + progress.completion_tokens
        report = Reported(worker, now, progress.rows, busy, tokens, active)
        requests = [r for r in self._handle(report) if isinstance(r, GiveUp)]
        return [
            GiveUpRows(self._unit(r.span), self._units[r.span.unit].start + r.keep)
            for r in requests
        ]

    def gave_up(self, worker: str, unit: Unit, stop: int) -> None:
        """Of the leased ``unit``, ``worker`` keeps the rows before ``stop`` (of the shard)."""
        for span in self._spans(unit.shard, unit.start, unit.stop):
            kept = Span(span.unit, span.start, stop - self._units[span.unit].start)
            self._handle(GaveUp(worker, self._clock(), kept))

    def engine_ready(self, worker: str, facts: EngineFacts) -> None:
        self._engines[worker] = facts

    def worker_lost(self, worker: str) -> list[str]:
        """Lease what ``worker`` held to others. Returns units that took too many workers along."""
        self._handle(Lost(worker))
        return [self._units[number].id for number in self._dispatcher.hopeless]

    def snapshot(self) -> Snapshot:
        for answer in self._handle(Ticked(self._clock())):
            if isinstance(answer, Expired):
                self._silent.append(answer.worker)
        silent, self._silent = tuple(self._silent), []
        return Snapshot(
            units=len(self._units),
            units_done=self._dispatcher.ledger.units_done,
            committed=self._tally,
            workers=dict(self._workers),
            engines=dict(self._engines),
            silent=silent,
        )

    def _handle(self, event: Event) -> tuple[Instruction, ...]:
        return self._dispatcher.handle(event)

    def _rows_before(self, worker: str) -> int:
        return self._workers[worker].rows if worker in self._workers else 0

    def _unit(self, span: Span) -> Unit:
        unit = self._units[span.unit]
        if span.rows == unit.rows:
            return unit
        start = unit.start
        return part(unit, start + span.start, start + span.stop)

    def _spans(self, shard: int, start: int, stop: int) -> list[Span]:
        """Rows of a shard in terms of units."""
        spans: list[Span] = []
        number = max(0, bisect_right(self._places, (shard, start)) - 1)
        while number < len(self._units):
            unit = self._units[number]
            if unit.shard > shard or unit.start >= stop:
                break
            first, last = max(start, unit.start), min(stop, unit.stop)
            if unit.shard == shard and first < last:
                spans.append(Span(number, first - unit.start, last - unit.start))
            number += 1
        return spans
