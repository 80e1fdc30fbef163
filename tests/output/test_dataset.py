"""The output folder: one result per unit, whatever was interrupted when."""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline import JobFailed, UsageError
from pipeline.input.units import Unit
from pipeline.output.commit import records as layout
from pipeline.output.commit.records import CommitRecord, decode
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.storage.base import Storage
from pipeline.storage.local import LocalStorage

FIRST, SECOND = Unit("first", 0, 0, 2), Unit("second", 0, 2, 4)
MANIFEST = {"fingerprint": "f1", "parts": {"prompt": "a", "model": "m", "rows": 4}}
PROVENANCE = {"model": "gemma", "fingerprint": "f1"}


def rows(*values: int) -> pa.Table:
    return pa.table({"n": list(values)})


def commit(dataset: Dataset, unit: Unit, *values: int) -> CommitRecord:
    return dataset.commit(unit, rows(*values), Tally(rows=len(values)), PROVENANCE)


def visible(storage: Storage) -> list[str]:
    return [path for path, _ in storage.files("") if path.endswith(".parquet")]


def crash_before_publishing(dataset: Dataset, unit: Unit, *values: int) -> CommitRecord:
    """What is left when a worker dies right after its commit record was created."""
    sizes: list[int] = []

    def write(path: Path) -> None:
        pq.write_table(rows(*values), path)
        sizes.append(path.stat().st_size)

    path = f"{layout.ATTEMPTS}/{unit.id}-a1.parquet"
    dataset.storage.write(path, write)
    record = CommitRecord(unit.id, "a1", unit.file_name, sizes[0], "0" * 64, Tally(rows=2))
    dataset.storage.create(f"{layout.COMMITS}/{unit.id}.json", record.encode())
    return record


@pytest.fixture
def dataset(storage: Storage) -> Dataset:
    made = Dataset(storage)
    made.take_over(MANIFEST)
    return made


def test_a_commit_makes_the_rows_visible_under_the_units_name(dataset: Dataset) -> None:
    commit(dataset, FIRST, 1, 2)

    assert visible(dataset.storage) == [FIRST.file_name]
    assert dataset.first_rows(9) == [{"n": 1}, {"n": 2}]


def test_a_commit_record_describes_the_file(dataset: Dataset) -> None:
    record = commit(dataset, FIRST, 1, 2)

    assert dict(dataset.storage.files(""))[record.file] == record.size
    assert dataset.records() == {"first": record}
    assert record.tally.rows == 2


def test_a_commit_leaves_no_attempt(dataset: Dataset) -> None:
    commit(dataset, FIRST, 1, 2)

    assert dataset.storage.files(layout.ATTEMPTS) == []


def test_a_second_commit_of_a_unit_returns_the_first_ones_record(dataset: Dataset) -> None:
    first = commit(dataset, FIRST, 1, 2)

    assert commit(dataset, FIRST, 8, 9) == first


def test_a_second_commit_of_a_unit_leaves_the_first_ones_rows_and_nothing_else(
    dataset: Dataset,
) -> None:
    commit(dataset, FIRST, 1, 2)
    commit(dataset, FIRST, 8, 9)

    assert visible(dataset.storage) == [FIRST.file_name]
    assert dataset.first_rows(9) == [{"n": 1}, {"n": 2}]
    assert dataset.storage.files(layout.ATTEMPTS) == []


def test_files_name_what_they_came_from(tmp_path: Path) -> None:
    record = commit(Dataset(LocalStorage(tmp_path)), FIRST, 1, 2)

    assert pq.read_schema(tmp_path / record.file).metadata[b"rackmill.model"] == b"gemma"


def test_a_commit_record_survives_its_file() -> None:
    tally = Tally(rows=3, failed=1, prompt_tokens=9)
    tally.prompt_lengths[16] = 2
    tally.confusion["good\tbad"] = 1
    record = CommitRecord("u", "a", FIRST.file_name, 5, "s", tally)

    assert decode(record.encode()) == record


