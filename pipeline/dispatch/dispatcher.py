"""Who works on which rows: a pure state machine, typed events in, typed instructions out.

Workers ask for leases and get rows worth some seconds of their card, as measured. Leases are long
at first and shrink towards the end (guided self-scheduling: a third of a card's share of what is
left), but a lease is never so short that its overhead matters. What is uneven at the end is stolen:
an idle worker is promised rows that the slowest worker has not started; that worker is asked at its
next heartbeat and answers with what it keeps; only then do the others get the rest, so no row is
ever with two workers. Rows of dead workers come first; rows that seem to kill engines are tried
apart (see ``poison_rows``). No clock, no I/O.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.dispatch.events import (
    Blame,
    Committed,
    Done,
    Event,
    Expired,
    Gain,
    GaveUp,
    Grant,
    Instruction,
    Joined,
    LeaseRequested,
    Lost,
    Reported,
    Resumed,
    Returned,
    Ticked,
    UnitRange,
    Wait,
)
from pipeline.dispatch.pending import Pending
from pipeline.dispatch.poison_rows import APART, DeathMemory, PoisonRows, SuspectRows, common
from pipeline.dispatch.row_ranges import RowRanges
from pipeline.dispatch.speeds import Speeds
from pipeline.dispatch.work_stealing import Member, WorkStealing

_MOST_SPANS = 4  # in one lease: faster workers ask more often


@dataclass(frozen=True)
class Sizing:
    """How leases are cut. Seconds are those of the card that works on them."""

    longest_seconds: float = 120.0  # a death loses half of it in the mean
    overhead_seconds: float = 0.1  # of a lease's commit
    shortest_seconds: float = 5.0  # about fifty times the cost of reading and committing a lease
    shares: float = 3.0  # a lease is this part of a worker's share of what is pending
    patience_seconds: float = 30.0  # without a heartbeat
    least_steal_seconds: float = 1.0  # less is not worth a commit of its own


class Dispatcher:
    """State over units of ``rows`` rows each.

    ``costs``: predicted cost of each unit in any measure (None: by rows). ``order``: in which units
    are handed out (None: input order). ``committed``: what is committed already.
    """

    def __init__(
        self,
        rows: Sequence[int],
        committed: Iterable[UnitRange] = (),
        *,
        costs: Sequence[float] | None = None,
        order: Sequence[int] | None = None,
        sizing: Sizing | None = None,
    ) -> None:
        self.sizing = sizing or Sizing()
        self.ranges = RowRanges(rows, costs)
        self.speeds = Speeds()
        self._pending = Pending(self.ranges, costs, order)
        self._pending.came_back(self.ranges.commit_before(committed))
        total = self.ranges.total_rows
        self._row_cost = (sum(costs) / total if costs is not None and total else 1.0) or 1.0
        self._members: dict[str, Member] = {}
        self._seen: OrderedDict[str, float] = OrderedDict()  # the longest silent first
        self._poison_rows = PoisonRows()
        self._left: dict[str, Gain] = {}  # by workers that were lost, until it is asked for
        self.lost_rows = 0  # finished by workers that were lost before they were committed
        self._deaths = 0
        self._busy_seconds = 0.0  # of all workers
        self._stealing = WorkStealing(
            self.ranges, self.speeds, self._members, self.sizing.least_steal_seconds
        )

    @property
    def done(self) -> bool:
        """Whether every row is committed."""
        return self.ranges.done

    def gain(self, worker: str) -> Gain:
        """What the lost ``worker`` had achieved; answered once."""
        return self._left.pop(worker, Gain.NOTHING)

    @property
    def memory(self) -> DeathMemory | None:
        """What is known of deaths, for a dispatcher that replaces this one; None before the
        first."""
        return self._poison_rows.memory(self._deaths, self._busy_seconds) if self._deaths else None

    def recall(self, memory: DeathMemory) -> None:
        """Go on from what the replaced dispatcher knew."""
        self._deaths += memory.lost
        self._busy_seconds += memory.busy
        self._poison_rows.recall(memory, self.ranges.is_done)
        self._set_apart()

    def handle(self, event: Event) -> tuple[Instruction, ...]:
        """Take an event in. Returns what the worker it came from is to do now."""
        match event:
            case LeaseRequested(worker, at):
                return (self._lease(worker, at),)
            case Reported():
                return self._reported(event)
            case Committed(span):
                self._committed(span)
            case GaveUp(worker, at, kept):
                self._gave_up(worker, at, kept)
            case Joined():
                self._join(event)
            case Resumed():
                self._resume(event)
            case Returned(worker, at, spans):
                self._heard(worker, at)
                for span in spans:
                    self._back(
                        self.ranges.keep(worker, UnitRange(span.unit, span.start, span.start))
                    )
                if self._poison_rows.given_back(worker, spans):
                    self._set_apart()
            case Lost(worker, blame=Blame.NO_ROW):
                self._leave(worker)
            case Lost():
                self._lost(event)
            case Ticked(at):
                return self._expire(at)
        return ()

    # -- workers come and go

    def _join(self, event: Joined) -> None:
        self._leave(event.worker)
        self._members[event.worker] = Member(event.worker)
        self.speeds.join(event.worker, max(event.rate, 1e-6) * self._row_cost)

    def _resume(self, event: Resumed) -> None:
        self._leave(event.worker)
        member = self._members[event.worker] = Member(event.worker, returned=True)
        self.speeds.join(event.worker, max(event.rate, 1e-6) * self._row_cost)
        self._heard(event.worker, event.at)
        for span in event.spans:
            self._pending.came_back(self.ranges.adopt(event.worker, span))
        holding = self.ranges.holdings.get(event.worker)
        if holding is not None:
            member.granted(holding.rows, holding.cost)

    def _heard(self, worker: str, at: float) -> Member:
        """A sign of life. A worker that was thought dead, or is unknown, joins with nothing."""
        member = self._members.get(worker)
        if member is None:
            mean = self.speeds.total / len(self._members) if self._members else self._row_cost
            member = self._members[worker] = Member(worker, returned=True)
            self.speeds.join(worker, mean)
        self._seen[worker] = at
        self._seen.move_to_end(worker)
        return member

    def _drop(self, worker: str) -> list[UnitRange]:
        """The worker is gone; returns what it held."""
        spans = self.ranges.release(worker)
        self._stealing.forget(worker, self._back)
        self._pending.came_back(spans)
        if self._members.pop(worker, None) is not None:
            self.speeds.drop(worker)
        self._seen.pop(worker, None)
        return spans

    def _leave(self, worker: str) -> None:
        """The worker is gone, and nothing is wrong."""
        self._drop(worker)
        self._poison_rows.ended(worker)
        self._set_apart()

    def _lost(self, event: Lost) -> list[UnitRange]:
        worker = event.worker
        member = self._members.get(worker)
        if member is None:
            return self._drop(worker)
        self._deaths += 1
        self.lost_rows += max(0, member.rows - member.committed)
        at = self._seen.get(worker, 0.0) if event.at is None else event.at
        since = at if member.flying_since is None else member.flying_since
        if event.flights:
            self._poison_rows.begun(worker, at)
        flights = member.flights if event.flights is None else event.flights
        spans = self._drop(worker)
        busy = self._busy_seconds
        explained = self._poison_rows.died_alone(worker, at, busy, event.why, event.blame)
        if explained is None:
            had = common(flights, spans)
            explained = bool(self._poison_rows.died(had, at - since, busy, event.why))
        self._set_apart()
        self._left[worker] = Gain.SEARCH if explained else Gain.NOTHING
        if member.committed:
            self._left[worker] = Gain.ROWS
        return spans

    def _set_apart(self) -> None:
        """Keep suspected rows from everyone, and release those that are no longer suspected."""
        if not self._poison_rows and APART not in self.ranges.holdings:
            return
        units = {span.unit for span in self.ranges.release(APART)}
        for piece in self._poison_rows.apart:
            for span in piece.spans:
                self.ranges.adopt(APART, span)
                units.add(span.unit)
        for unit in units:
            self._pending.came_back(self.ranges.join(unit))

    def _expire(self, at: float) -> tuple[Instruction, ...]:
        expired: list[Instruction] = []
        while self._seen:
            worker, last = next(iter(self._seen.items()))
            if at - last < self.sizing.patience_seconds:
                break
            lost = Lost(worker, at, f"nothing was heard of it for {at - last:.0f} s")
            expired.append(Expired(worker, tuple(self._lost(lost))))
        return tuple(expired)

    # -- leases

    def _lease(self, worker: str, at: float) -> Instruction:
        member = self._heard(worker, at)
        if self.ranges.done:
            return Done(worker)
        held = worker in self.ranges.holdings and self.ranges.holdings[worker].rows
        if member.alone:
            if held:
                return Wait(worker)
            member.alone = False
            self._poison_rows.ended(worker)
            self._set_apart()
        if (quarantined := self._poison_rows.next_quarantined(worker)) is not None:
            if grant := self._lease_set_apart(worker, quarantined, quarantined=True):
                return grant
            self._poison_rows.given_back(worker, quarantined.spans)
        spans = self._stealing.collect(worker)
        for span in spans:
            self.ranges.hold(worker, span)
        empty = not held and not spans and (not member.returned or member.idle)
        while empty and (piece := self._poison_rows.next_trial(worker)) is not None:
            if grant := self._lease_set_apart(worker, piece):
                member.alone = True
                return grant
            self._poison_rows.ended(worker)
        if not spans and (budget := self._lease_cost(member)) is not None:
            shortest = self.sizing.shortest_seconds * self.speeds.of(worker)
            spans = self._take(worker, budget, shortest)
        if spans:
            for span in spans:
                member.granted(span.rows, self.ranges.cost(span.unit, span.rows))
            losses, why = self._poison_rows.losses(spans) if self._poison_rows else (0, "")
            return Grant(worker, tuple(spans), losses, why=why)
        if self._pending.peek() is None:
            self._stealing.promise(member, at)
        return Wait(worker)

    def _lease_set_apart(
        self, worker: str, piece: SuspectRows, *, quarantined: bool = False
    ) -> Grant | None:
        """Lease rows that were set apart; None if none of them is pending any more."""
        spans: list[UnitRange] = []
        for span in piece.spans:
            apart = self.ranges.holdings.get(APART)
            for key, held in list(apart.ranges.items()) if apart else ():
                if common((span,), (held.span,)):
                    self.ranges.keep(APART, UnitRange(*key, key[1]))
                    self.ranges.hold(worker, held.span)
                    spans.append(held.span)
        if not spans:
            return None
        member = self._members[worker]
        for span in spans:
            member.granted(span.rows, self.ranges.cost(span.unit, span.rows))
        return Grant(worker, tuple(spans), piece.deaths, quarantined, piece.why)

    def _lease_cost(self, member: Member) -> float | None:
        """Predicted cost of the worker's next lease; None if it has enough for now."""
        ranges, sizing = self.ranges, self.sizing
        if not ranges.pending_rows:
            return None
        speed = self.speeds.of(member.name)
        unstarted = self._stealing.unstarted(member)
        shortest = sizing.shortest_seconds * speed
        longest = self._longest_seconds * speed
        if len(self._members) == 1:
            return longest if unstarted < longest else None
        part = speed / self.speeds.total
        guided = min(max(ranges.pending_cost * part / sizing.shares, shortest), longest)
        # early workers leave the others, who are still on their way, their share
        holding = ranges.holdings.get(member.name)
        held = holding.cost if holding else 0.0
        room = (ranges.pending_cost + ranges.held_cost) * part - held
        hungry = unstarted < shortest and (member.begun or not held)
        if not hungry and (unstarted >= longest or room <= 0):
            return None
        return max(0.0, min(guided, room))

    @property
    def _longest_seconds(self) -> float:
        """Of a lease. Where workers die often, the loss by deaths and the cost of commits are least
        together at sqrt(2 · overhead · time between deaths) (Young, CACM 17(9), 1974)."""
        sizing, twice = self.sizing, 2 * self.sizing.overhead_seconds
        if not self._deaths:
            return sizing.longest_seconds
        # one death says little: we assume a long time without any before it
        seconds = self._busy_seconds + sizing.longest_seconds**2 / twice
        best = math.sqrt(twice * seconds / self._deaths)
        return min(sizing.longest_seconds, max(best, sizing.shortest_seconds))

    def _take(self, worker: str, budget: float, shortest: float) -> list[UnitRange]:
        """The next pending rows of about that cost, one unit at least. A unit that costs far too
        much is cut, into pieces of no less than ``shortest``."""
        ranges = self.ranges
        spans: list[UnitRange] = []
        while len(spans) < _MOST_SPANS and (span := self._pending.peek()) is not None:
            cost = ranges.cost(span.unit, span.rows)
            if spans and cost > 1.5 * budget:
                break
            if cost > 1.5 * (least := max(budget, shortest)):
                rows = max(1, round(span.rows * least / cost))
                rest = UnitRange(span.unit, span.start + rows, span.stop)
                span = UnitRange(span.unit, span.start, rest.start)
                ranges.hold(worker, span)
                if rest.rows:
                    self._pending.came_back((rest,))
                spans.append(span)
                break
            ranges.hold(worker, span)
            spans.append(span)
            budget -= cost
            if budget <= 0:
                break
        return spans

    def _reported(self, event: Reported) -> tuple[Instruction, ...]:
        member = self._heard(event.worker, event.at)
        done = member.report(event)
        if member.alone and event.flights:
            self._poison_rows.begun(event.worker, event.at)
        self._busy_seconds += done.seconds
        self.speeds.note(event.worker, done.cost, done.tokens, done.seconds)
        return self._stealing.requests(event.worker)

    def _gave_up(self, worker: str, at: float, kept: UnitRange) -> None:
        self._heard(worker, at)
        given = self.ranges.keep(worker, kept)
        thief = self._stealing.answered(worker, kept)
        if given is not None and self._poison_rows.given_back(worker, (given,)):
            self._set_apart()
        elif given is not None and (thief is None or not self._stealing.reserve(thief, given)):
            self._back(given)

    def _back(self, span: UnitRange | None) -> None:
        if span is not None and self.ranges.pending_range(span.unit, span.start):
            self._pending.came_back((span,))

    def _committed(self, span: UnitRange) -> None:
        _, moved, freed = self.ranges.commit(span)
        if self._poison_rows:
            self._poison_rows.settled(span)
        self._pending.came_back(moved)
        for worker, rows in freed.items():
            if worker in self._members:
                self._members[worker].committed += rows
