"""Units that are cut while several workers have results for them: each row is committed once."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import JobFailed
from pipeline.input.units import Unit, leaves, part
from pipeline.output.commit import records as layout
from pipeline.output.commit.commit_tree import commit_rows
from pipeline.output.commit.records import CommitRecord, UnitIsCut
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.storage.base import Storage
from pipeline.storage.local import LocalStorage
from tests.support.samples import quick

WHOLE = Unit("whole", 3, 100, 112)


def settle(dataset: Dataset, start: int, stop: int, by: int = 0) -> list[CommitRecord]:
    """Worker ``by`` has the results of these rows of the shard."""

    def rows(first: int, last: int) -> tuple[pa.Table, Tally]:
        assert start <= first < last <= stop
        table = pa.table({"row": list(range(first, last)), "by": [by] * (last - first)})
        return table, Tally(rows=last - first)

    return commit_rows(dataset, part(WHOLE, start, stop), rows, {})


def committed(dataset: Dataset) -> list[int]:
    """The rows that a reader of the folder sees, in the order of its files."""
    return [row["row"] for row in dataset.first_rows(1000)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(LocalStorage(tmp_path))


def test_a_whole_unit_has_one_record(dataset: Dataset) -> None:
    [record] = settle(dataset, 100, 112)

    assert (record.unit, record.row_range) == ("whole", (3, 100, 112))
    assert dataset.state().cuts == {}


def test_a_part_is_committed_by_itself(dataset: Dataset) -> None:
    [record] = settle(dataset, 104, 112)

    assert record.row_range == (3, 104, 112)
    assert dataset.state().cuts == {"whole": 104}
    assert committed(dataset) == list(range(104, 112))


def test_a_part_in_the_middle_cuts_twice(dataset: Dataset) -> None:
    [record] = settle(dataset, 104, 108)

    assert record.row_range == (3, 104, 108)
    assert committed(dataset) == list(range(104, 108))


def test_what_is_left_is_found_by_the_same_names(dataset: Dataset) -> None:
    settle(dataset, 104, 108)
    state = dataset.state()
    left = [u for u in leaves(WHOLE, state.cuts) if u.id not in state.commits]

    assert [(u.start, u.stop) for u in left] == [(100, 104), (108, 112)]
    assert left == [part(WHOLE, 100, 104), part(WHOLE, 108, 112)]


def test_who_has_more_rows_commits_what_is_missing(dataset: Dataset) -> None:
    settle(dataset, 104, 108, by=1)
    records = settle(dataset, 100, 112, by=2)

    assert [r.row_range[1:] for r in records] == [(100, 104), (104, 108), (108, 112)]
    assert [row["by"] for row in dataset.first_rows(99)] == [2] * 4 + [1] * 4 + [2] * 4


def test_who_has_a_part_of_what_is_committed_commits_nothing(dataset: Dataset) -> None:
    settle(dataset, 100, 112, by=1)
    [record] = settle(dataset, 104, 108, by=2)

    assert record.unit == "whole"
    assert committed(dataset) == list(range(100, 112))


def test_the_files_sort_in_input_order(dataset: Dataset) -> None:
    for start, stop in ((108, 112), (100, 103), (103, 108)):
        settle(dataset, start, stop)

    assert committed(dataset) == list(range(100, 112))


def test_a_commit_of_a_cut_unit_changes_nothing(dataset: Dataset) -> None:
    settle(dataset, 104, 112)
    with pytest.raises(UnitIsCut) as cut:
        dataset.commit(WHOLE, pa.table({"row": range(12)}), Tally(rows=12), {})

    assert cut.value.at == 104
    assert committed(dataset) == list(range(104, 112))
    assert dataset.storage.files(layout.ATTEMPTS) == []


def test_a_damaged_cut_is_named(dataset: Dataset) -> None:
    settle(dataset, 104, 112)
    path = next(
        path
        for path, _ in dataset.storage.files(layout.COMMITS)
        if "cut" in json.loads(dataset.storage.read(path) or b"{}")
    )
    dataset.storage.replace(path, b'{"cut": 1}')

    with pytest.raises(JobFailed, match="damaged"):
        dataset.state()


@quick
@given(data=st.data())
def test_any_overlapping_attempts_come_to_every_row_once(
    data: st.DataObject, storage: Storage
) -> None:
    """Workers have results for any ranges, in any order, each through a view of its own; then one
    does everything that is left."""
    for path, _ in [*storage.files(""), *storage.files(layout.COMMITS)]:
        storage.delete(path)
    workers = [Dataset(storage) for _ in range(3)]
    for by in data.draw(st.lists(st.integers(0, 2), max_size=6)):
        start = data.draw(st.integers(100, 111))
        stop = data.draw(st.integers(start + 1, 112))
        covered = {
            row for r in settle(workers[by], start, stop, by) for row in range(*r.row_range[1:])
        }
        assert covered >= set(range(start, stop))
    state = Dataset(storage).state()
    for leaf in leaves(WHOLE, state.cuts):
        if leaf.id not in state.commits:
            settle(workers[0], leaf.start, leaf.stop)

    assert committed(workers[0]) == list(range(100, 112))