class TestRecovery:
    def test_a_unit_committed_but_not_visible_becomes_visible(self, dataset: Dataset) -> None:
        record = crash_before_publishing(dataset, FIRST, 1, 2)
        assert visible(dataset.storage) == []

        dataset.recover([record])
        assert dataset.first_rows(9) == [{"n": 1}, {"n": 2}]
        assert dataset.storage.files(layout.ATTEMPTS) == []

    def test_another_worker_does_not_overrule_such_a_unit(self, dataset: Dataset) -> None:
        record = crash_before_publishing(dataset, FIRST, 1, 2)

        assert commit(dataset, FIRST, 8, 9) == record
        dataset.recover(dataset.records().values())
        assert dataset.first_rows(9) == [{"n": 1}, {"n": 2}]

    def test_a_crash_between_publishing_and_sweeping_does_no_harm(self, dataset: Dataset) -> None:
        record = crash_before_publishing(dataset, FIRST, 1, 2)
        dataset.storage.publish(record.attempt_path, record.file)

        dataset.recover([record])
        assert dataset.first_rows(9) == [{"n": 1}, {"n": 2}]

    def test_recovering_again_changes_nothing(self, dataset: Dataset) -> None:
        records = [commit(dataset, FIRST, 1, 2), commit(dataset, SECOND, 3, 4)]
        before = dataset.storage.files("")

        dataset.recover(records)
        dataset.recover(records)
        assert dataset.storage.files("") == before

    def test_a_committed_file_that_is_gone_fails_the_job(self, dataset: Dataset) -> None:
        record = commit(dataset, FIRST, 1, 2)
        dataset.storage.delete(record.file)

        with pytest.raises(JobFailed, match="was committed, but is gone") as caught:
            dataset.recover([record])
        assert "commits/first.json" in caught.value.hints[0]

    def test_a_committed_file_of_another_size_fails_the_job(self, dataset: Dataset) -> None:
        record = commit(dataset, FIRST, 1, 2)
        dataset.storage.replace(record.file, b"something else")

        with pytest.raises(JobFailed, match="another size"):
            dataset.recover([record])

    def test_the_last_whole_copy_of_a_unit_is_never_deleted(self, dataset: Dataset) -> None:
        """Something else lies under the final name, and the attempt is still there."""
        record = crash_before_publishing(dataset, FIRST, 1, 2)
        dataset.storage.replace(record.file, b"something else")

        with contextlib.suppress(JobFailed):
            dataset.recover([record])
        copies = (dataset.storage.read(p) or b"" for p in (record.file, record.attempt_path))
        assert record.size in [len(copy) for copy in copies]

    def test_a_damaged_commit_record_fails_the_job_by_name(self, dataset: Dataset) -> None:
        dataset.storage.create(f"{layout.COMMITS}/first.json", b'{"unit": "fir')

        with pytest.raises(JobFailed, match=r"first\.json is damaged"):
            dataset.records()

    def test_a_record_half_written_under_a_temporary_name_is_no_record(
        self, tmp_path: Path
    ) -> None:
        dataset = Dataset(LocalStorage(tmp_path))
        commit(dataset, FIRST, 1, 2)
        (tmp_path / layout.COMMITS / ".second.json.0123").write_bytes(b"{")

        assert set(dataset.records()) == {"first"}


class TestOwnership:
    def test_a_new_folder_is_anyones(self, storage: Storage) -> None:
        Dataset(storage).check(MANIFEST)

        assert Dataset(storage).manifest() is None

    def test_a_job_finds_its_own_folder_again(self, dataset: Dataset) -> None:
        dataset.take_over(MANIFEST)
        dataset.check(MANIFEST)

        assert dataset.manifest() == MANIFEST

    def test_a_folder_of_another_job_is_refused_with_what_changed(self, dataset: Dataset) -> None:
        other = {"fingerprint": "f2", "parts": {"prompt": "b", "model": "m", "sampling": {}}}

        for ask in (dataset.check, dataset.take_over):
            with pytest.raises(UsageError, match="prompt, rows, sampling changed") as caught:
                ask(other)
            assert "--fresh" in str(caught.value)

    def test_a_folder_with_files_of_no_job_is_refused(self, storage: Storage) -> None:
        storage.replace("mine.parquet", b"precious")

        with pytest.raises(UsageError, match="already holds files"):
            Dataset(storage).check(MANIFEST)

    def test_a_folder_with_files_of_no_job_further_down_is_refused(self, storage: Storage) -> None:
        """Readers of the folder would read them too."""
        storage.replace("year=2024/mine.parquet", b"precious")

        with pytest.raises(UsageError, match="already holds files"):
            Dataset(storage).check(MANIFEST)

    def test_a_damaged_manifest_is_refused(self, storage: Storage) -> None:
        storage.replace(layout.MANIFEST, b'{"finger')

        with pytest.raises(UsageError, match="is damaged"):
            Dataset(storage).check(MANIFEST)


