"""A simulated rack: the dispatcher that real runs use, with simulated cards. Pure.

Every card has a clock; the card that is furthest behind acts next. A card asks for a lease when few
of its rows wait, reports and answers every second of its time, and commits a lease's units when
their last row ends. Cards die (exponentially, seeded), fall silent, and come back empty after a
while; the dispatcher notices a death as a real one would, by missing heartbeats. Rows that were not
committed by then are lost and computed again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, Protocol, TypeVar

from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.dispatch.events import (
    Committed,
    Done,
    GaveUp,
    GiveUp,
    Grant,
    Joined,
    LeaseRequested,
    Reported,
    Ticked,
    UnitRange,
)
from pipeline.rows.work_order import STREAMS, spread

_BEAT_SECONDS = 1.0
_POLL_SECONDS = 0.2
_AHEAD = 32  # rows that a card has ready besides those that it works on
_MOST_DEATHS = 200  # for each card since the last commit of a unit: no progress is possible


class Row(Protocol):
    """A row of work."""

    @property
    def id(self) -> int: ...


R = TypeVar("R", bound=Row)


class SimulatedCard(Protocol[R]):
    """One engine with its own clock (seconds).

    ``unstarted`` and ``active``: rows that wait, and rows in progress. ``busy``: whether ``step``
    would do something. ``ending``: no more rows will come.
    """

    name: str
    now: float
    ending: bool

    @property
    def unstarted(self) -> int: ...
    @property
    def active(self) -> int: ...
    @property
    def busy(self) -> bool: ...

    def give(self, rows: Iterable[R]) -> None:
        """Add rows to compute."""

    def take_back(self) -> list[R]:
        """Remove and return the unstarted rows."""

    def fail(self) -> list[R]:
        """The engine dies: returns all its rows, none finished."""

    def step(self) -> list[R]:
        """Advance ``now`` by one event. Returns the rows that end with it."""


@dataclass(frozen=True)
class Failures:
    """Deaths per card and hour, and how long a card is then away (seconds)."""

    per_hour: float = 0.0
    restart_seconds: float = 120.0
    seed: int = 0


@dataclass
class RackRun:
    """The result of a run. ``up``: each card's periods of operation, up to the end."""

    makespan: float = 0.0
    deaths: int = 0
    leases: int = 0
    commits: int = 0
    steals: int = 0
    rows_lost: int = 0  # finished or started, and computed again
    up: list[list[tuple[float, float]]] = field(default_factory=list)


@dataclass(slots=True)
class _LeasedRange:
    """A leased range on a card: rows before ``given`` were given to it."""

    span: UnitRange
    given: int
    ended: int = 0


class _Worker(Generic[R]):
    """One card and its leases. It dies at ``dies`` (seconds)."""

    def __init__(self, number: int, card: SimulatedCard[R], dies: float) -> None:
        self.number = number
        self.card = card
        self.dies = dies
        self.life = 0
        self.up_since = 0.0
        self.parts: dict[tuple[int, int], _LeasedRange] = {}
        self.queue: list[_LeasedRange] = []  # with rows that were not given yet
        self.reset()

    def reset(self) -> None:
        """A new engine, empty."""
        self.parts.clear()
        self.queue.clear()
        self.beat = self.card.now
        self.waiting = 0.0  # until then the dispatcher had no work
        self.rows = 0
        self.busy_seconds = 0.0

    @property
    def name(self) -> str:
        return f"{self.number}" if not self.life else f"{self.number}.{self.life}"


