"""A whole run without Ray, in this process: the real driver and one real worker, between them the
real coordinator, the simulated engine. A fraction of a second, so that hundreds can be run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import Job, job_from
from pipeline.dispatch.events import NoLease
from pipeline.driver import run as driver
from pipeline.driver.coordinator.coordinator import Coordinator, Snapshot
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan.plan import Plan
from pipeline.driver.plan.provenance import provenance
from pipeline.engine.load import load_engine
from pipeline.input.units import part
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.rows.redo import Redone
from pipeline.output.verify.dataset import verify
from pipeline.report.summary import Summary
from pipeline.rows.workload import Lengths
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import Lease
from pipeline.worker.worker import work
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import write_model

_POLL_SECONDS = 0.2
# rackmill as a program: all of it but Ray, which takes many times as long as the rest
ALONE = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pipeline.cli.main import program
from tests.chaos.in_process import without_ray
with without_ray():
    program()
"""
ROWS = (20, 10)  # two units and one; every third row asks what another one asks


def prepare(folder: Path) -> None:
    """Write the input and a model into ``folder``."""
    write_model(folder / "model")
    (folder / "rows").mkdir()
    start = 0
    for number, rows in enumerate(ROWS):
        ids = range(start, start + rows)
        texts = [f"text {i - i % 3 if i % 3 == 1 else i}" for i in ids]
        table = pa.table({"id": list(ids), "text": texts})
        pq.write_table(table, folder / f"rows/shard-{number}.parquet")
        start += rows


def job(folder: Path, output: str) -> Job:
    """Of what ``prepare`` wrote into ``folder``."""
    return job_from(
        {
            "name": "small",
            "model": str(folder / "model"),
            "input": {"path": str(folder / "rows/*.parquet")},
            "prompt": "{text}",
            "sampling": {"max_tokens": 4},
            "output": {"path": output, "keep": ["id"]},
            "engine": {"kind": "simulated"},
        }
    )


@contextmanager
def without_ray() -> Iterator[None]:
    """Whatever is run in this process, its rows go through a worker here."""
    with (
        mock.patch.object(driver, "ClusterInBackground", _NoCluster),
        mock.patch.object(driver, "work_through", _work_through),
    ):
        yield


def run_here(job: Job) -> Summary:
    """As ``pipeline.run``, in this process alone."""
    with without_ray():
        return driver.run(job)


def check(output: str) -> None:
    """Raise AssertionError unless ``output`` is what the job makes."""
    dataset = Dataset(open_storage(output))
    rows = dataset.first_rows(sum(ROWS) + 1)
    assert [row["id"] for row in rows] == list(range(sum(ROWS)))
    assert all(row["completion"] and row["error"] is None for row in rows)
    assert dataset.finished
    state = dataset.state()
    assert sum(r.tally.rows for r in state.commits.values()) == sum(ROWS)
    assert len(state.cuts) == 1
    for folder in ("_rackmill/attempts", "_rackmill/answers"):
        assert dataset.storage.files(folder) == []
    assert verify(dataset.storage).faults == []
    hidden = [path for path, _ in dataset.storage.files("") if path.startswith(".")]
    assert hidden == []


class _NoCluster:
    joins = False

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def start(self) -> None:
        pass

    def __enter__(self) -> _NoCluster:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def ready(self) -> None:
        return None


def _work_through(
    plan: Plan, forecast: Forecast, cluster: None, watcher: Any, known: Lengths | None, *rest: Any
) -> Snapshot:
    spec = worker_spec(plan, provenance=provenance(plan), known_lengths=known)
    done = [record.row_range for record in plan.committed.values()]
    coordinator = Coordinator(plan.units, done, {"card": 1000.0})
    here = _Here(coordinator)
    work(
        spec,
        here,
        lambda: load_engine(plan.job, {}, plan.model),
        lambda facts: coordinator.engine_ready("here", facts),
    )
    return coordinator.snapshot()


class _Here(NextDoor):
    """The coordinator, next door. The first unit is leased in two parts, as if one of them had
    been taken over."""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__(coordinator)
        self._committed = threading.Event()

    def acquire(self) -> Lease | NoLease:
        answer = super().acquire()
        while (
            answer is NoLease.WAIT
        ):  # for the last commits: the feeder would look again much later
            if not self._committed.wait(_POLL_SECONDS):
                return answer
            self._committed.clear()
            answer = super().acquire()
        if not isinstance(answer, Lease):
            return answer
        units = []
        for unit in answer.units:
            if (unit.shard, unit.start) == (0, 0) and unit.whole is None:
                middle = unit.rows // 2
                units += [part(unit, 0, middle), part(unit, middle, unit.stop)]
            else:
                units.append(unit)
        return Lease(tuple(units))

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None:
        super().committed(records)
        self._committed.set()