class TestStartingOver:
    def test_everything_of_the_job_is_forgotten(self, dataset: Dataset) -> None:
        commit(dataset, FIRST, 1, 2)
        crash_before_publishing(dataset, SECOND, 3, 4)
        dataset.finish({}, "# report")

        dataset.clear()
        assert dataset.manifest() is None
        assert (dataset.records(), dataset.finished) == ({}, False)
        for folder in ("", layout.STATE, layout.COMMITS, layout.ATTEMPTS):
            assert dataset.storage.files(folder) == []

    def test_a_folder_that_is_not_there_is_cleared(self, storage: Storage) -> None:
        Dataset(storage).clear()

    @pytest.mark.parametrize("name", ["mine.parquet", "notes.txt"])
    def test_a_folder_with_files_of_no_job_is_left_as_it_is(
        self, dataset: Dataset, name: str
    ) -> None:
        record = commit(dataset, FIRST, 1, 2)
        dataset.storage.replace(name, b"precious")

        with pytest.raises(UsageError, match="not rackmill's to delete"):
            dataset.clear()
        assert dataset.storage.read(name) == b"precious"
        assert dataset.records() == {"first": record}

    @pytest.mark.parametrize("name", [".gitkeep", "_metadata"])
    def test_a_hidden_file_that_rackmill_did_not_write_stays(
        self, dataset: Dataset, name: str
    ) -> None:
        dataset.storage.replace(name, b"precious")
        with contextlib.suppress(UsageError):
            dataset.clear()

        assert dataset.storage.read(name) == b"precious"


class TestTakingBack:
    def test_a_discarded_unit_has_neither_rows_nor_record(self, dataset: Dataset) -> None:
        kept = commit(dataset, FIRST, 1, 2)
        dataset.discard(commit(dataset, SECOND, 3, 4))

        assert dataset.records() == {"first": kept}
        assert visible(dataset.storage) == [FIRST.file_name]

    def test_a_larger_unit_takes_the_place_of_a_discarded_one(self, dataset: Dataset) -> None:
        dataset.discard(commit(dataset, Unit("short", 0, 0, 1), 1))
        commit(dataset, FIRST, 1, 2)

        assert dataset.first_rows(9) == [{"n": 1}, {"n": 2}]

    def test_a_reopened_dataset_is_not_finished(self, dataset: Dataset) -> None:
        dataset.finish({}, "# report")
        dataset.reopen()

        assert not dataset.finished


class TestOpening:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        dataset = Dataset(LocalStorage(tmp_path))
        dataset.take_over(MANIFEST)
        commit(dataset, SECOND, 3, 4)
        commit(dataset, FIRST, 1, 2)
        crash_before_publishing(dataset, Unit("third", 0, 4, 6), 5, 6)
        dataset.storage.write(f"{layout.ATTEMPTS}/x-{secrets.token_hex(2)}.parquet", _garbage)
        return tmp_path

    def test_pyarrow_reads_the_committed_rows_in_input_order(self, folder: Path) -> None:
        table = pyarrow.dataset.dataset(folder, format="parquet").to_table()

        assert table.column("n").to_pylist() == [1, 2, 3, 4]

    def test_pandas_reads_the_committed_rows_in_input_order(self, folder: Path) -> None:
        assert pd.read_parquet(folder)["n"].tolist() == [1, 2, 3, 4]

    def test_the_first_rows_are_the_inputs_first(self, folder: Path) -> None:
        assert Dataset(LocalStorage(folder)).first_rows(3) == [{"n": 1}, {"n": 2}, {"n": 3}]

    def test_a_finished_folder_still_opens_and_has_no_attempts(self, folder: Path) -> None:
        dataset = Dataset(LocalStorage(folder))
        dataset.recover(dataset.records().values())
        dataset.finish({"name": "né"}, "# report")

        assert pd.read_parquet(folder)["n"].tolist() == [1, 2, 3, 4, 5, 6]
        assert dataset.storage.files(layout.ATTEMPTS) == []


def _garbage(path: Path) -> None:
    path.write_bytes(b"half a file")


def test_finishing_writes_summary_report_and_marker(dataset: Dataset) -> None:
    assert not dataset.finished
    dataset.finish({"name": "né"}, "# report")

    assert dataset.finished
    assert json.loads(dataset.storage.read(layout.SUMMARY) or b"") == {"name": "né"}
    assert dataset.storage.read(layout.REPORT) == b"# report"
