"""A dispatcher that begins anew while its workers go on: they say what they hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.dispatch.dispatcher import Dispatcher, Sizing
from pipeline.dispatch.events import (
    Committed,
    Grant,
    Joined,
    LeaseRequested,
    Reported,
    Resumed,
    UnitRange,
)
from tests.support.samples import quick

SIZING = Sizing(longest_seconds=100, shortest_seconds=10, shares=2, patience_seconds=30)
ROWS = [50, 0, 30, 100]


def rows_of(spans: list[UnitRange]) -> set[tuple[int, int]]:
    return {(span.unit, row) for span in spans for row in range(span.start, span.stop)}


def lease_all(made: Dispatcher, worker: str) -> list[UnitRange]:
    """Lease and commit until there is nothing pending."""
    leased: list[UnitRange] = []
    while True:
        (answer,) = made.handle(LeaseRequested(worker, 100.0))
        if not isinstance(answer, Grant):
            return leased
        leased += answer.spans
        for span in answer.spans:
            made.handle(Committed(span))


@st.composite
def some_spans(draw: st.DrawFn) -> list[UnitRange]:
    spans = []
    for _ in range(draw(st.integers(0, 5))):
        unit = draw(st.sampled_from([0, 2, 3]))
        start = draw(st.integers(0, ROWS[unit] - 1))
        spans.append(UnitRange(unit, start, draw(st.integers(start + 1, ROWS[unit]))))
    return spans


@quick
@given(committed=some_spans(), held=some_spans(), others=some_spans())
def test_rows_are_with_one_worker_and_the_rest_is_still_to_be_done(
    committed: list[UnitRange], held: list[UnitRange], others: list[UnitRange]
) -> None:
    made = Dispatcher(ROWS, sizing=SIZING)
    for span in committed:
        made.handle(Committed(span))
    made.handle(Resumed("a", 0.0, 1.0, tuple(held)))
    made.handle(Resumed("b", 0.0, 1.0, tuple(others)))
    made.ranges.check()
    made.handle(Joined("c", 0.0, "card", 1.0))

    done, mine = rows_of(committed), rows_of(held)
    theirs = rows_of(others) - mine
    leased = lease_all(made, "c")

    made.ranges.check()
    assert rows_of(leased) == rows_of([UnitRange(u, 0, n) for u, n in enumerate(ROWS)]) - (
        done | mine | theirs
    )
    assert len(rows_of(leased)) == sum(span.rows for span in leased)
    for span in [*held, *others]:
        made.handle(Committed(span))
    assert made.done


def test_what_it_did_before_is_no_speed() -> None:
    """Its totals have a past of which the dispatcher knows nothing."""
    made = Dispatcher(ROWS, sizing=SIZING)
    made.handle(Resumed("a", 0.0, 1.0, (UnitRange(0, 0, 50),)))
    made.handle(Reported("a", 1.0, rows=1_000_000, busy_seconds=0.5))

    assert made.speeds.of("a") == 1.0
