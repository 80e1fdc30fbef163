"""The names that rows' seeds are made of: one for every way in which a job comes to be run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import Job
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.loop import absolute_shards
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.driver.retry import RetryOptions, find_job
from pipeline.driver.run import RunOptions
from pipeline.job.file.load import job_from
from pipeline.output.dataset import Dataset
from pipeline.output.growing.growing import GrowingDataset
from pipeline.output.runs.job_file import job_content
from pipeline.prompt.seed import row_seed
from pipeline.service.scheduler import run_once
from pipeline.worker.coordination.messages import WorkerSpec
from pipeline.worker.open_unit import ReadyRow
from tests.support.datasets import begin, commit_unit, job_in, write_input
from tests.support.next_door import AllLeased, new_feeder, worker_spec

Lay = Callable[[Path], str]


def _folder(place: Path) -> str:
    write_input(place / "rows", 3, 2)
    return "rows"


def _linked_folder(place: Path) -> str:
    write_input(place / "disk/large", 3, 2)
    (place / "rows").symlink_to(place / "disk/large")
    return "rows/*.parquet"


def _linked_files(place: Path) -> str:
    """As a download of the Hugging Face hub lies in its cache."""
    write_input(place / "fetched", 3, 2)
    (place / "blobs").mkdir()
    (place / "rows").mkdir()
    for name in ("a", "b"):
        (place / f"fetched/{name}.parquet").rename(place / f"blobs/{name}0123")
        (place / f"rows/{name}.parquet").symlink_to(f"../blobs/{name}0123")
    return "rows"


def names(plan: Plan) -> list[str]:
    return [shard.name for shard in plan.input.files.shards]


def plan_of(job: Job) -> Plan:
    return make_plan(check_input(job), fetch=False)


@pytest.fixture(params=[_folder, _linked_folder, _linked_files])
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    lay: Lay = request.param
    monkeypatch.chdir(tmp_path)
    sampling = {"temperature": 1.0, "seed": 7}
    return job_in(tmp_path, input={"path": lay(tmp_path)}, sampling=sampling)


def test_links_are_not_followed_by_run_submit_or_retry(made: Job) -> None:
    asked_again = job_from(job_content(made))

    assert names(plan_of(made)) == ["0/a.parquet", "0/b.parquet"]
    assert names(plan_of(asked_again)) == names(plan_of(made))


def test_a_worker_in_any_folder_draws_with_the_seeds_of_these_names(
    made: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(made)
    spec = replace(worker_spec(plan), shards=absolute_shards(plan))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    seeds = [[row.prompt.sampling.seed for row in _rows(spec, plan, shard)] for shard in range(2)]

    assert seeds == [
        [row_seed(7, ("0/a.parquet", row)) for row in range(3)],
        [row_seed(7, ("0/b.parquet", row)) for row in range(2)],
    ]


def _rows(spec: WorkerSpec, plan: Plan, shard: int) -> list[ReadyRow]:
    units = [unit for unit in plan.units if unit.shard == shard]
    feeder = new_feeder(spec, AllLeased(units))
    feeder.stage.start()
    found = []
    while not feeder.exhausted:
        row = feeder.take(wait_seconds=0.1)
        found += [row] if row is not None else []
    return found


def test_a_schedules_runs_and_their_retry_name_files_as_the_job_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def work(job: Job, options: RunOptions, *_: Any) -> Any:
        plan, dataset = begin(job, files=options.files)
        seen.append(names(plan))
        for unit in plan.missing:
            commit_unit(plan, dataset, unit)
        return conclude(plan, dataset, RunOutcome(), time.time())

    monkeypatch.setattr(run_once, "run", work)
    monkeypatch.setattr(run_once, "_SECOND_LOOK_SECONDS", 0.0)
    made = job_in(tmp_path)
    for day, folder in enumerate(("monday", "tuesday"), 24):
        write_input(tmp_path / "rows" / folder, 2)
        run_once.run_once(made, datetime(2026, 11, day, tzinfo=UTC))

    assert seen == [["0/monday/a.parquet"], ["0/tuesday/a.parquet"]]
    for run, then in zip(GrowingDataset(made.output.path).published(), seen, strict=True):
        found = find_job(Dataset(run.storage), run.storage.address(), RetryOptions())
        assert names(plan_of(found)) == then


def test_a_new_file_never_has_the_name_of_one_whose_rows_were_drawn(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_input(tmp_path / folder, 2 if folder == "first" else 3)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    begin(job_in(tmp_path, input={"path": [first]}))

    later = plan_of(job_in(tmp_path, input={"path": [second, first]}))

    assert names(later) == [f"{second}/a.parquet", "0/a.parquet"]
