"""A small rack in which engines die: of rows that kill, and by chance. Its clock is its own."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from pipeline.dispatch.dispatcher import Dispatcher, Sizing
from pipeline.dispatch.events import (
    Blame,
    Committed,
    Expired,
    GaveUp,
    GiveUp,
    Grant,
    Joined,
    LeaseRequested,
    Lost,
    Reported,
    Ticked,
    UnitRange,
)

TICK = 0.25  # seconds
_BEAT_TICKS = 4
_MARGIN = 32  # rows that a worker says it may begin with before its next report
_AT_ONCE = 64
_MOST_TICKS = 400_000

Row = tuple[int, int]


@dataclass
class Worker:
    name: str
    loads_until: int
    queue: deque[tuple[UnitRange, Row]] = field(default_factory=deque)
    flying: dict[Row, tuple[UnitRange, int]] = field(default_factory=dict)  # -> lease, when it ends
    open: dict[UnitRange, set[Row]] = field(default_factory=dict)  # rows without a result
    finished: int = 0
    taken: bool = False
    busy: float = 0.0


@dataclass
class RackOfDeath:
    """``poison``: rows that kill their engine ``poison_ticks`` after they were begun. ``chance``:
    of a worker's death in a second of its time. ``silent``: engines that row hangs, for ever."""

    units: list[int]
    workers: int = 1
    poison: frozenset[Row] = frozenset()
    poison_ticks: int = 2
    chance: float = 0.0
    seed: int = 0
    row_ticks: int = 8
    load_ticks: int = 40
    poison_rows: bool = True
    exact: bool = True  # a worker that dies of a row says what its engine had
    hangs: bool = False
    errors: list[Row] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    deaths: int = 0
    ticks: int = 0

    def run(self) -> RackOfDeath:
        dice = random.Random(self.seed)
        sizing = Sizing(longest_seconds=30, shortest_seconds=2)
        self.dispatcher = Dispatcher(self.units, sizing=sizing)
        group = [self._hire(number, 0) for number in range(self.workers)]
        while not self.dispatcher.done:
            self.ticks += 1
            assert self.ticks < _MOST_TICKS, "it never ends"
            for number, worker in enumerate(group):
                of_a_row = self._step(worker)
                if of_a_row or dice.random() < self.chance * TICK:
                    self._die(worker, told=of_a_row and self.exact)
                    group[number] = self._hire(number, self.ticks + self.load_ticks)
            if self.ticks % _BEAT_TICKS == 0:
                for gone in self.dispatcher.handle(Ticked(self.now)):
                    assert isinstance(gone, Expired)
                    number = next(n for n, w in enumerate(group) if w.name == gone.worker)
                    group[number] = self._hire(number, self.ticks + self.load_ticks)
                    self.deaths += 1
        return self

    @property
    def now(self) -> float:
        return self.ticks * TICK

    def _hire(self, number: int, loaded: int) -> Worker:
        name = f"{number}.{self.ticks}"
        self.dispatcher.handle(Joined(name, self.now, "card", 8.0))
        return Worker(name, loaded)

    def _die(self, worker: Worker, *, told: bool) -> None:
        """``told``: it says itself that its engine failed, and what that had."""
        self.deaths += 1
        flights = tuple(UnitRange(u, r, r + 1) for u, r in sorted(worker.flying))
        said = (flights, Blame.TOLD) if told else (None, Blame.UNTOLD)
        self.dispatcher.handle(Lost(worker.name, self.now, "it died", *said))
        self.dispatcher.ranges.check()

    def _step(self, worker: Worker) -> bool:
        """One tick of a worker; whether it dies of a row."""
        if self.hangs and self.poison & worker.flying.keys():
            return False  # and nothing is heard of it
        if len(worker.queue) < _AT_ONCE:
            self._ask(worker)
        if self.ticks < worker.loads_until:
            self._report(worker)
            return False
        empty = not worker.flying
        while worker.queue and len(worker.flying) < _AT_ONCE:
            lease, row = worker.queue.popleft()
            worker.flying[row] = lease, self.ticks + self.row_ticks
            worker.taken = True
        if worker.flying:
            worker.busy += TICK
        if (empty and worker.flying) or self.ticks % _BEAT_TICKS == 0:
            self._report(worker)
        for row, (_, ends) in worker.flying.items():
            if row in self.poison and ends - self.ticks <= self.row_ticks - self.poison_ticks:
                return not self.hangs
        for row, (lease, ends) in list(worker.flying.items()):
            if ends <= self.ticks:
                del worker.flying[row]
                worker.finished += 1
                self._result(worker, lease, row)
        return False

    def _result(self, worker: Worker, lease: UnitRange, row: Row) -> None:
        left = worker.open[lease]
        left.discard(row)
        if not left:
            del worker.open[lease]
            self.dispatcher.handle(Committed(lease))

    def _ask(self, worker: Worker) -> None:
        (answer,) = self.dispatcher.handle(LeaseRequested(worker.name, self.now))
        if not isinstance(answer, Grant):
            return
        for span in answer.spans:
            rows = [(span.unit, row) for row in range(span.start, span.stop)]
            if answer.quarantined:
                self.errors += rows
                self.attempts.append(answer.losses)
                self.dispatcher.handle(Committed(span))
                continue
            worker.open[span] = set(rows)
            worker.queue.extend((span, row) for row in rows)

    def _report(self, worker: Worker) -> None:
        flights: tuple[UnitRange, ...] | None = None
        if self.poison_rows:
            coming = [row for _, row in list(worker.queue)[:_MARGIN]] if worker.taken else []
            flights = tuple(UnitRange(u, r, r + 1) for u, r in sorted([*worker.flying, *coming]))
        report = Reported(
            worker.name,
            self.now,
            worker.finished,
            worker.busy,
            active=len(worker.flying),
            flights=flights,
        )
        for asked in self.dispatcher.handle(report):
            assert isinstance(asked, GiveUp)
            self._give_up(worker, asked)

    def _give_up(self, worker: Worker, asked: GiveUp) -> None:
        span = asked.span
        begun = [r for u, r in worker.flying if u == span.unit and span.start <= r < span.stop]
        done = [
            row
            for row in range(span.start, span.stop)
            if (span.unit, row) not in worker.open.get(span, set())
        ]
        stop = max([span.start, asked.keep, *(r + 1 for r in [*begun, *done])])
        kept = UnitRange(span.unit, span.start, min(stop, span.stop))
        left = worker.open.pop(span, set())
        worker.queue = deque(
            (kept if lease == span else lease, row)
            for lease, row in worker.queue
            if lease != span or row[1] < kept.stop
        )
        worker.flying = {
            row: (kept if lease == span else lease, ends)
            for row, (lease, ends) in worker.flying.items()
        }
        left = {row for row in left if row[1] < kept.stop}
        self.dispatcher.handle(GaveUp(worker.name, self.now, kept))
        if left:
            worker.open[kept] = left
        elif kept.rows:
            self.dispatcher.handle(Committed(kept))
