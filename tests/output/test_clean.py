"""`clean` takes what nobody needs, and never what a record names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import UsageError
from pipeline.errors import AlreadyRunning
from pipeline.output.clean import find_litter, summed_up
from pipeline.output.commit.records import ANSWERS, ATTEMPTS, COMMITS, RUNS
from pipeline.output.dataset import Dataset
from pipeline.output.runs.run_registry import RunRecord, own_process, this_machine
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, commit_unit, finish, job_in, write_input


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A finished dataset."""
    write_input(tmp_path / "rows", 140)
    return finish(job_in(tmp_path), fails=lambda row: row == 3)


@pytest.fixture
def out(tmp_path: Path, dataset: Dataset) -> Path:
    return tmp_path / "out"


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")


def litter(dataset: Dataset) -> set[str]:
    return {one.path for one in find_litter(dataset)}


def test_a_finished_dataset_has_none(dataset: Dataset) -> None:
    assert find_litter(dataset) == []


@pytest.mark.parametrize(
    "path",
    [
        f"{ATTEMPTS}/abc-def.parquet",
        f"{ATTEMPTS}/abc.3-def.parquet",
        f"{ANSWERS}/abc-def.parquet",
        ".00000-000000000000.parquet.0123456789ab",
        f"{COMMITS}/.abc.json.0123456789ab",
        "_rackmill/.manifest.json.0123456789ab",
    ],
)
def test_what_came_to_nothing_is_found_and_removed(path: str, dataset: Dataset, out: Path) -> None:
    put(out / path)
    found = find_litter(dataset)
    assert [(one.path, one.size) for one in found] == [(path, 5)]

    dataset.delete_all(one.path for one in found)
    assert not (out / path).exists()
    assert verify(dataset.storage).ok


@pytest.mark.parametrize("path", [".hidden", "_mine", "notes.txt", "_rackmill/notes.txt"])
def test_files_that_rackmill_did_not_write_stay(path: str, dataset: Dataset, out: Path) -> None:
    put(out / path)

    assert find_litter(dataset) == []


def test_an_attempt_that_waits_to_be_published_stays(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 140)
    plan, dataset = begin(job_in(tmp_path))
    record = commit_unit(plan, dataset, plan.units[0])
    dataset.storage.write(
        record.attempt_path,
        lambda path: path.write_bytes(dataset.storage.read(record.file) or b""),
    )
    dataset.storage.delete(record.file)

    assert find_litter(dataset) == []


def test_answers_of_a_job_that_goes_on_stay(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 140)
    _, dataset = begin(job_in(tmp_path))
    put(tmp_path / "out" / ANSWERS / "abc-def.parquet")

    assert find_litter(dataset) == []


def run_record(name: str, started: float, state: str) -> RunRecord:
    pid, since = own_process()
    return RunRecord(name, "here", this_machine(), pid, since, started, started, state)


def test_records_of_runs_go_but_for_the_last(dataset: Dataset) -> None:
    for number in range(3):
        record = run_record(f"r{number}", float(number), "ended")
        dataset.storage.replace(record.path, record.encode())

    assert litter(dataset) == {f"{RUNS}/r0.json", f"{RUNS}/r1.json"}


def test_nothing_is_touched_while_a_run_is_at_work(dataset: Dataset, out: Path) -> None:
    put(out / ATTEMPTS / "abc-def.parquet")
    record = run_record("r", 1.0, "running")
    dataset.storage.replace(record.path, record.encode())

    with pytest.raises(AlreadyRunning):
        find_litter(dataset)


def test_a_folder_that_is_not_rackmills_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output of rackmill"):
        find_litter(Dataset(open_storage(str(tmp_path))))


def test_what_was_found_is_summed_up_by_kind(dataset: Dataset, out: Path) -> None:
    put(out / ATTEMPTS / "abc-def.parquet")
    put(out / ATTEMPTS / "abc-dee.parquet")

    assert summed_up(find_litter(dataset)) == {"abandoned attempts": (2, 10)}
