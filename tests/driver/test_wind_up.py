"""A worker of a run that stops: what its engine is at is finished, the front is committed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import check_input, make_plan, sort_out
from pipeline.engine.load import load_engine
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.rows.work_order import unit_rows
from pipeline.storage.base import open_storage
from pipeline.worker.worker import work
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import job, write_model

ROWS = 700
UNIT = unit_rows(ROWS)
_JOB: dict[str, Any] = {
    "sampling": {"max_tokens": 60},
    "engine": {"kind": "simulated", "max_num_seqs": 40, "simulated": {"output_tokens": 30}},
}
_LONG, _NO_TIME = 3600.0, 0.0  # seconds of grace


@dataclass
class Stopped:
    """One run that was stopped after some steps of its engine."""

    ids: list[int]  # of the rows that a reader sees
    flying: int  # requests in the engine when it was stopped
    steps: int  # of the engine, in all
    records: list[CommitRecord] = field(default_factory=list)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wind-up")
    write_model(folder / "model")
    texts = [f"text {n}" for n in range(ROWS)]
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), folder / "rows.parquet")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Callable[..., Stopped]:
    """Runs a job, on the same output each time; is told to stop at a step of the engine."""

    def run(stop_at: int | None = None, grace: float = _LONG, **changes: Any) -> Stopped:
        made = job(
            model=str(folder / "model"),
            input={"path": str(folder / "rows.parquet")},
            output={"path": str(tmp_path / "out")},
            **_JOB | changes,
        )
        plan = make_plan(check_input(made))
        dataset = Dataset(open_storage(made.output.path))
        dataset.take_over(plan.manifest)
        done = [record.row_range for record in plan.committed.values()]
        here = NextDoor(Coordinator(plan.units, done, {"card": 100.0}))
        outcome = Stopped([], 0, 0)

        def load() -> SimulatedEngine:
            engine = load_engine(made, {}, plan.model)
            assert isinstance(engine, SimulatedEngine)
            step, count = engine.step, itertools.count(1)

            def stepped() -> Any:
                outcome.steps = next(count)
                if outcome.steps == stop_at:
                    outcome.flying = len(engine._requests)
                    here.coordinator.stop(grace)
                    assert here.source is not None
                    here.source.wind_up(grace)
                return step()

            engine.step = stepped  # type: ignore[method-assign]
            return engine

        work(worker_spec(plan), here, load)
        table = dataset.first_rows(ROWS)
        outcome.ids = [row["id"] for row in table]
        outcome.records = here.records
        records, _ = sort_out(plan.input, dataset.state())
        assert sum(record.tally.rows for record in records.values()) == len(outcome.ids)
        return outcome

    return run


def fronts(ids: list[int]) -> list[int]:
    """As many rows of each unit as ``ids`` has of it, from the unit's first one on."""
    rows = Counter(row // UNIT for row in ids)
    return [UNIT * unit + row for unit, number in rows.items() for row in range(number)]


def test_what_is_in_flight_is_finished_and_committed(run: Callable[..., Stopped]) -> None:
    stopped = run(stop_at=100)

    assert 0 < stopped.flying <= 40
    assert stopped.ids == fronts(stopped.ids)
    assert 40 < len(stopped.ids) < ROWS
    # the longest answer that can have begun at that step, and holes before it
    assert stopped.steps <= 100 + 2 * 60


def test_without_any_time_the_finished_front_is_committed(run: Callable[..., Stopped]) -> None:
    stopped = run(stop_at=100, grace=_NO_TIME)

    assert stopped.steps == 100
    assert stopped.ids == fronts(stopped.ids)
    assert 0 < len(stopped.ids) < ROWS - 40


def test_nothing_is_committed_where_nothing_was_finished(run: Callable[..., Stopped]) -> None:
    assert run(stop_at=1, grace=_NO_TIME).ids == []


def test_a_run_that_was_stopped_goes_on_where_it_was(run: Callable[..., Stopped]) -> None:
    first = run(stop_at=100)
    second = run(stop_at=60, grace=_NO_TIME)
    last = run()

    assert last.ids == list(range(ROWS))
    assert len(first.ids) < len(second.ids) < ROWS
    rows = [sum(r.tally.rows for r in one.records) for one in (first, second, last)]
    assert rows[0] == len(first.ids)
    assert sum(rows) == ROWS  # nothing was done twice


def test_rows_of_several_requests_are_finished_too(run: Callable[..., Stopped]) -> None:
    several = {"label": {"choices": ["a", "bb", "a bb"]}, "sampling": {"temperature": 0}}
    stopped = run(stop_at=5, **several)

    assert stopped.ids == fronts(stopped.ids)
    assert 0 < len(stopped.ids) < ROWS
    assert run(**several).ids == list(range(ROWS))
