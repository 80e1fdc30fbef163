"""Jobs that leave out the first rows of single files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver.plan.plan import check_input
from pipeline.errors import UsageError
from pipeline.output.verify.dataset import verify
from tests.support.datasets import finish, ids_in, job_in, write_input

pytestmark = pytest.mark.usefixtures("large_units")


def test_rows_that_are_left_out_have_no_result_and_are_not_missed(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 300, 200)
    path = str(tmp_path / "rows")
    job = job_in(tmp_path, input={"path": path, "skip_rows": {f"{path}/a.parquet": 250}})
    assert check_input(job).rows == 250

    dataset = finish(job)
    assert ids_in(tmp_path / "out") == list(range(250, 500))
    assert verify(dataset.storage).faults == []
    assert check_input(job, rows=60).rows == 60


def test_all_rows_of_a_file_may_be_left_out(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 30, 20)
    path = str(tmp_path / "rows")
    finish(job_in(tmp_path, input={"path": path, "skip_rows": {f"{path}/a.parquet": 30}}))
    assert ids_in(tmp_path / "out") == list(range(30, 50))


@pytest.mark.parametrize(
    ("skipped", "word"), [({"c.parquet": 1}, "is not one of"), ({"a.parquet": 31}, "has 30 rows")]
)
def test_what_is_not_there_cannot_be_left_out(
    tmp_path: Path, skipped: dict[str, int], word: str
) -> None:
    write_input(tmp_path / "rows", 30)
    path = str(tmp_path / "rows")
    named = {f"{path}/{name}": rows for name, rows in skipped.items()}
    with pytest.raises(UsageError, match=word):
        check_input(job_in(tmp_path, input={"path": path, "skip_rows": named}))
