"""Packs save requests; what counts are the records."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.output.commit.packed_records import RecordPacker
from pipeline.output.commit.records import COMMITS, PACKS, CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.storage.local import LocalStorage
from pipeline.storage.object_store import ObjectStorage

UNITS = 250


class Versioned(ObjectStorage):
    """Memory that lists versions, as S3 does, and counts what is read."""

    read_paths = 0

    def versions(self, folder: str) -> dict[str, str]:
        paths = self.names(folder)
        contents = super().read_many(paths)
        return {path: str(hash(content)) for path, content in zip(paths, contents, strict=True)}

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        self.read_paths += len(paths)
        return super().read_many(paths)


def record(number: int, rows: int = 2, generation: int = 0) -> CommitRecord:
    file = f"00000-{number * 2:012d}.parquet"
    return CommitRecord(f"u{number}", "a", file, 1, "0", Tally(rows=rows), generation)


@pytest.fixture
def storage(memory: str) -> Versioned:
    storage = Versioned(memory)
    for number in range(UNITS):
        storage.replace(record(number).path, record(number).encode())
    return storage


def test_packed_records_are_read_at_once(storage: Versioned) -> None:
    before = Dataset(storage).state()
    assert RecordPacker(storage).pack() == UNITS
    storage.read_paths = 0

    assert Dataset(storage).state() == before
    assert len(before.commits) == UNITS
    assert storage.read_paths == 1


def test_what_is_packed_is_not_packed_again(storage: Versioned) -> None:
    packer = RecordPacker(storage)

    assert [packer.pack(), packer.pack(), RecordPacker(storage).pack()] == [UNITS, 0, 0]
    assert len(storage.files(PACKS)) == 1


def test_a_few_records_are_not_worth_a_pack(storage: Versioned) -> None:
    packer = RecordPacker(storage)
    packer.pack()
    storage.replace(record(UNITS).path, record(UNITS).encode())

    assert packer.pack() == 0
    assert len(Dataset(storage).state().commits) == UNITS + 1


def test_a_record_that_changed_since_counts_as_it_is(storage: Versioned) -> None:
    RecordPacker(storage).pack()
    storage.replace(record(7).path, record(7, rows=1).encode())
    storage.replace(record(8, generation=1).path, record(8, 1, generation=1).encode())

    commits = Dataset(storage).state().commits
    assert (commits["u7"].tally.rows, commits["u8"].generation) == (1, 1)


def test_a_record_that_was_removed_is_gone(storage: Versioned) -> None:
    RecordPacker(storage).pack()
    storage.delete(record(7).path)

    assert "u7" not in Dataset(storage).state().commits


@pytest.mark.parametrize("content", [b"", b"nonsense", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_damaged_pack_does_no_harm(content: bytes, storage: Versioned) -> None:
    RecordPacker(storage).pack()
    [(path, _)] = storage.files(PACKS)
    storage.replace(path, content)

    assert len(Dataset(storage).state().commits) == UNITS


def test_starting_over_removes_packs(storage: Versioned) -> None:
    RecordPacker(storage).pack()
    Dataset(storage).clear()

    assert storage.files(PACKS) == storage.files(COMMITS) == []


def test_on_a_disk_there_are_none(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    for number in range(UNITS):
        storage.replace(record(number).path, record(number).encode())

    assert RecordPacker(storage).pack() == 0
    assert len(Dataset(storage).state().commits) == UNITS
