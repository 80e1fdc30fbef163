"""Rows of shards and rows of units are the same rows, whichever way they are translated."""

from __future__ import annotations

import pytest

from pipeline.dispatch.events import UnitRange
from pipeline.driver.coordinator.unit_index import UnitIndex
from pipeline.input.units import Unit, part
from pipeline.rows.row_range import RowRange

UNITS = [Unit("a", 0, 0, 100), Unit("b", 0, 100, 130), Unit("c", 2, 50, 150)]
INDEX = UnitIndex(UNITS)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (RowRange(0, 0, 100), [UnitRange(0, 0, 100)]),
        (RowRange(0, 90, 110), [UnitRange(0, 90, 100), UnitRange(1, 0, 10)]),
        (RowRange(2, 60, 61), [UnitRange(2, 10, 11)]),
        (RowRange(2, 0, 50), []),
        (RowRange(1, 0, 100), []),
        (RowRange(0, 20, 20), []),
    ],
)
def test_rows_of_a_shard_are_counted_from_the_first_row_of_their_units(
    rows: RowRange, found: list[UnitRange]
) -> None:
    assert INDEX.within(rows) == found


@pytest.mark.parametrize("span", [UnitRange(0, 0, 100), UnitRange(2, 10, 20), UnitRange(1, 5, 30)])
def test_what_a_worker_is_told_comes_back_as_the_same_rows(span: UnitRange) -> None:
    assert INDEX.within(INDEX.unit(span).row_range) == [span]


def test_a_worker_may_keep_no_row_of_what_it_was_leased() -> None:
    leased = part(UNITS[2], 60, 90)

    assert INDEX.kept(leased, 80) == [UnitRange(2, 10, 30)]
    assert INDEX.kept(leased, 60) == [UnitRange(2, 10, 10)]
