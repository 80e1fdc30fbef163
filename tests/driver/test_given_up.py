"""Rows that wait beside a slow engine are given up to another worker, whoever is like them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.engine.load import load_engine
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.output.dataset import Dataset
from pipeline.output.rows.redo import Redone
from pipeline.output.tally import Tally
from pipeline.rows.row_range import RowRange
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import GiveUpRows
from pipeline.worker.worker import work
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import job, write_model

ROWS, SEATS = 100, 4
pytestmark = pytest.mark.usefixtures("large_units")  # all rows are one unit


class Asked:
    """A worker that is asked, at one of its engine's steps, for all but its first rows."""

    def __init__(self, folder: Path, output: Path, *, at_step: int, keep: int) -> None:
        made = job(
            model=str(folder / "model"),
            input={"path": str(folder / "rows.parquet")},
            output={"path": str(output)},
            sampling={"max_tokens": 30},
            engine={"kind": "simulated", "max_num_seqs": SEATS},
        )
        plan = make_plan(check_input(made))
        self.dataset = Dataset(open_storage(made.output.path))
        self.dataset.take_over(plan.manifest)
        coordinator = Coordinator(plan.units, [], {"card": 100.0})
        self.door = NextDoor(coordinator)
        self.answer = 0
        self.waiting = 0

        def load() -> SimulatedEngine:
            engine = load_engine(made, {}, plan.model)
            assert isinstance(engine, SimulatedEngine)
            step = engine.step

            def stepped() -> Any:
                if engine.stats.steps == at_step:
                    self._ask(coordinator, keep)
                return step()

            engine.step = stepped  # type: ignore[method-assign]
            return engine

        work(worker_spec(plan), self.door, load)

    def _ask(self, coordinator: Coordinator, keep: int) -> None:
        source = self.door.source
        assert source is not None
        (unit,) = source.holding
        self.waiting = source.taken
        self.answer = source.give_up(GiveUpRows(unit, keep))
        # the other worker: what it would have committed
        coordinator.gave_up(self.door.name, unit, self.answer)
        theirs = Redone(
            RowRange(unit.shard, self.answer, unit.stop), Tally(rows=unit.stop - self.answer)
        )
        coordinator.commit([theirs])

    @property
    def ids(self) -> list[int]:
        return [row["id"] for row in self.dataset.first_rows(ROWS)]


@pytest.fixture(params=["all differ", "many alike"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Asked]:
    write_model(tmp_path / "model")
    kinds = ROWS if request.param == "all differ" else 7
    texts = [f"text {n % kinds}" for n in range(ROWS)]
    table = pa.table({"id": range(ROWS), "text": texts})
    pq.write_table(table, tmp_path / "rows.parquet")
    return lambda **when: Asked(tmp_path, tmp_path / "out", **when)


def test_rows_that_the_engine_has_not_begun_with_are_given_up(asked: Callable[..., Asked]) -> None:
    done = asked(at_step=3, keep=10)

    assert done.waiting > 10  # they had been taken
    assert 10 <= done.answer < 50
    assert done.ids == list(range(done.answer))


def test_rows_that_the_engine_has_begun_with_are_kept(asked: Callable[..., Asked]) -> None:
    done = asked(at_step=3, keep=0)

    assert done.answer >= SEATS
    assert done.ids == list(range(done.answer))


def test_rows_that_were_given_up_are_not_counted_as_active(asked: Callable[..., Asked]) -> None:
    done = asked(at_step=3, keep=10)

    assert done.door.progress.given_up > 0
    assert done.door.source is not None
    assert done.door.source.active_rows(done.door.progress) == 0
