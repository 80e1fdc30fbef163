"""Error rows that are done again: all other rows stay bit for bit what they are, whoever comes
when."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.driver.plan.provenance import provenance
from pipeline.errors import RowError, RowErrorType
from pipeline.input.units import Unit, part
from pipeline.output.columns.results import RowResult, output_columns, tally, to_table
from pipeline.output.commit.records import ATTEMPTS, CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import read_manifest
from pipeline.output.rows.redo import KEPT, Redo, merge, recommit_rows, retally, select
from pipeline.output.verify.dataset import Verification, verify
from pipeline.output.verify.promises import count_table
from pipeline.rows.request import Scores
from pipeline.storage.base import open_storage
from tests.support.datasets import answer, finish, job_in, rows_of, write_input
from tests.support.samples import job, quick

FAILED = (3, 5, 40, 130)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished dataset of 140 rows in two units; four rows failed."""
    write_input(tmp_path / "rows", 140)
    finish(job_in(tmp_path), fails=lambda row: row in FAILED)
    return tmp_path


class Retry:
    """A retry, worker by worker."""

    def __init__(self, folder: Path, only: frozenset[str] = frozenset()) -> None:
        self.plan: Plan = make_plan(check_input(job_in(folder)), fetch=False)
        self.folder = folder
        self.dataset = Dataset(open_storage(str(folder / "out")))
        self.redo: Redo = select(self.plan.committed, only)

    def work(self, unit: Unit, results: Callable[[int], RowResult] = answer) -> list[int]:
        """What a worker does with a lease. Returns the rows that it computed."""
        rows = self.redo.rows_of(unit, self.dataset)
        self.commit(unit, rows, results)
        return [unit.start + row for row in rows]

    def commit(self, unit: Unit, rows: Sequence[int], results: Callable[[int], RowResult]) -> None:
        made = [results(unit.start + i) if i in rows else KEPT for i in range(unit.rows)]
        inputs = rows_of(unit.start, unit.stop)
        columns = self.plan.input.columns
        recommit_rows(self.dataset, self.redo, unit, inputs, made, columns, provenance(self.plan))

    def end(self) -> Verification:
        conclude(self.plan, self.dataset, RunOutcome(), time.time())
        return verify(self.dataset.storage)


def output(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(p) for p in sorted((folder / "out").glob("*.parquet"))])


def failing(folder: Path) -> dict[int, dict[str, object]]:
    table = output(folder)
    pairs = zip(table["id"].to_pylist(), table["error"].to_pylist(), strict=True)
    return {i: e for i, e in pairs if e is not None}


def test_only_units_with_errors_are_done_again(folder: Path) -> None:
    finish(job_in(folder, output={"path": str(folder / "other")}), fails=lambda row: row == 130)
    made = job_in(folder, output={"path": str(folder / "other")})
    redo = select(make_plan(check_input(made), fetch=False).committed, frozenset())

    assert [(u.start, u.stop) for u in redo.units] == [(128, 140)]
    assert redo.rows == 1


def test_errors_of_other_types_are_not(folder: Path) -> None:
    assert Retry(folder, frozenset({"Timeout"})).redo.units == ()
    assert Retry(folder, frozenset({"SchemaNotMet"})).redo.rows == 4


def test_rows_with_an_error_are_computed_and_no_others(folder: Path) -> None:
    retry = Retry(folder)

    assert [row for unit in retry.redo.units for row in retry.work(unit)] == list(FAILED)


def test_the_dataset_is_right_afterwards(folder: Path) -> None:
    retry = Retry(folder)
    for unit in retry.redo.units:
        retry.work(unit)
    verdict = retry.end()

    assert verdict.ok, verdict.faults
    assert failing(folder) == {}
    assert output(folder)["completion"].to_pylist() == [f"answer {i}" for i in range(140)]
    assert retry.dataset.storage.files(ATTEMPTS) == []


