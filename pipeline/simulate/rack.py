"""A simulated rack: the dispatcher that real runs use, over simulated cards. Pure.

Every card has a clock; the one that is furthest behind acts next. A card asks for a lease when
few of its rows wait, reports and answers every second of its time, and commits a lease's units
when their last row ends. Cards die (exponentially, seeded), fall silent, and come back empty
after a while; the dispatcher learns of a death as a real one would, by missing heartbeats. Rows
that were not committed by then are lost and computed again.
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
_AHEAD = 32  # rows that a card has at hand beyond those it works on
_MOST_DEATHS = 200  # for each card since a unit was last committed: nothing will come of it


class Row(Protocol):
    """A row of work."""

    @property
    def id(self) -> int: ...


R = TypeVar("R", bound=Row)


class SimulatedCard(Protocol[R]):
    """One engine with a clock of its own (seconds).

    ``unstarted`` and ``active``: rows given that wait, and that are worked on. ``busy``: whether
    ``step`` would do something. ``ending``: no more rows are to be expected.
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
        """More rows to do."""

    def take_back(self) -> list[R]:
        """The unstarted rows; they are this card's no longer."""

    def fail(self) -> list[R]:
        """The engine dies: all its rows, none of them done."""

    def step(self) -> list[R]:
        """Advance ``now`` by one event; the rows that end with it."""


@dataclass(frozen=True)
class Failures:
    """Deaths per card and hour, and how long a card then is away (seconds)."""

    per_hour: float = 0.0
    restart_seconds: float = 120.0
    seed: int = 0


@dataclass
class RackRun:
    """What came of it. ``up``: from when to when each card was there, up to the end."""

    makespan: float = 0.0
    deaths: int = 0
    leases: int = 0
    commits: int = 0
    steals: int = 0
    rows_lost: int = 0  # finished or begun, and computed again
    up: list[list[tuple[float, float]]] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """A leased span on a card: rows before ``given`` were given to it."""

    span: UnitRange
    given: int
    ended: int = 0


class _Desk(Generic[R]):
    """One card and its leases. It dies at ``dies`` (seconds)."""

    def __init__(self, number: int, card: SimulatedCard[R], dies: float) -> None:
        self.number = number
        self.card = card
        self.dies = dies
        self.life = 0
        self.up_since = 0.0
        self.parts: dict[tuple[int, int], _Part] = {}
        self.queue: list[_Part] = []  # with rows not given
        self.reset()

    def reset(self) -> None:
        """A new engine, empty."""
        self.parts.clear()
        self.queue.clear()
        self.beat = self.card.now
        self.waiting = 0.0  # until then the dispatcher had nothing
        self.rows = 0
        self.busy_seconds = 0.0

    @property
    def worker(self) -> str:
        return f"{self.number}" if not self.life else f"{self.number}.{self.life}"


