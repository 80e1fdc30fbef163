"""Duplicate rows through a whole worker: feeder, engine loop and writer, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.dataset import ANSWERS, CommitRecord, Dataset
from pipeline.data.plan import check_input, make_plan
from pipeline.data.storage import open_storage
from pipeline.data.tally import Tally
from pipeline.data.units import Unit
from pipeline.engine.load import load_engine
from pipeline.fleet.answer_once import AnswerStage
from pipeline.fleet.work import Lease, Progress, RowSource
from pipeline.fleet.worker import work
from pipeline.schedule.leases import Word
from tests.next_door import worker_spec
from tests.samples import job, write_model

ROWS = 300
DISTINCT = 40


@dataclass
class Alone:
    """A coordinator of one worker."""

    units: list[Unit]
    records: list[CommitRecord] = field(default_factory=list)

    def acquire(self) -> Lease | Word:
        return Lease((self.units.pop(0),)) if self.units else Word.DONE

    def committed(self, records: Sequence[CommitRecord]) -> None:
        self.records += records

    def listen(self, source: RowSource) -> None:
        pass

    def heartbeat(self, progress: Progress) -> None:
        pass

    def announce(self) -> None:
        pass

    def engine_failed(self, why: str, rows: Sequence[tuple[int, int, int]]) -> None:
        pass

    def note(self, line: str) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("duplicates")
    write_model(folder / "model")
    texts = [f"text {n * n % DISTINCT}" for n in range(ROWS)]
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), folder / "rows.parquet")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Runs a job over the rows; the tally of all, and the output."""
    start = AnswerStage.start

    def looked_up(stage: AnswerStage) -> None:
        stage._store.refresh()  # the simulated engine loads in no time
        start(stage)

    monkeypatch.setattr(AnswerStage, "start", looked_up)

    def run(
        output: str, units: slice = slice(None), **changes: Any
    ) -> tuple[Tally, list[dict[str, Any]]]:
        made = job(
            model=str(folder / "model"),
            input={"path": str(folder / "rows.parquet")},
            output={"path": str(tmp_path / output)},
            **{"engine": {"kind": "simulated"}} | changes,
        )
        plan = make_plan(check_input(made))
        dataset = Dataset(open_storage(made.output.path))
        dataset.claim(plan.manifest)
        alone = Alone(list(plan.missing)[units])
        work(worker_spec(plan), alone, lambda: load_engine(made, {}, plan.model))
        total = Tally()
        for record in alone.records:
            total.add(record.tally)
        return total, dataset.first_rows(ROWS)

    return run


@pytest.mark.parametrize("label", [None, {"choices": ["a", "b"]}, {"regex": "[a-c]+"}])
def test_rows_are_the_same_whether_answered_once_or_each(
    run: Callable, label: dict[str, Any] | None
) -> None:
    once, rows = run("once", label=label)
    each, all_computed = run("each", label=label, duplicates={"answer_once": False})

    assert rows == all_computed
    assert [row["id"] for row in rows] == list(range(ROWS))
    distinct = len({row["text"] for row in rows})
    assert (once.duplicates, each.duplicates) == (ROWS - distinct, 0)


def test_jobs_that_share_a_store_compute_nothing_twice(run: Callable, tmp_path: Path) -> None:
    shared = {"duplicates": {"store": str(tmp_path / "store")}}
    first, rows = run("first", **shared)
    second, again = run("second", **shared)

    assert first.duplicates < second.duplicates == ROWS
    assert rows == again
    assert not (tmp_path / "first" / ANSWERS).exists()


def test_a_job_that_goes_on_uses_the_answers_it_has(run: Callable) -> None:
    first, _ = run("out", slice(1))
    rest, rows = run("out")

    assert 0 < first.rows < ROWS
    assert first.rows + rest.rows == len(rows) == ROWS
    assert rest.duplicates == rest.rows  # all texts had been there