def test_all_other_rows_are_the_same_values(folder: Path) -> None:
    before = output(folder)
    retry = Retry(folder)
    for unit in retry.redo.units:
        retry.work(unit, lambda row: answer(row, text="new"))
    retry.end()
    after = output(folder)
    kept = [i for i in range(140) if i not in FAILED]

    assert after.take(kept).equals(before.take(kept))
    assert after["completion"][3].as_py() == "new 3"


def test_files_without_an_error_are_left_alone(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 140)
    finish(job_in(tmp_path), fails=lambda row: row == 3)
    second = tmp_path / "out/00000-000000000128.parquet"
    before = second.stat().st_mtime_ns, second.stat().st_ino
    retry = Retry(tmp_path)
    for unit in retry.redo.units:
        retry.work(unit)
    retry.end()

    assert (second.stat().st_mtime_ns, second.stat().st_ino) == before


def test_a_row_that_fails_again_has_its_attempts_counted_on(folder: Path) -> None:
    for attempts in (2, 3):
        retry = Retry(folder)
        for unit in retry.redo.units:
            retry.work(unit, lambda row: answer(row, fails=lambda row: row == 5))
        assert retry.end().ok
        assert {row: e["attempts"] for row, e in failing(folder).items()} == {5: attempts}


def test_the_summary_counts_the_rows_as_they_are_now(folder: Path) -> None:
    retry = Retry(folder)
    for unit in retry.redo.units:
        retry.work(unit, lambda row: answer(row, fails=lambda row: row == 5))
    retry.end()
    summary = retry.dataset.summary() or {}

    assert (summary["failed"], summary["errors"]) == (1, {"SchemaNotMet": 1})
    assert summary["completion_tokens"] == 139 * 2 + 3


def test_parts_of_a_unit_are_put_together(folder: Path) -> None:
    retry = Retry(folder)
    first, second = retry.redo.units
    assert retry.work(part(first, 0, 4)) == [3]
    assert retry.work(part(first, 4, 128)) == [5, 40]
    retry.work(second)

    assert retry.end().ok
    assert failing(folder) == {}


def test_a_part_without_an_error_changes_nothing(folder: Path) -> None:
    retry = Retry(folder)
    assert retry.work(part(retry.redo.units[0], 50, 128)) == []

    assert retry.dataset.state().generation == 0


def test_two_workers_with_the_same_rows_do_no_harm(folder: Path) -> None:
    """The lease of one was thought lost. What had an answer first stays."""
    retry = Retry(folder)
    unit = retry.redo.units[0]
    retry.commit(unit, [3, 5, 40], lambda row: answer(row, fails=lambda row: row == 5))
    retry.commit(unit, [3, 5, 40], lambda row: answer(row, text="late"))
    retry.work(retry.redo.units[1])
    assert retry.end().ok

    done = output(folder)["completion"].to_pylist()
    assert (done[3], done[5], done[40]) == ("answer 3", "late 5", "answer 40")


def test_who_loses_the_race_for_a_generation_puts_its_rows_on_top(folder: Path) -> None:
    retry = Retry(folder)
    unit = retry.redo.units[0]
    record = retry.redo.record_of(unit)
    raced = False

    def change(newest: CommitRecord, table: pa.Table):
        nonlocal raced
        if not raced:  # another one commits between our reading and our commit
            raced = True
            retry.commit(unit, [3], answer)
        return table, newest.tally

    made = retry.dataset.recommit(record, change, provenance(retry.plan))
    assert made.generation == 2
    retry.dataset.recover(retry.dataset.records().values())

    assert sorted(failing(folder)) == [5, 40, 130]


