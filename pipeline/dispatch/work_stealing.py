"""Work stealing: who takes rows over from whom, so that all workers finish together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.dispatch.events import GiveUp, Reported, UnitRange
from pipeline.dispatch.row_ranges import RowRanges
from pipeline.dispatch.speeds import Speeds

_LOOK_AGAIN = 1e-3  # seconds per worker: so looking costs well below 0.1 % of the time


@dataclass(frozen=True, slots=True)
class WorkDone:
    """What a worker did between two heartbeats."""

    cost: float
    tokens: float
    seconds: float


@dataclass(slots=True)
class Member:
    """What is known of an active worker. ``returned``: it came back after it was thought dead, so
    its totals include earlier work."""

    name: str
    returned: bool = False
    rows: int = 0  # finished, as reported
    active: int = 0  # taken and not finished
    waiting: int = 0  # of them, those that its engine has not begun with
    committed: int = 0  # of the rows it held
    begun: bool = False
    given_rows: int = 0
    given_cost: float = 0.0
    last: Reported | None = None
    alone: bool = False  # it tries suspected rows: nothing is taken from it or added
    flights: tuple[UnitRange, ...] = ()  # that its engine may have
    flying_since: float | None = None

    def granted(self, rows: int, cost: float) -> None:
        self.given_rows += rows
        self.given_cost += cost

    @property
    def idle(self) -> bool:
        """Whether it last reported that every row it began is finished."""
        return self.last is not None and self.active == 0

    @property
    def row_cost(self) -> float:
        """Mean predicted cost of the rows it was given."""
        return self.given_cost / self.given_rows if self.given_rows else 0.0

    def report(self, event: Reported) -> WorkDone:
        """Take a heartbeat in. Returns what was done since the one before."""
        last = self.last
        if last is None:
            last = event if self.returned else Reported(event.worker, event.at)
        done = max(0, event.rows - last.rows)
        seconds = event.busy_seconds - last.busy_seconds
        if done == 0 and not self.begun:
            # an engine that fills up finishes nothing yet: this says nothing about its speed
            seconds = 0.0
        self.rows += done
        self.active, self.waiting = event.active, event.waiting
        if event.flights is not None:
            self.flights = event.flights
            if self.flying_since is None and event.flights:
                self.flying_since = event.at
        self.begun = self.begun or done > 0
        tokens = max(0, event.tokens - last.tokens)
        self.last = event
        return WorkDone(done * self.row_cost, tokens, max(0.0, seconds))


@dataclass(slots=True)
class _Ask:
    """Rows that a victim was asked for. ``wanted``: (unit, first row) -> first row to give up."""

    thief: str
    wanted: dict[tuple[int, int], int]


@dataclass
class WorkStealing:
    """Promises of unstarted rows. A victim and a thief have one open promise each, at most."""

    ranges: RowRanges
    speeds: Speeds
    members: Mapping[str, Member]
    least_seconds: float
    _asks: dict[str, _Ask] = field(default_factory=dict)  # by victim
    _thieves: dict[str, str] = field(default_factory=dict)  # thief -> victim
    _reserved: dict[str, list[UnitRange]] = field(default_factory=dict)  # given up, by thief
    _holders: list[tuple[float, str]] = field(default_factory=list)  # (end, name), latest last
    _looked: float = -1e300

    def left(self, member: Member) -> float:
        """Predicted cost of what the worker holds and has not finished."""
        holding = self.ranges.holdings.get(member.name)
        if holding is None or not holding.rows:
            return 0.0
        finished = min(max(0, member.rows - member.committed), holding.rows)
        return holding.cost * (1 - finished / holding.rows)

    def unstarted(self, member: Member) -> float:
        """Predicted cost of what it holds, has not started, and may lose to another worker."""
        if member.alone:
            return 0.0
        started = max(0, member.active - member.waiting)
        return max(0.0, self.left(member) - started * member.row_cost)

    def promise(self, thief: Member, at: float) -> None:
        """Nothing is pending: look for unstarted rows that ``thief`` would finish earlier."""
        if thief.name in self._thieves:
            return
        if at - self._looked >= _LOOK_AGAIN * len(self.members):
            self._look(at)
        while self._holders:
            _, name = self._holders.pop()
            victim = self.members.get(name)
            if victim is None or name == thief.name or name in self._asks:
                continue
            wanted = self._wanted(thief, victim)
            if wanted:
                self._asks[name] = _Ask(thief.name, wanted)
                self._thieves[thief.name] = name
            return  # the holders that end earlier have even less to give

    def requests(self, victim: str) -> tuple[GiveUp, ...]:
        """What ``victim`` is to be asked, as long as it has not answered."""
        ask = self._asks.get(victim)
        if ask is None:
            return ()
        found: list[GiveUp] = []
        for (unit, start), keep in list(ask.wanted.items()):
            piece = self.ranges.held_range(victim, unit, start)
            if piece is None or piece.stop <= keep:
                self._settle(victim, (unit, start))
            else:
                found.append(GiveUp(victim, piece.span, keep))
        return tuple(found)

    def answered(self, victim: str, kept: UnitRange) -> str | None:
        """The victim has answered. Returns for whom the rows are."""
        ask = self._asks.get(victim)
        if ask is None or (kept.unit, kept.start) not in ask.wanted:
            return None
        self._settle(victim, (kept.unit, kept.start))
        return ask.thief

    def reserve(self, thief: str, span: UnitRange) -> bool:
        """Keep pending rows for ``thief``; False if it is gone."""
        if thief not in self.members:
            return False
        self._reserved.setdefault(thief, []).append(span)
        return True

    def collect(self, thief: str) -> list[UnitRange]:
        """The rows kept for ``thief`` that are still pending as they were."""
        spans = self._reserved.pop(thief, [])
        return [s for s in spans if self.ranges.pending_range(s.unit, s.start) == s]

    def forget(self, worker: str, back: Callable[[UnitRange], None]) -> None:
        """The worker is gone; ``back`` gets what was kept for it."""
        ask = self._asks.pop(worker, None)
        if ask is not None:
            self._thieves.pop(ask.thief, None)
        self._thieves.pop(worker, None)
        for span in self._reserved.pop(worker, []):
            back(span)

    def _settle(self, victim: str, key: tuple[int, int]) -> None:
        ask = self._asks[victim]
        del ask.wanted[key]
        if not ask.wanted:
            del self._asks[victim]
            if self._thieves.get(ask.thief) == victim:
                del self._thieves[ask.thief]

    def _look(self, at: float) -> None:
        """Sort the holders by when they would end."""
        self._looked = at
        self._holders = sorted(
            (self.left(member) / self.speeds.of(name), name)
            for name, member in self.members.items()
            if name not in self._asks and self.unstarted(member) > 0
        )

    def _wanted(self, thief: Member, victim: Member) -> dict[tuple[int, int], int]:
        """What ``thief`` should have of ``victim`` for both to end at the same time."""
        mine, theirs = self.left(thief), self.left(victim)
        fast, slow = self.speeds.of(thief.name), self.speeds.of(victim.name)
        together = (mine + theirs) / (fast + slow)
        cost = min(theirs - slow * together, self.unstarted(victim))
        if thief.begun and not victim.begun and not mine:
            cost = self.unstarted(victim)  # its engine is still loading
        row_cost = victim.row_cost
        # this is how much earlier the victim ends: what counts, however fast the thief is
        if cost < row_cost or cost < min(self.least_seconds * slow, self.unstarted(victim)):
            return {}
        wanted: dict[tuple[int, int], int] = {}
        for (unit, start), piece in reversed(self.ranges.holdings[victim.name].ranges.items()):
            each = self.ranges.cost(unit, 1)
            rows = min(piece.rows, int(cost / each + 1e-9)) if each else piece.rows
            if rows == 0:
                break
            wanted[unit, start] = piece.stop - rows
            cost -= rows * each
            if rows < piece.rows:
                break
        return wanted
