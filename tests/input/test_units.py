"""Units: every row in exactly one, in order, found again by a resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobFailed
from pipeline.input.shard import Shard
from pipeline.input.units import (
    Unit,
    cut,
    halves,
    leaves,
    part,
    predicted_costs,
    recut,
    starts_of,
)
from pipeline.rows.work_order import unit_rows
from tests.support.samples import quick

ROW_COUNTS = st.lists(st.integers(0, 3000), min_size=1, max_size=5)
UNIT_ROWS = st.sampled_from([128, 256, 1024, 4096])


def shard(index: int, rows: int, boundaries: tuple[int, ...] = ()) -> Shard:
    return Shard(index, f"{index}.parquet", "parquet", 10, "v1", rows, boundaries)


@st.composite
def shards(draw: st.DrawFn) -> list[Shard]:
    made = []
    for index, rows in enumerate(draw(ROW_COUNTS)):
        inner = draw(st.sets(st.integers(1, max(rows, 1)), max_size=8)) - {rows}
        made.append(shard(index, rows, (0, *sorted(inner)) if rows else ()))
    return made


@quick
@given(shards(), UNIT_ROWS, st.none() | st.integers(0, 8000))
def test_units_cover_the_first_rows_once_each_in_order(
    files: list[Shard], rows_per_unit: int, limit: int | None
) -> None:
    everything = [(s.index, row) for s in files for row in range(s.rows)]
    units = cut(files, rows_per_unit, limit)

    covered = [(u.shard, row) for u in units for row in range(u.start, u.stop)]
    assert covered == everything[:limit]


@quick
@given(shards(), UNIT_ROWS)
def test_no_unit_has_more_rows_than_asked(files: list[Shard], rows_per_unit: int) -> None:
    assert all(u.rows <= rows_per_unit for u in cut(files, rows_per_unit))


@quick
@given(shards(), UNIT_ROWS)
def test_file_names_sort_in_input_order(files: list[Shard], rows_per_unit: int) -> None:
    names = [u.file_name for u in cut(files, rows_per_unit)]

    assert names == sorted(set(names))


@quick
@given(shards(), UNIT_ROWS)
def test_the_same_input_gives_the_same_ids_and_no_two_alike(
    files: list[Shard], rows_per_unit: int
) -> None:
    ids = [u.id for u in cut(files, rows_per_unit)]

    assert ids == [u.id for u in cut(files, rows_per_unit)]
    assert len(set(ids)) == len(ids)


def test_a_changed_file_gives_other_ids() -> None:
    [old] = cut([Shard(0, "a", "csv", 10, "v1", 5)], 128)
    [new] = cut([Shard(0, "a", "csv", 10, "v2", 5)], 128)

    assert old.id != new.id


def test_a_unit_ends_at_a_row_groups_end_in_its_last_quarter() -> None:
    units = cut([shard(0, 400, (0, 100, 200, 300))], 128)

    assert [u.stop for u in units] == [100, 200, 300, 400]


def test_a_row_groups_end_before_the_last_quarter_is_passed_over() -> None:
    units = cut([shard(0, 400, (0, 90, 290))], 128)

    assert [u.stop for u in units] == [128, 256, 384, 400]


def test_of_two_row_groups_ends_the_later_one_is_taken() -> None:
    assert cut([shard(0, 400, (0, 100, 120))], 128)[0].stop == 120


def test_a_limit_cuts_through_a_row_group() -> None:
    units = cut([shard(0, 400, (0, 100))], 128, limit=110)

    assert [(u.start, u.stop) for u in units] == [(0, 110)]


def test_a_unit_never_spans_two_shards() -> None:
    units = cut([shard(0, 5), shard(1, 7)], 128)

    assert [(u.shard, u.start, u.stop) for u in units] == [(0, 0, 5), (1, 0, 7)]


def test_an_input_without_rows_is_one_empty_unit() -> None:
    [unit] = cut([shard(0, 0), shard(1, 0)], 128)

    assert (unit.shard, unit.rows) == (0, 0)


def test_a_unit_names_its_file_by_shard_and_row() -> None:
    assert Unit("u", 3, 128, 256).file_name == "00003-000000000128.parquet"


@quick
@given(st.integers(0, 10**9), st.integers(1, 64))
def test_units_are_powers_of_two_within_bounds(total: int, engines: int) -> None:
    rows = unit_rows(total, engines)

    assert 16 <= rows <= 4096
    assert rows & (rows - 1) == 0


def test_larger_inputs_have_larger_units() -> None:
    rows = (0, 4095, 4096, 10**5, 10**9)
    assert [unit_rows(n, 2) for n in rows] == [16, 16, 32, 512, 4096]
    assert [unit_rows(n) for n in rows] == [16, 256, 256, 1024, 4096]


class TestCosts:
    def test_rows_of_a_file_with_more_bytes_a_row_cost_more(self) -> None:
        shards = [
            Shard(0, "a", "parquet", 1000, "v", 100),
            Shard(1, "b", "parquet", 3000, "v", 100),
        ]
        costs = predicted_costs(cut(shards, 128), shards)

        assert costs == [75.0, 125.0]
        assert sum(costs) == 200  # rows

    def test_units_of_a_file_of_lines_are_told_apart(self) -> None:
        shards = [Shard(0, "a", "jsonl", 4000, "v", 256, (), (0, 1000))]
        costs = predicted_costs(cut(shards, 128), shards)

        assert costs == [96.0, 160.0]

    def test_one_file_without_offsets_tells_nothing(self) -> None:
        shards = [Shard(0, "a", "parquet", 1000, "v", 300)]

        assert predicted_costs(cut(shards, 128), shards) is None


class TestParts:
    UNIT = Unit("u", 3, 128, 256)

    def test_the_parts_of_a_unit_cover_it(self) -> None:
        first, second = halves(self.UNIT, 200)

        assert [(u.shard, u.start, u.stop) for u in (first, second)] == [
            (3, 128, 200),
            (3, 200, 256),
        ]
        assert first.whole == second.whole == self.UNIT

    def test_the_same_rows_have_the_same_name_however_they_were_cut(self) -> None:
        first, second = halves(self.UNIT, 200)

        assert halves(second, 220)[0] == halves(part(self.UNIT, 128, 220), 200)[1]
        assert part(first, 128, 256) == self.UNIT
        assert len({first.id, second.id, "u"}) == 3

    def test_the_leaves_of_a_cut_unit_come_in_input_order(self) -> None:
        first, second = halves(self.UNIT, 200)
        cuts = {"u": 200, first.id: 130, second.id: 210}

        found = [(u.start, u.stop) for u in leaves(self.UNIT, cuts)]
        assert found == [(128, 130), (130, 200), (200, 210), (210, 256)]


@quick
@given(shards(), st.data())
def test_units_are_found_again_from_what_a_manifest_keeps(
    files: list[Shard], data: st.DataObject
) -> None:
    """Without the row groups that decided where they begin."""
    sizes = data.draw(st.lists(UNIT_ROWS, min_size=len(files), max_size=len(files)))
    limit = data.draw(st.integers(0, sum(s.rows for s in files)))
    units = cut(files, sizes, limit)
    bare = [replace(s, boundaries=()) for s in files]

    assert recut(bare, starts_of(files, units, sizes), sizes, limit) == units


def test_a_cut_outside_of_its_unit_is_refused() -> None:
    [unit] = cut([shard(0, 100)], 128)

    for at in (0, 100, 101, -1):
        with pytest.raises(JobFailed, match="damaged"):
            list(leaves(unit, {unit.id: at}))
