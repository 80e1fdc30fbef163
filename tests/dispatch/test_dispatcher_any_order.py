"""Whatever happens to workers, in any order: every row is committed once, none is leased twice,
none is quarantined by chance; as soon as some workers behave the job ends, though some rows kill
every engine they come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.dispatch.dispatcher import Dispatcher, Sizing
from pipeline.dispatch.events import (
    Blame,
    Committed,
    Done,
    Expired,
    GaveUp,
    GiveUp,
    Grant,
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
from pipeline.dispatch.poison_rows import APART, LEAST_ALONE
from tests.support.samples import quick

WORKERS = st.sampled_from(["a", "b", "c"])
_ROUND_SECONDS = 5.0
_PATIENCE_ROUNDS = 20  # so many rounds are longer than a lease lives without a heartbeat
Row = tuple[int, int]


def rows_of(*spans: UnitRange) -> set[Row]:
    return {(span.unit, row) for span in spans for row in range(span.start, span.stop)}


def spans_of(rows: Iterable[Row]) -> tuple[UnitRange, ...]:
    """The rows as spans, those side by side in one."""
    spans: list[UnitRange] = []
    for unit, row in sorted(rows):
        if spans and (spans[-1].unit, spans[-1].stop) == (unit, row):
            spans[-1] = UnitRange(unit, spans[-1].start, row + 1)
        else:
            spans.append(UnitRange(unit, row, row + 1))
    return tuple(spans)


class AnyInterleaving(RuleBasedStateMachine):
    """Workers ask, work, report, give up rows, commit, die, fall silent and come back; what the
    dead had done is committed late or never; the coordinator is lost and comes back, and learns
    from the workers what they hold. Beside the dispatcher stands a plain record of who was told
    what."""

    @initialize(
        units=st.lists(st.integers(0, 40), min_size=1, max_size=6),
        killers=st.integers(0, 2),
        survivors=st.sets(WORKERS, min_size=1),
        data=st.data(),
    )
    def begin(
        self, units: list[int], killers: int, survivors: set[str], data: st.DataObject
    ) -> None:
        self.units = units
        self.survivors = sorted(survivors)
        before: list[UnitRange] = []
        for unit, rows in enumerate(units):
            cuts = sorted(data.draw(st.sets(st.integers(0, rows), max_size=3)) | {0, rows})
            parts = [UnitRange(unit, a, b) for a, b in pairwise(cuts)]
            before += [part for part in parts if data.draw(st.integers(0, 3)) == 0]
        costs = [float(n * data.draw(st.sampled_from([1, 1, 5]))) for n in units]
        self.costs = costs if data.draw(st.booleans()) else None
        self.dispatcher = self.new_dispatcher(before)
        self.now = 0.0
        self.committed = rows_of(*before)
        left = sorted({(u, r) for u, n in enumerate(units) for r in range(n)} - self.committed)
        self.killers = {data.draw(st.sampled_from(left)) for _ in range(killers if left else 0)}
        self.quarantined: set[Row] = set()
        self.held: dict[str, list[UnitRange]] = {"a": [], "b": [], "c": []}
        self.begun: dict[str, set[Row]] = {"a": set(), "b": set(), "c": set()}
        self.finished = {"a": 0, "b": 0, "c": 0}
        self.orphans: list[UnitRange] = []
        self.alone_deaths: Counter[Row] = Counter()
        self.unknown: set[str] = set()  # who the coordinator that came back has not heard of
        for worker, rate in (("a", 1.0), ("b", 3.0)):  # c comes without being announced
            self.dispatcher.handle(Joined(worker, 0.0, "card", rate))

    def new_dispatcher(self, committed: Iterable[UnitRange]) -> Dispatcher:
        sizing = Sizing(longest_seconds=8, shortest_seconds=2)
        return Dispatcher(self.units, committed, costs=self.costs, sizing=sizing)

    @rule(last=WORKERS)
    def hand_out_all(self, last: str) -> None:
        """Everyone takes what there is; who comes last looks for rows that others hold."""
        for worker in [*sorted(set(self.held) - {last}), last]:
            while self.acquire(worker):
                pass

    @rule(worker=WORKERS)
    def ask(self, worker: str) -> None:
        self.acquire(worker)

    def acquire(self, worker: str) -> bool:
        """Whether there was something."""
        self.introduce(worker)
        (answer,) = self.dispatcher.handle(LeaseRequested(worker, self.now))
        if isinstance(answer, Grant):
            rows = rows_of(*answer.spans)
            assert len(rows) == answer.rows > 0
            assert not rows & self.committed
            for other in set(self.held) - self.unknown:
                assert not rows & rows_of(*self.held[other])
            if answer.quarantined:
                assert all(self.alone_deaths[row] >= LEAST_ALONE for row in rows)
                self.quarantined |= rows
            self.held[worker] += answer.spans
        elif isinstance(answer, Done):
            assert len(self.committed) == sum(self.units)
        else:
            assert isinstance(answer, Wait)
            # nothing is pending, or the worker has work already
            assert not self.dispatcher.ranges.pending_rows or any(self.held.values())
        return isinstance(answer, Grant)

    @rule(worker=WORKERS, started=st.integers(0, 6), passed=st.floats(0.0, 3.0))
    def beat(self, worker: str, started: int, passed: float) -> None:
        """Start some rows, report, and answer what is asked."""
        self.now += passed
        self.introduce(worker)
        for span in self.held[worker]:
            for row in sorted(rows_of(span) - self.begun[worker])[:started]:
                self.begun[worker].add(row)
        self.begun[worker] &= rows_of(*self.held[worker])
        report = Reported(
            worker,
            self.now,
            rows=self.finished[worker],
            busy_seconds=self.now,
            tokens=10 * self.finished[worker],
            active=len(self.begun[worker]),
            flights=spans_of(self.begun[worker]),
        )
        for request in self.dispatcher.handle(report):
            assert isinstance(request, GiveUp)
            assert request.span in self.held[worker]
            self.answer(worker, request)

    def answer(self, worker: str, request: GiveUp) -> None:
        span = request.span
        begun = [row for unit, row in self.begun[worker] if unit == span.unit and row < span.stop]
        stop = max([span.start, request.keep, *(row + 1 for row in begun)])
        kept = UnitRange(span.unit, span.start, min(stop, span.stop))
        self.held[worker].remove(span)
        if kept.rows:
            self.held[worker].append(kept)
        self.dispatcher.handle(GaveUp(worker, self.now, kept))
        self.dispatcher.handle(GaveUp(worker, self.now, kept))  # said again

    @rule(worker=WORKERS, data=st.data())
    def commit(self, worker: str, data: st.DataObject) -> None:
        """A span as it was leased, or the rows of it that are finished first."""
        if self.held[worker]:
            span = data.draw(st.sampled_from(self.held[worker]))
            stop = data.draw(st.just(span.stop) | st.integers(span.start + 1, span.stop))
            self.do(worker, UnitRange(span.unit, span.start, stop))

    def do(self, worker: str, span: UnitRange) -> None:
        """Compute and commit rows, unless one of them is the worker's end."""
        if self.killers & rows_of(span) - self.quarantined:
            self.begun[worker] |= rows_of(span)
            self.die(worker, told=True)
        else:
            self.finished[worker] += span.rows
            self.settle(span)

    @rule(data=st.data())
    def commit_late(self, data: st.DataObject) -> None:
        """A worker thought dead had written its record after all, perhaps of a part."""
        if self.orphans:
            span = data.draw(st.sampled_from(self.orphans))
            start = data.draw(st.integers(span.start, span.stop - 1))
            stop = data.draw(st.integers(start + 1, span.stop))
            if not self.killers & rows_of(UnitRange(span.unit, start, stop)):
                self.settle(UnitRange(span.unit, start, stop))

    def settle(self, span: UnitRange) -> None:
        self.dispatcher.handle(Committed(span))
        self.dispatcher.handle(Committed(span))
        self.committed |= rows_of(span)
        for worker, spans in self.held.items():
            self.held[worker] = [
                UnitRange(other.unit, a, b)
                for other in spans
                for a, b in (
                    (
                        (other.start, min(other.stop, span.start)),
                        (max(other.start, span.stop), other.stop),
                    )
                    if other.unit == span.unit
                    else ((other.start, other.stop),)
                )
                if a < b
            ]

    @rule(worker=WORKERS)
    def leave(self, worker: str) -> None:
        self.dispatcher.handle(Lost(worker, blame=Blame.NO_ROW))
        self.gone(worker)

    @rule(worker=WORKERS, told=st.booleans())
    def die(self, worker: str, told: bool) -> None:
        """``told``: what was in the engine was heard from the worker before its end."""
        flights = spans_of(self.begun[worker] & rows_of(*self.held[worker]))
        self.note_death(worker)
        said = (flights, Blame.TOLD) if told else (None, Blame.UNTOLD)
        self.dispatcher.handle(Lost(worker, self.now, "it died", *said))
        self.gone(worker)

    def note_death(self, worker: str) -> None:
        rows = rows_of(*self.held[worker])
        if len(rows) == 1:
            self.alone_deaths[next(iter(rows))] += 1

    def gone(self, worker: str) -> None:
        self.orphans += self.held[worker]
        self.held[worker] = []
        self.begun[worker] = set()
        self.finished[worker] = 0
        self.unknown.discard(worker)

    @rule(passed=st.floats(0.0, 40.0))
    def tick(self, passed: float) -> None:
        self.now += passed
        for expired in self.dispatcher.handle(Ticked(self.now)):
            assert isinstance(expired, Expired)
            assert sorted(expired.spans) == sorted(self.held[expired.worker])
            self.note_death(expired.worker)
            self.gone(expired.worker)

    @rule(worker=WORKERS, data=st.data())
    def give_back(self, worker: str, data: st.DataObject) -> None:
        self.introduce(worker)
        if self.held[worker]:
            span = data.draw(st.sampled_from(self.held[worker]))
            self.dispatcher.handle(Returned(worker, self.now, (span,)))
            self.held[worker].remove(span)

    @rule()
    def lose_the_coordinator(self) -> None:
        """Another takes its place, and knows what is committed."""
        self.dispatcher = self.new_dispatcher(spans_of(self.committed))
        self.unknown = {"a", "b", "c"}

    def introduce(self, worker: str) -> None:
        """To the coordinator that came back: what others were given meanwhile is theirs."""
        if worker not in self.unknown:
            return
        self.unknown.discard(worker)
        spans = tuple(self.held[worker])
        self.dispatcher.handle(Resumed(worker, self.now, 1.0, spans))
        holding = self.dispatcher.ranges.holdings.get(worker)
        adopted = [piece.span for piece in holding.ranges.values()] if holding else []
        taken = rows_of(*spans) - rows_of(*adopted)
        assert rows_of(*adopted) <= rows_of(*spans)
        apart = self.dispatcher.ranges.holdings.get(APART)
        others = rows_of(*(piece.span for piece in apart.ranges.values())) if apart else set()
        for name in set(self.held) - {worker}:
            others |= rows_of(*self.held[name])
        assert taken <= others
        self.held[worker] = adopted
        self.orphans += spans_of(taken)

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        ranges = self.dispatcher.ranges
        ranges.check()
        assert ranges.committed_rows == len(self.committed)
        for worker in set(self.held) - self.unknown:
            holding = ranges.holdings.get(worker)
            pieces = [p.span for p in holding.ranges.values()] if holding else []
            assert sorted(pieces) == sorted(self.held[worker])

    def teardown(self) -> None:
        """From now on some behave, and of the others nothing is heard any more: the job ends."""
        if not hasattr(self, "dispatcher"):
            return
        for _ in range(2 * sum(self.units) + _PATIENCE_ROUNDS):
            if self.dispatcher.done:
                break
            for worker in self.survivors:
                self.behave(worker)
            self.tick(_ROUND_SECONDS)
        assert len(self.committed) == sum(self.units), "nothing moves any more"
        for worker in self.survivors:
            assert self.dispatcher.handle(LeaseRequested(worker, self.now)) == (Done(worker),)

    def behave(self, worker: str) -> None:
        """Do and commit all that is held, report, answer what is asked, ask for more."""
        self.introduce(worker)
        self.beat(worker, 1000, 0.0)
        for span in list(self.held[worker]):
            if span in self.held[worker]:  # it may have died of another
                self.do(worker, span)
        self.beat(worker, 0, 0.0)
        self.ask(worker)


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = quick