class SimulatedRack(Generic[R]):
    """``rates``: rows per second that the forecast expects of each card. Rows that a card had
    before are left to it."""

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
        self._desks = [_Desk(n, card, self._death(0.0)) for n, card in enumerate(cards)]
        self.run_facts = RackRun(up=[[] for _ in cards])
        self._ticked = 0.0
        self._in_vain = 0  # deaths since the last commit

    def run(self) -> RackRun:
        """To the end. Raises RuntimeError if cards die before they ever finish a unit."""
        facts, dispatcher = self.run_facts, self.dispatcher
        for desk in self._desks:
            self._join(desk)
        clock = [(desk.card.now, desk.number) for desk in self._desks]
        heapify(clock)
        while not dispatcher.done:
            now, number = heappop(clock)
            if now - self._ticked >= _BEAT_SECONDS:
                self._ticked = now
                dispatcher.handle(Ticked(now))
            desk = self._desks[number]
            if now >= desk.dies:
                self._die(desk)
            else:
                self._act(desk)
            heappush(clock, (desk.card.now, number))
        for desk in self._desks:
            if desk.up_since < facts.makespan:
                facts.up[desk.number].append((desk.up_since, facts.makespan))
        return facts

    def _join(self, desk: _Desk[R]) -> None:
        rate = self._rates[desk.number]
        self.dispatcher.handle(Joined(desk.worker, desk.card.now, desk.card.name, rate))

    def _death(self, now: float) -> float:
        rate = self._failures.per_hour / 3600
        return now + self._dice.expovariate(rate) if rate else inf

    def _die(self, desk: _Desk[R]) -> None:
        """The card falls silent; a new engine is there after a while."""
        facts, card = self.run_facts, desk.card
        facts.deaths += 1
        facts.rows_lost += sum(part.ended for part in desk.parts.values()) + card.active
        own = [row for row in card.fail() if row.id not in self._places]
        facts.up[desk.number].append((desk.up_since, min(desk.dies, card.now)))
        card.now = max(card.now, desk.dies) + self._failures.restart_seconds
        desk.up_since = card.now
        desk.life += 1
        self._in_vain += 1
        if self._in_vain > _MOST_DEATHS * len(self._desks):
            raise RuntimeError(f"{card.name} dies before it finishes anything")
        desk.dies = self._death(card.now)
        desk.reset()
        card.give(own)
        self._join(desk)

    def _act(self, desk: _Desk[R]) -> None:
        card = desk.card
        self._refill(desk)
        before = card.now
        if card.busy:
            ended = card.step()
            desk.busy_seconds += card.now - before
            if card.now >= desk.dies:
                return  # it died on the way: these rows never ended
            for row in ended:
                self._ended(desk, row)
        else:
            card.now = min(before + _POLL_SECONDS, max(before, desk.dies))
        if card.now - desk.beat >= _BEAT_SECONDS:
            self._report(desk)

    def _refill(self, desk: _Desk[R]) -> None:
        """Rows for the card, and a lease when there are too few."""
        card = desk.card
        while card.unstarted < _AHEAD:
            desk.queue = [part for part in desk.queue if part.given < part.span.stop]
            if len(desk.queue) < STREAMS and card.now >= desk.waiting:
                self._ask(desk)  # it may give rows up thereby
                desk.queue = [part for part in desk.queue if part.given < part.span.stop]
            if not desk.queue:
                return
            for part in desk.queue[:STREAMS]:  # a row of each, as a worker's feeder takes them
                card.give([self._rows[part.span.unit * self._unit + part.given]])
                part.given += 1

    def _ask(self, desk: _Desk[R]) -> None:
        self._report(desk)
        (answer,) = self.dispatcher.handle(LeaseRequested(desk.worker, desk.card.now))
        desk.card.ending = not self.dispatcher.ranges.pending_rows
        if isinstance(answer, Grant):
            self.run_facts.leases += 1
            for span in answer.spans:
                part = desk.parts[span.unit, span.start] = _Part(span, span.start)
                desk.queue.append(part)
        elif not isinstance(answer, Done):
            desk.waiting = desk.card.now + _POLL_SECONDS

    def _report(self, desk: _Desk[R]) -> None:
        desk.beat = desk.card.now
        report = Reported(
            desk.worker, desk.card.now, desk.rows, desk.busy_seconds, active=desk.card.active
        )
        for request in self.dispatcher.handle(report):
            if isinstance(request, GiveUp):
                self._give_up(desk, request)

    def _give_up(self, desk: _Desk[R], request: GiveUp) -> None:
        part = desk.parts[request.span.unit, request.span.start]
        if request.keep < part.given:
            self._hand_back(desk, part, request.keep)
        stop = max(request.keep, part.given)
        if stop < part.span.stop:
            self.run_facts.steals += 1
            part.span = UnitRange(part.span.unit, part.span.start, stop)
        self.dispatcher.handle(GaveUp(desk.worker, desk.card.now, part.span))
        if not part.span.rows:
            del desk.parts[request.span.unit, request.span.start]
        elif part.ended == part.span.rows:
            self._commit(desk, part)

    def _hand_back(self, desk: _Desk[R], part: _Part, keep: int) -> None:
        """Take the last unstarted rows of a part, from ``keep`` on, from the card again."""
        back = desk.card.take_back()
        first = part.span.unit * self._unit
        unstarted = {self._places[row.id] - first for row in back if row.id in self._places}
        stop = part.given
        while part.given > keep and part.given - 1 in unstarted:
            part.given -= 1
        gone = range(first + part.given, first + stop)
        desk.card.give([row for row in back if self._places.get(row.id, -1) not in gone])

    def _ended(self, desk: _Desk[R], row: R) -> None:
        if row.id not in self._places:
            return
        unit, place = divmod(self._places[row.id], self._unit)
        part = next(
            p for (u, start), p in desk.parts.items() if u == unit and start <= place < p.span.stop
        )
        part.ended += 1
        desk.rows += 1
        if part.ended == part.span.rows:
            self._commit(desk, part)

    def _commit(self, desk: _Desk[R], part: _Part) -> None:
        del desk.parts[part.span.unit, part.span.start]
        facts = self.run_facts
        facts.commits += 1
        self._in_vain = 0
        facts.makespan = max(facts.makespan, desk.card.now)
        self.dispatcher.handle(Committed(part.span))