class SimulatedRack(Generic[R]):
    """``rates``: rows per second that the forecast expects of each card. Rows that a card had
    before stay on it."""

    def __init__(
        self,
        cards: Sequence[SimulatedCard[R]],
        rates: Sequence[float],
        rows: Sequence[R],
        *,
        rows_per_unit: int = 128,
        failures: Failures | None = None,
    ) -> None:
        self._rows = rows
        self._places = {row.id: place for place, row in enumerate(rows)}
        self._unit = rows_per_unit
        self._failures = failures or Failures()
        self._dice = random.Random(self._failures.seed)
        self._rates = rates
        starts = range(0, len(rows), rows_per_unit)
        units = [min(rows_per_unit, len(rows) - start) for start in starts]
        self.dispatcher = Dispatcher(units, order=spread(len(units)))
        self._workers = [_Worker(n, card, self._death(0.0)) for n, card in enumerate(cards)]
        self.run_facts = RackRun(up=[[] for _ in cards])
        self._ticked = 0.0
        self._in_vain = 0  # deaths since the last commit

    def run(self) -> RackRun:
        """Run to the end. Raises RuntimeError if cards die before they ever finish a unit."""
        facts, dispatcher = self.run_facts, self.dispatcher
        for worker in self._workers:
            self._join(worker)
        due = [(worker.card.now, worker.number) for worker in self._workers]
        heapify(due)
        while not dispatcher.done:
            now, number = heappop(due)
            if now - self._ticked >= _BEAT_SECONDS:
                self._ticked = now
                dispatcher.handle(Ticked(now))
            worker = self._workers[number]
            if now >= worker.dies:
                self._die(worker)
            else:
                self._act(worker)
            heappush(due, (worker.card.now, number))
        for worker in self._workers:
            if worker.up_since < facts.makespan:
                facts.up[worker.number].append((worker.up_since, facts.makespan))
        return facts

    def _join(self, worker: _Worker[R]) -> None:
        rate = self._rates[worker.number]
        self.dispatcher.handle(Joined(worker.name, worker.card.now, worker.card.name, rate))

    def _death(self, now: float) -> float:
        rate = self._failures.per_hour / 3600
        return now + self._dice.expovariate(rate) if rate else inf

    def _die(self, worker: _Worker[R]) -> None:
        """The card falls silent; after a while a new engine is there."""
        facts, card = self.run_facts, worker.card
        facts.deaths += 1
        facts.rows_lost += sum(part.ended for part in worker.parts.values()) + card.active
        own = [row for row in card.fail() if row.id not in self._places]
        facts.up[worker.number].append((worker.up_since, min(worker.dies, card.now)))
        card.now = max(card.now, worker.dies) + self._failures.restart_seconds
        worker.up_since = card.now
        worker.life += 1
        self._in_vain += 1
        if self._in_vain > _MOST_DEATHS * len(self._workers):
            raise RuntimeError(f"{card.name} dies before it finishes anything")
        worker.dies = self._death(card.now)
        worker.reset()
        card.give(own)
        self._join(worker)

    def _act(self, worker: _Worker[R]) -> None:
        card = worker.card
        self._refill(worker)
        before = card.now
        if card.busy:
            ended = card.step()
            worker.busy_seconds += card.now - before
            if card.now >= worker.dies:
                return  # it died before: these rows never ended
            for row in ended:
                self._ended(worker, row)
        else:
            card.now = min(before + _POLL_SECONDS, max(before, worker.dies))
        if card.now - worker.beat >= _BEAT_SECONDS:
            self._report(worker)

    def _refill(self, worker: _Worker[R]) -> None:
        """Give the card rows, and request a lease if there are too few."""
        card = worker.card
        while card.unstarted < _AHEAD:
            worker.queue = [part for part in worker.queue if part.given < part.span.stop]
            if len(worker.queue) < STREAMS and card.now >= worker.waiting:
                self._ask(worker)  # this may give up rows
                worker.queue = [part for part in worker.queue if part.given < part.span.stop]
            if not worker.queue:
                return
            for part in worker.queue[:STREAMS]:  # a row of each, as in a worker's feeder
                card.give([self._rows[part.span.unit * self._unit + part.given]])
                part.given += 1

    def _ask(self, worker: _Worker[R]) -> None:
        self._report(worker)
        (answer,) = self.dispatcher.handle(LeaseRequested(worker.name, worker.card.now))
        worker.card.ending = not self.dispatcher.ranges.pending_rows
        if isinstance(answer, Grant):
            self.run_facts.leases += 1
            for span in answer.spans:
                part = worker.parts[span.unit, span.start] = _LeasedRange(span, span.start)
                worker.queue.append(part)
        elif not isinstance(answer, Done):
            worker.waiting = worker.card.now + _POLL_SECONDS

    def _report(self, worker: _Worker[R]) -> None:
        worker.beat = worker.card.now
        report = Reported(
            worker.name,
            worker.card.now,
            worker.rows,
            worker.busy_seconds,
            active=worker.card.active,
        )
        for request in self.dispatcher.handle(report):
            if isinstance(request, GiveUp):
                self._give_up(worker, request)

    def _give_up(self, worker: _Worker[R], request: GiveUp) -> None:
        part = worker.parts[request.span.unit, request.span.start]
        if request.keep < part.given:
            self._hand_back(worker, part, request.keep)
        stop = max(request.keep, part.given)
        if stop < part.span.stop:
            self.run_facts.steals += 1
            part.span = UnitRange(part.span.unit, part.span.start, stop)
        self.dispatcher.handle(GaveUp(worker.name, worker.card.now, part.span))
        if not part.span.rows:
            del worker.parts[request.span.unit, request.span.start]
        elif part.ended == part.span.rows:
            self._commit(worker, part)

    def _hand_back(self, worker: _Worker[R], part: _LeasedRange, keep: int) -> None:
        """Take back from the card the last unstarted rows of a part, from ``keep`` on."""
        back = worker.card.take_back()
        first = part.span.unit * self._unit
        unstarted = {self._places[row.id] - first for row in back if row.id in self._places}
        stop = part.given
        while part.given > keep and part.given - 1 in unstarted:
            part.given -= 1
        gone = range(first + part.given, first + stop)
        worker.card.give([row for row in back if self._places.get(row.id, -1) not in gone])

    def _ended(self, worker: _Worker[R], row: R) -> None:
        if row.id not in self._places:
            return
        unit, place = divmod(self._places[row.id], self._unit)
        part = next(
            p
            for (u, start), p in worker.parts.items()
            if u == unit and start <= place < p.span.stop
        )
        part.ended += 1
        worker.rows += 1
        if part.ended == part.span.rows:
            self._commit(worker, part)

    def _commit(self, worker: _Worker[R], part: _LeasedRange) -> None:
        del worker.parts[part.span.unit, part.span.start]
        facts = self.run_facts
        facts.commits += 1
        self._in_vain = 0
        facts.makespan = max(facts.makespan, worker.card.now)
        self.dispatcher.handle(Committed(part.span))
