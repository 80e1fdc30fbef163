"""The stage before the engine, by itself: what it hands on, and how it ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.worker.open_unit import OpenUnit
from tests.support.datasets import job_in, write_input
from tests.support.next_door import AllLeased, new_feeder, worker_spec

_PATIENCE_SECONDS = 60.0


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    write_input(tmp_path / "rows", 8)
    return make_plan(check_input(job_in(tmp_path)), fetch=False)


def test_input_that_cannot_be_read_is_never_taken_for_its_end(plan: Plan) -> None:
    feeder = new_feeder(worker_spec(plan), AllLeased(plan.units))
    Path(plan.input.files.shards[0].path).unlink()
    failed, noted = threading.Event(), threading.Event()
    feed = feeder.stage._work

    def feed_and_wait() -> None:
        try:
            feed()
        finally:
            failed.set()
            noted.wait(_PATIENCE_SECONDS)

    feeder.stage._work = feed_and_wait
    feeder.stage.start()
    assert failed.wait(_PATIENCE_SECONDS)

    assert not feeder.exhausted
    noted.set()
    feeder.stage.join()
    with pytest.raises(Exception, match=r"a\.parquet"):
        _ = feeder.exhausted


def test_a_row_that_the_engine_begins_with_while_the_run_is_stopped_stays(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeder = new_feeder(worker_spec(plan), AllLeased(plan.units))
    feeder.stage.start()
    feeder.stage.join()
    row = feeder.take()
    assert row is not None
    begun: list[bool] = []
    engine = threading.Thread(target=lambda: begun.append(feeder.begin(row)))
    looked = OpenUnit.begun_or_done.fget
    assert looked is not None

    def look_and_let_the_engine_begin(opened: OpenUnit) -> int:
        seen = looked(opened)
        engine.start()
        engine.join(0.2)
        return int(seen)

    monkeypatch.setattr(OpenUnit, "begun_or_done", property(look_and_let_the_engine_begin))
    feeder.wind_up(30)
    engine.join()

    assert begun == [row.row < row.unit.unit.rows]