class TestAKilledRetry:
    def test_leaves_what_readers_saw_until_someone_goes_on(self, folder: Path) -> None:
        before = output(folder)
        retry = Retry(folder)
        retry.work(retry.redo.units[0])
        verdict = verify(retry.dataset.storage)

        assert verdict.ok, verdict.faults
        assert output(folder).equals(before)
        assert any("will be replaced by a newer generation" in note for note in verdict.notes)
        assert any("older than the rows" in note for note in verdict.notes)

    def test_is_gone_on_from(self, folder: Path) -> None:
        first = Retry(folder)
        first.work(first.redo.units[0])
        again = Retry(folder)
        assert [(u.start, u.stop) for u in again.redo.units] == [(128, 140)]
        again.work(again.redo.units[0])

        assert again.end().ok
        assert failing(folder) == {}

    def test_is_made_visible_by_the_next_run(self, folder: Path) -> None:
        retry = Retry(folder)
        retry.work(retry.redo.units[0])
        finish(job_in(folder))
        verdict = verify(retry.dataset.storage)

        assert verdict.ok, verdict.faults
        assert verdict.notes == []
        assert sorted(failing(folder)) == [130]

    def test_whose_new_file_is_damaged_is_found(self, folder: Path) -> None:
        retry = Retry(folder)
        retry.work(retry.redo.units[0])
        [path] = (folder / "out" / ATTEMPTS).glob("*")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        [fault] = verify(retry.dataset.storage).faults

        assert fault.where == f"{ATTEMPTS}/{path.name}"

    def test_half_published_is_whole_again_after_the_next_one(self, folder: Path) -> None:
        """Killed after the file was replaced, before the attempt went."""
        retry = Retry(folder)
        retry.work(retry.redo.units[0])
        record = retry.dataset.newest(retry.redo.record_of(retry.redo.units[0]))
        retry.dataset.storage.publish(record.attempt_path, record.file)
        assert verify(retry.dataset.storage).ok

        again = Retry(folder)
        again.work(again.redo.units[0])
        assert again.end().ok


def test_a_late_commit_of_the_first_generation_changes_nothing(folder: Path) -> None:
    """A worker of the first run wakes up after a retry."""
    retry = Retry(folder)
    unit = retry.redo.units[0]
    for one in retry.redo.units:
        retry.work(one)
    retry.end()
    before = output(folder)
    table = pq.read_table(folder / "out" / unit.file_name)
    retry.dataset.commit(unit, table, retry.redo.record_of(unit).tally, {})
    retry.dataset.recover(retry.dataset.records().values())

    assert output(folder).equals(before)
    assert verify(retry.dataset.storage).ok


def test_a_retry_after_the_last_error_has_nothing_to_do(folder: Path) -> None:
    retry = Retry(folder)
    for unit in retry.redo.units:
        retry.work(unit)
    retry.end()

    assert Retry(folder).redo.units == ()


@quick
@given(
    places=st.sets(st.integers(0, 29)),
    chunks=st.lists(st.integers(1, 29), max_size=4),
)
def test_merging_puts_each_row_in_its_place(places: set[int], chunks: list[int]) -> None:
    cuts = sorted({0, 30, *chunks})
    earlier = pa.concat_tables([rows_of(a, b) for a, b in pairwise(cuts)])
    chosen = sorted(places)
    new = pa.table(
        {"id": [-i for i in chosen], "text": ["new"] * len(chosen)}, schema=earlier.schema
    )
    merged = merge(earlier, new, chosen)

    assert merged["id"].to_pylist() == [-i if i in places else i for i in range(30)]
    assert merged.num_rows == 30


def test_the_tally_after_a_retry_is_that_of_the_rows(folder: Path) -> None:
    retry = Retry(folder)
    unit = retry.redo.units[0]
    retry.work(unit, lambda row: answer(row, fails=lambda row: row == 40))
    record = retry.dataset.newest(retry.redo.record_of(unit))
    manifest = read_manifest(retry.plan.manifest, "manifest")
    counted = count_table(retry.dataset.read_rows(record), manifest)

    for name in ("rows", "failed", "errors", "prompt_tokens", "completion_tokens"):
        assert getattr(record.tally, name) == getattr(counted, name)
    assert sum(record.tally.prompt_lengths.values()) == 128
    assert record.tally.error_examples == {"SchemaNotMet": "no schema in row 3"}
    assert record.tally.error_reasons == {"SchemaNotMet\tno schema in row …": counted.failed}


