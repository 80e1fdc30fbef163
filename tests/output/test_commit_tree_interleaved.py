"""Several processes write to one output folder at the same time, one storage call of any of them
after another, and some die between two: each row is committed once, and readers see none twice."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.input.units import Unit, leaves, part
from pipeline.output.commit.commit_tree import commit_rows
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.storage.base import Storage, open_storage
from tests.storage.turns import Writer, writers
from tests.support.samples import quick

WHOLE = Unit("whole", 3, 100, 112)
ROWS = st.tuples(st.integers(100, 111), st.integers(1, 12)).map(
    lambda t: (t[0], min(t[0] + t[1], 112))
)


@pytest.fixture
def new_storage(memory: str) -> Callable[[], Storage]:
    """Makes empty storages."""
    numbers = count()
    return lambda: open_storage(f"{memory}/{next(numbers)}")


def settle(dataset: Dataset, start: int, stop: int, by: int) -> list[CommitRecord]:
    """Process ``by`` has the results of these rows of the shard."""

    def rows(first: int, last: int) -> tuple[pa.Table, Tally]:
        assert start <= first < last <= stop
        table = pa.table({"row": list(range(first, last)), "by": [by] * (last - first)})
        return table, Tally(rows=last - first)

    return commit_rows(dataset, part(WHOLE, start, stop), rows, {})


def published(storage: Storage) -> list[tuple[int, int]]:
    """The rows in each file that a reader sees now, in the order of the files: (start, stop)."""
    found = []
    for path, _ in storage.files(""):
        if not path.startswith((".", "_")):
            rows = pq.read_metadata(io.BytesIO(storage.read(path) or b"")).num_rows
            start = int(path.removesuffix(".parquet").partition("-")[2])
            found.append((start, start + rows))
    return found


def finish(storage: Storage) -> None:
    """What a next run does: publish what was committed, and do what is missing."""
    dataset = Dataset(storage)
    state = dataset.state()
    dataset.recover(state.commits.values())
    for leaf in leaves(WHOLE, state.cuts):
        if leaf.id not in state.commits:
            settle(dataset, leaf.start, leaf.stop, by=9)


@quick
@given(
    work=st.lists(st.lists(ROWS, min_size=1, max_size=3), min_size=2, max_size=4),
    data=st.data(),
)
def test_any_interleaving_of_writers_ends_with_disjoint_leaves_committed_once(
    work: list[list[tuple[int, int]]],
    data: st.DataObject,
    new_storage: Callable[[], Storage],
) -> None:
    storage = new_storage()
    told: list[CommitRecord] = []

    def writer(by: int, parts: list[tuple[int, int]]) -> Callable[[Any], None]:
        def write(own: Any) -> None:
            dataset = Dataset(own)
            for start, stop in parts:
                records = settle(dataset, start, stop, by)
                covered = {row for r in records for row in range(*r.row_range[1:])}
                assert covered >= set(range(start, stop))
                told.extend(records)

        return write

    with writers() as everyone:
        for by, parts in enumerate(work):
            everyone.append(Writer(writer(by, parts), storage))
        while alive := [w for w in everyone if not w.ended]:
            chosen = data.draw(st.sampled_from(alive))
            chosen.step(data.draw(st.sampled_from([None] * 20 + ["before", "after"])))
            seen = published(storage)
            assert all(a[1] <= b[0] for a, b in pairwise(seen)), "a reader sees a row twice"
    finish(storage)

    state = Dataset(storage).state()
    final = [state.commits[leaf.id] for leaf in leaves(WHOLE, state.cuts)]
    assert [row for r in final for row in range(*r.row_range[1:])] == list(range(100, 112))
    assert published(storage) == [r.row_range[1:] for r in final]
    assert len(final) == len(state.commits)
    assert all(record in final for record in told), "a writer was told of what does not hold"


@settings(quick, max_examples=200)
@given(work=st.lists(ROWS, min_size=1, max_size=2), data=st.data())
def test_a_run_that_starts_while_orphans_still_commit_finds_all_they_did(
    work: list[tuple[int, int]], data: st.DataObject, new_storage: Callable[[], Storage]
) -> None:
    """The driver was killed and the command run again at once: the workers of the first run
    publish and sweep up while the second puts right what a crash left."""
    storage = new_storage()

    def orphan(own: Any) -> None:
        for start, stop in work:
            settle(Dataset(own), start, stop, by=0)

    def driver(own: Any) -> None:
        # the records are read at one moment, through many threads
        records = Dataset(storage).state().commits.values()
        Dataset(own).recover(records)

    with writers() as both:
        both.append(Writer(orphan, storage))
        for _ in range(data.draw(st.integers(0, 6))):
            if not both[0].ended:
                both[0].step()
        both.append(Writer(driver, storage))
        while alive := [w for w in both if not w.ended]:
            data.draw(st.sampled_from(alive)).step()
    finish(storage)

    assert [row for span in published(storage) for row in range(*span)] == list(range(100, 112))
