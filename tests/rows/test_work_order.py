"""The order of work: a little of everything at any time, and always the same."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows.work_order import STREAMS, mixed, side_by_side, spread, unit_rows
from tests.support.samples import quick


@quick
@given(st.integers(0, 5000))
def test_every_unit_has_its_turn_once(number: int) -> None:
    assert sorted(spread(number)) == list(range(number))


@quick
@given(st.integers(0, 9000))
def test_every_row_has_its_turn_once(number: int) -> None:
    assert sorted(mixed(number)) == list(range(number))


@quick
@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 8))
def test_rows_of_a_unit_keep_their_order(rows: list[int], streams: int) -> None:
    """So what is done of a unit when a run stops is its beginning."""
    turns = side_by_side(rows, streams)

    for unit, number in enumerate(rows):
        assert [row for one, row in turns if one == unit] == list(range(number))


def test_few_units_are_begun_and_not_finished() -> None:
    """They are what is lost when a worker dies, and whose rows wait in memory."""
    rows, begun, most = [128] * 20, dict.fromkeys(range(20), 0), 0
    for unit, _ in side_by_side(rows):
        begun[unit] += 1
        most = max(most, sum(0 < n < 128 for n in begun.values()))

    assert most <= STREAMS


def test_neighbours_stay_close() -> None:
    """They may share a prefix."""
    places = {row: place for place, row in enumerate(mixed(600))}
    unit = unit_rows(600)
    apart = [abs(places[row + 1] - places[row]) for row in range(599) if (row + 1) % unit]

    assert max(apart) <= STREAMS


@quick
@given(st.integers(200, 100_000))
def test_what_is_open_at_once_on_a_rack_is_a_small_part_of_a_job(rows: int) -> None:
    """It is lost with a worker that dies, and nothing is committed before."""
    assert STREAMS * unit_rows(rows, 2) <= max(STREAMS * unit_rows(0), rows / 16)


@quick
@given(st.integers(64, 100_000))
def test_what_one_engine_has_open_at_once_is_not_all_for_long(rows: int) -> None:
    """Beyond a few hundred rows some is committed early; a few are all open, whatever is done."""
    assert unit_rows(rows) <= max(rows / 4, 128)
    assert STREAMS * unit_rows(rows) <= 32 * math.sqrt(rows)


@pytest.mark.parametrize(("rows", "files"), [(64, 2), (512, 4), (3000, 12), (20_000, 40)])
def test_a_small_input_on_one_engine_becomes_few_files(rows: int, files: int) -> None:
    assert -(-rows // unit_rows(rows)) == files
    assert -(-rows // unit_rows(rows, 2)) >= min(rows // 16, 100)


@pytest.mark.parametrize("number", [20, 64, 100, 1000, 4096])
def test_every_stretch_of_units_lies_over_the_whole_input(number: int) -> None:
    order = spread(number)
    for start in range(0, number - 8, 8):
        stretch = sorted(order[start : start + 8])
        assert stretch[0] < number / 3
        assert stretch[-1] > 2 * number / 3


@pytest.mark.parametrize("rows", [5000, 50_000])
def test_sorted_data_look_alike_from_the_beginning_to_the_end(rows: int) -> None:
    order = mixed(rows)
    tenth = rows // 10
    means = [statistics.mean(order[i : i + tenth]) for i in range(0, rows - tenth + 1, tenth)]

    assert max(means) < 2 * min(means)  # 19 times in the order of the rows
    assert means[0] == pytest.approx(rows / 2, rel=0.25)


def test_one_unit_is_gone_through_in_its_order() -> None:
    assert mixed(14) == list(range(14))
