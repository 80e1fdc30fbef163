"""The stage before the engine, by itself: what it hands on, and how it ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.driver.plan import Plan, check_input, make_plan
from pipeline.model.tokenizer import Tokenizer
from pipeline.worker.feeder import Feeder
from tests.datasets import job_in, write_input
from tests.next_door import AllLeased, worker_spec

_PATIENCE_SECONDS = 60.0


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    write_input(tmp_path / "rows", 8)
    return make_plan(check_input(job_in(tmp_path)), fetch=False)


def test_input_that_cannot_be_read_is_never_taken_for_its_end(plan: Plan) -> None:
    feeder = Feeder(worker_spec(plan), Tokenizer(plan.model.path), AllLeased(plan.units), [].append)
    Path(plan.input.files.shards[0].path).unlink()
    failed, noted = threading.Event(), threading.Event()
    feed = feeder._stage._work

    def feed_and_wait() -> None:
        try:
            feed()
        finally:
            failed.set()
            noted.wait(_PATIENCE_SECONDS)

    feeder._stage._work = feed_and_wait
    feeder.start()
    assert failed.wait(_PATIENCE_SECONDS)

    assert not feeder.exhausted
    noted.set()
    feeder._stage.join()
    with pytest.raises(Exception, match=r"a\.parquet"):
        _ = feeder.exhausted
