"""Two runs on one output at the same time: neither takes from under the other what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.output.clean import find_litter
from pipeline.output.commit.records import ATTEMPTS, COMMITS, CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import Storage, open_storage
from tests.support.datasets import begin, commit_unit, finish, ids_in, job_in, write_input


class Interrupted:
    """A storage that does something else right before, or after, an operation is called for the
    first time."""

    def __init__(
        self, inner: Storage, name: str, what: Callable[[], Any], *, after: bool = False
    ) -> None:
        self._inner, self._name, self._what, self._after = inner, name, what, after
        self.done = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name != self._name or self.done:
            return method

        def call(*arguments: Any) -> Any:
            self.done = True
            if not self._after:
                self._what()
            result = method(*arguments)
            if self._after:
                self._what()
            return result

        return call


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two units, nothing done; the folder is claimed."""
    write_input(tmp_path / "rows", 140)
    return begin(job_in(tmp_path))[0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def open_output(plan: Plan) -> Storage:
    return open_storage(plan.job.output.path)


def whole(plan: Plan) -> list[int]:
    verdict = verify(open_output(plan))
    assert verdict.ok, verdict.faults
    return ids_in(Path(plan.job.output.path))


@pytest.mark.parametrize(
    ("operation", "after"), [("write", False), ("write", True), ("create", True), ("publish", True)]
)
def test_another_run_ends_while_a_worker_commits(
    operation: str, after: bool, plan: Plan, tmp_path: Path
) -> None:
    """It finds the unit missing or committed, as it may be, does what is left, and sweeps up."""
    storage = Interrupted(
        open_output(plan), operation, lambda: finish(job_in(tmp_path)), after=after
    )
    record = commit_unit(plan, Dataset(storage), plan.units[0])

    assert storage.done
    assert record == Dataset(open_output(plan)).records()[plan.units[0].id]
    assert whole(plan) == list(range(140))


def test_an_attempt_that_is_swept_up_while_it_is_written_was_not_needed(
    plan: Plan, tmp_path: Path, out: Path
) -> None:
    """The file vanishes under the writer's hands, for the other run has the unit already."""

    def sweep() -> None:
        finish(job_in(tmp_path))
        for path in (out / ATTEMPTS).glob("*"):
            path.unlink()

    class Vanishing(Interrupted):
        def __getattr__(self, name: str) -> Any:
            if name != "write" or self.done:
                return getattr(self._inner, name)

            def write(path: str, writer: Callable[[Path], None]) -> None:
                self.done = True

                def interrupted(local: Path) -> None:
                    writer(local)
                    sweep()

                self._inner.write(path, interrupted)

            return write

    storage = Vanishing(open_output(plan), "write", sweep)
    commit_unit(plan, Dataset(storage), plan.units[0])

    assert storage.done
    assert whole(plan) == list(range(140))


def test_an_attempt_that_is_swept_up_right_before_its_commit_is_written_again(
    plan: Plan, tmp_path: Path, out: Path
) -> None:
    """Nothing was known of the unit then, and no run seemed alive."""

    def clean() -> None:
        dataset = Dataset(open_output(plan))
        found = find_litter(dataset)
        assert len(found) == 1
        dataset.delete_all(one.path for one in found)

    storage = Interrupted(open_output(plan), "create", clean)
    record = commit_unit(plan, Dataset(storage), plan.units[0])

    assert storage.done
    assert (out / record.file).stat().st_size == record.size
    finish(job_in(tmp_path))
    assert whole(plan) == list(range(140))


def test_an_attempt_that_another_run_is_writing_is_left_by_the_end_of_a_retry(
    plan: Plan, tmp_path: Path, out: Path
) -> None:
    """The next generation of a unit, not committed yet."""
    finish(job_in(tmp_path), fails=lambda row: row == 3)
    attempt = out / ATTEMPTS / f"{plan.units[0].id}.1-ab.parquet"
    attempt.write_bytes(b"being written")
    again = make_plan(check_input(job_in(tmp_path)), fetch=False)
    dataset = Dataset(open_output(plan))
    dataset.reopen()
    conclude(again, dataset, RunOutcome(), time.time())

    assert attempt.exists()


def test_both_claim_a_new_folder_and_both_may_work(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 140)
    first, one = begin(job_in(tmp_path))
    second, other = begin(job_in(tmp_path))
    records: list[CommitRecord] = []
    for plan, dataset in ((first, one), (second, other)):
        records += [commit_unit(plan, dataset, unit) for unit in plan.units]
    for plan, dataset in ((first, one), (second, other)):
        conclude(plan, dataset, RunOutcome(), time.time())

    assert records[:2] == records[2:]
    assert whole(first) == list(range(140))


def test_no_temporary_is_left_when_a_run_ends(plan: Plan, tmp_path: Path, out: Path) -> None:
    for name in (f".{plan.units[0].file_name}.0123456789ab", f"{COMMITS}/.ab.json.0123456789ab"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"half")
    finish(job_in(tmp_path))

    assert [p for p in out.rglob(".*") if p.is_file()] == []