def test_a_type_of_error_that_is_gone_has_no_example_left(folder: Path) -> None:
    retry = Retry(folder)
    record = retry.redo.record_of(retry.redo.units[1])
    old = retry.dataset.read_rows(record).slice(2, 1)
    new = retry.redo.records[record.unit].tally.__class__(rows=1)

    results = retry.plan.input.columns.results
    assert retally(record.tally, old, new, results).error_examples == {}


def test_labels_and_their_agreement_with_gold_are_counted_as_in_a_first_run() -> None:
    made = job(label={"choices": ["a", "b"], "gold": "gold"})
    inputs = pa.table({"text": list("wxyz"), "gold": ["a", "b", None, "a"]})
    columns = output_columns(made, inputs.schema)
    after = [
        RowResult("a", "a", 0.9, finish_reason="stop", prompt_tokens=5, completion_tokens=1)
        for _ in range(4)
    ]
    error = RowError(RowErrorType.PROMPT_TOO_LONG, "too long")
    before = [after[0], RowResult(error=error, prompt_tokens=900), after[2], RowResult(error=error)]
    redone = pa.concat_tables([inputs.slice(1, 1), inputs.slice(3, 1)])
    old = to_table(redone, [before[1], before[3]], columns)
    new = tally(redone, [after[1], after[3]], columns)

    made_of = retally(tally(inputs, before, columns), old, new, columns.results)
    assert made_of.as_json() == tally(inputs, after, columns).as_json()


def test_scores_are_put_in_their_places(tmp_path: Path) -> None:
    made = job(score={"top_k": 2})
    inputs = pa.table({"text": ["a", "b", "c"]})
    columns = output_columns(made, inputs.schema)
    scores = Scores(
        token_ids=np.array([4, 5], np.int32),
        logprobs=np.array([-1.0, -2.0], np.float32),
        top_ids=np.array([[4, 1], [5, 2]], np.int32),
        top_logprobs=np.array([[-1.0, -3.0], [-2.0, -4.0]], np.float32),
    )
    good = RowResult(scores=scores, prompt_tokens=3)
    error = RowResult(error=RowError(RowErrorType.ENGINE_FAILURE, "it died", 2))
    pq.write_table(to_table(inputs, [good, error, good], columns), tmp_path / "t.parquet")
    earlier = pq.read_table(tmp_path / "t.parquet")
    merged = merge(earlier, to_table(inputs.slice(1, 1), [good], columns), [1])

    assert merged.schema == columns.schema
    assert merged.equals(to_table(inputs, [good] * 3, columns))


class TestOnAnObjectStore:
    def test_a_retry_and_a_changed_input(self, tmp_path: Path, memory: str) -> None:
        write_input(tmp_path / "rows", 140)
        made = job_in(tmp_path, output={"path": memory})
        dataset = finish(made, fails=lambda row: row in FAILED)
        plan = make_plan(check_input(made), fetch=False)
        redo = select(plan.committed, frozenset())
        columns = plan.input.columns
        for unit in redo.units:
            rows = redo.rows_of(unit, dataset)
            results = [answer(unit.start + i) if i in rows else KEPT for i in range(unit.rows)]
            inputs = rows_of(unit.start, unit.stop)
            recommit_rows(dataset, redo, unit, inputs, results, columns, {})
        assert verify(dataset.storage).ok
        pq.write_table(rows_of(900, 910), tmp_path / "rows/0.parquet")
        finish(made)
        verdict = verify(dataset.storage)

        assert verdict.ok, verdict.faults
        assert verdict.notes == []
        ids = [row["id"] for row in dataset.first_rows(999)]
        assert ids == [*range(900, 910), *range(140)]
        assert all(row["error"] is None for row in dataset.first_rows(999))
