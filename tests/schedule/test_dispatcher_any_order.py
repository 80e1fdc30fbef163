"""Whatever happens to workers, in any order: every row is committed once, none is leased twice."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.schedule.dispatcher import Dispatcher, Sizing
from pipeline.schedule.leases import (
    Asked,
    Committed,
    Done,
    Expired,
    GaveUp,
    GiveUp,
    Grant,
    Joined,
    Left,
    Lost,
    Reported,
    Returned,
    Span,
    Ticked,
    Wait,
)
from tests.samples import quick

WORKERS = st.sampled_from(["a", "b", "c"])
Row = tuple[int, int]


def rows_of(span: Span) -> set[Row]:
    return {(span.unit, row) for row in range(span.start, span.stop)}


class AnyInterleaving(RuleBasedStateMachine):
    """Workers ask, work, report, give up rows, commit, die, fall silent and come back; what the
    dead had done is committed late or never. Beside the dispatcher stands a plain record of who
    was told what."""

    @initialize(
        units=st.lists(st.integers(0, 12), min_size=1, max_size=6),
        data=st.data(),
    )
    def begin(self, units: list[int], data: st.DataObject) -> None:
        self.units = units
        before: list[Span] = []
        for unit, rows in enumerate(units):
            cuts = sorted(data.draw(st.sets(st.integers(0, rows), max_size=3)) | {0, rows})
            parts = [Span(unit, a, b) for a, b in pairwise(cuts)]
            before += [part for part in parts if data.draw(st.booleans())]
        costs = [float(n * data.draw(st.sampled_from([1, 1, 5]))) for n in units]
        groups = [data.draw(st.sampled_from([None, "x", "y"])) for _ in units]
        self.dispatcher = Dispatcher(
            units,
            before,
            costs=costs if data.draw(st.booleans()) else None,
            groups=groups if data.draw(st.booleans()) else None,
            sizing=Sizing(longest_seconds=8, shortest_seconds=2, max_losses=10**9),
        )
        self.now = 0.0
        self.committed = {row for span in before for row in rows_of(span)}
        self.held: dict[str, list[Span]] = {"a": [], "b": [], "c": []}
        self.begun: dict[str, set[Row]] = {"a": set(), "b": set(), "c": set()}
        self.finished = {"a": 0, "b": 0, "c": 0}
        self.orphans: list[Span] = []
        for worker, rate in (("a", 1.0), ("b", 3.0)):  # c comes without being announced
            self.dispatcher.handle(Joined(worker, 0.0, "card", rate))

    @rule(worker=WORKERS)
    def ask(self, worker: str) -> None:
        (answer,) = self.dispatcher.handle(Asked(worker, self.now))
        if isinstance(answer, Grant):
            for span in answer.spans:
                rows = rows_of(span)
                assert rows
                assert not rows & self.committed
                for spans in self.held.values():
                    assert not any(rows & rows_of(other) for other in spans)
                self.held[worker].append(span)
        elif isinstance(answer, Done):
            assert len(self.committed) == sum(self.units)
        else:
            assert isinstance(answer, Wait)
            # nothing is pending, or the worker has work already
            assert not self.dispatcher.ledger.pending_rows or any(self.held.values())

    @rule(worker=WORKERS, started=st.integers(0, 6), passed=st.floats(0.0, 3.0))
    def beat(self, worker: str, started: int, passed: float) -> None:
        """Start some rows, report, and answer what is asked."""
        self.now += passed
        for span in self.held[worker]:
            for row in sorted(rows_of(span) - self.begun[worker])[:started]:
                self.begun[worker].add(row)
        held = {row for span in self.held[worker] for row in rows_of(span)}
        self.begun[worker] &= held
        report = Reported(
            worker,
            self.now,
            rows=self.finished[worker],
            busy_seconds=self.now,
            tokens=10 * self.finished[worker],
            active=len(self.begun[worker]),
        )
        for request in self.dispatcher.handle(report):
            assert isinstance(request, GiveUp)
            assert request.span in self.held[worker]
            self.answer(worker, request)

    def answer(self, worker: str, request: GiveUp) -> None:
        span = request.span
        begun = [row for unit, row in self.begun[worker] if unit == span.unit and row < span.stop]
        stop = max([span.start, request.keep, *(row + 1 for row in begun)])
        kept = Span(span.unit, span.start, min(stop, span.stop))
        self.held[worker].remove(span)
        if kept.rows:
            self.held[worker].append(kept)
        self.dispatcher.handle(GaveUp(worker, self.now, kept))
        self.dispatcher.handle(GaveUp(worker, self.now, kept))  # said again

    @rule(worker=WORKERS, data=st.data())
    def commit(self, worker: str, data: st.DataObject) -> None:
        if self.held[worker]:
            span = data.draw(st.sampled_from(self.held[worker]))
            self.finished[worker] += span.rows
            self.settle(span)

    @rule(data=st.data())
    def commit_late(self, data: st.DataObject) -> None:
        """A worker thought dead had written its record after all, perhaps of a part."""
        if self.orphans:
            span = data.draw(st.sampled_from(self.orphans))
            start = data.draw(st.integers(span.start, span.stop - 1))
            stop = data.draw(st.integers(start + 1, span.stop))
            self.settle(Span(span.unit, start, stop))

    def settle(self, span: Span) -> None:
        self.dispatcher.handle(Committed(span))
        self.dispatcher.handle(Committed(span))
        self.committed |= rows_of(span)
        for worker, spans in self.held.items():
            left: list[Span] = []
            for other in spans:
                if other.unit != span.unit:
                    left.append(other)
                    continue
                for a, b in (
                    (other.start, min(other.stop, span.start)),
                    (max(other.start, span.stop), other.stop),
                ):
                    if a < b:
                        left.append(Span(other.unit, a, b))
            self.held[worker] = left

    @rule(worker=WORKERS, how=st.sampled_from([Left, Lost]))
    def go(self, worker: str, how: type[Left] | type[Lost]) -> None:
        self.dispatcher.handle(how(worker))
        self.gone(worker)

    def gone(self, worker: str) -> None:
        self.orphans += self.held[worker]
        self.held[worker] = []
        self.begun[worker] = set()
        self.finished[worker] = 0

    @rule(passed=st.floats(0.0, 40.0))
    def tick(self, passed: float) -> None:
        self.now += passed
        for expired in self.dispatcher.handle(Ticked(self.now)):
            assert isinstance(expired, Expired)
            assert sorted(expired.spans) == sorted(self.held[expired.worker])
            self.gone(expired.worker)

    @rule(worker=WORKERS, data=st.data())
    def give_back(self, worker: str, data: st.DataObject) -> None:
        if self.held[worker]:
            span = data.draw(st.sampled_from(self.held[worker]))
            self.dispatcher.handle(Returned(worker, self.now, (span,)))
            self.held[worker].remove(span)

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        ledger = self.dispatcher.ledger
        ledger.check()
        assert ledger.committed_rows == len(self.committed)
        for worker, spans in self.held.items():
            holding = ledger.holdings.get(worker)
            pieces = [p.span for p in holding.pieces.values()] if holding else []
            assert sorted(pieces) == sorted(spans)

    def teardown(self) -> None:
        """All but one die; the last gets everything done."""
        if not hasattr(self, "dispatcher"):
            return
        for worker in ("a", "b", "c"):
            self.go(worker, Lost)
        for _ in range(sum(self.units) + 1):
            (answer,) = self.dispatcher.handle(Asked("last", self.now))
            if not isinstance(answer, Grant):
                break
            for span in answer.spans:
                assert not rows_of(span) & self.committed
                self.settle(span)
        assert isinstance(answer, Done)
        assert len(self.committed) == sum(self.units)


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = quick
