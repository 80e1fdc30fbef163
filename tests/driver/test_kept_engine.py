"""A worker that hands its engine on to the next job, in this process and without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.engine.load import load_engine
from pipeline.engine.protocol import Engine
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.errors import EngineFailed
from pipeline.output.dataset import Dataset
from pipeline.storage.base import open_storage
from pipeline.worker.worker import work
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import job, write_model

ROWS = 200


class Bench:
    """Jobs one after the other, on one engine if it was kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: list[Engine] = []
        self.closed = 0
        self.loaded = 0

    def run(
        self, name: str, *, fail_at: int = 0, retire_at: int = 0, grace: float = 0.0, **changes: Any
    ) -> list[str]:
        """The answers that a job gets."""
        made = job(
            model=str(self.folder / "model"),
            input={"path": str(self.folder / "rows.parquet")},
            output={"path": str(self.folder / name)},
            **{"engine": {"kind": "simulated"}} | changes,
        )
        plan = make_plan(check_input(made))
        dataset = Dataset(open_storage(made.output.path))
        dataset.take_over(plan.manifest)
        here = NextDoor(Coordinator(plan.units, (), {"card": 100.0}))

        def load() -> Engine:
            if self.kept:
                engine = self.kept.pop()
            else:
                engine = load_engine(made, {}, plan.model)
                self.loaded += 1
            self._watch(engine, here, fail_at, retire_at, grace)
            return engine

        work(worker_spec(plan), here, load, keep=self.kept.append)
        return [row["completion"] for row in dataset.first_rows(ROWS)]

    def _watch(
        self, engine: Any, here: NextDoor, fail_at: int, retire_at: int, grace: float
    ) -> None:
        step = type(engine).step

        def stepped() -> Any:
            if engine.stats.steps + 1 == fail_at:
                raise EngineFailed("it fell over")
            if engine.stats.steps + 1 == retire_at:
                here.coordinator.retire(here.name, grace)
                assert here.source is not None
                here.source.wind_up(grace)
            return step(engine)

        def close() -> None:
            self.closed += 1

        engine.step, engine.close = stepped, close


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    write_model(tmp_path / "model")
    texts = [f"text {n}" for n in range(ROWS)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet")
    return Bench(tmp_path)


def test_an_engine_is_handed_on_open_when_all_is_done(bench: Bench) -> None:
    assert len(bench.run("one")) == ROWS

    assert (len(bench.kept), bench.closed) == (1, 0)


def test_the_next_job_gets_the_answers_that_a_new_engine_gives(bench: Bench) -> None:
    other = {"prompt": "Another: {text}"}
    bench.run("one")
    bench.kept[0].reset()
    handed_on = bench.run("two", **other)
    bench.kept.clear()

    assert bench.loaded == 1
    assert handed_on == bench.run("three", **other)


@pytest.mark.parametrize("grace", [3600.0, 0.0])
def test_an_engine_whose_card_is_to_be_let_go_is_handed_on_empty(
    bench: Bench, grace: float
) -> None:
    several = {"engine": {"kind": "simulated", "max_num_seqs": 8}}
    done = bench.run("one", retire_at=20, grace=grace, **several)

    assert len(done) < ROWS
    assert bench.closed == 0
    [engine] = bench.kept
    assert isinstance(engine, SimulatedEngine)
    assert not engine._requests


def test_an_engine_that_failed_is_closed_and_not_handed_on(bench: Bench) -> None:
    with pytest.raises(EngineFailed, match="it fell over"):
        bench.run("one", fail_at=5)

    assert (bench.kept, bench.closed) == ([], 1)
