"""The driver's sign of life, and its ear for those who want it to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.driver.background import heartbeat as alive
from pipeline.driver.background.heartbeat import Heartbeat
from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.stop.stop import Stop
from pipeline.engine.machine.card_reading import CardReading, Slowed
from pipeline.engine.machine.vitals import Vitals
from pipeline.errors import CommitFailed, JobFailed, Stopped, StorageFailed
from pipeline.output.commit.records import CANCEL
from pipeline.output.runs.run_log import new_run
from pipeline.output.runs.run_registry import CancelRequest, Life, RunRecord, read_runs
from pipeline.output.tally import Tally
from pipeline.storage.base import Storage, open_storage
from pipeline.worker.coordination.messages import Progress

# all that a heartbeat asks of a plan: 40 of 100 rows are there
PLAN: Any = SimpleNamespace(
    reused=Tally(rows=40),
    input=SimpleNamespace(rows=100),
    job=SimpleNamespace(
        faults=SimpleNamespace(grace_seconds=30.0), resources=SimpleNamespace(when=None)
    ),
)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "BEAT_SECONDS", 0.02)


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    address = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    return open_storage(address, patience_seconds=0)


def only(storage: Storage) -> RunRecord:
    [record] = read_runs(storage)
    return record


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_beats_and_says_how_far_the_run_is(storage: Storage) -> None:
    done = Snapshot(2, 1, Tally(rows=20), {"a": Progress(rows=25, first_step=1.0)}, {})
    with Heartbeat(storage, PLAN, Stop(), new_run()) as heartbeat:
        first = only(storage)
        assert (first.life(), first.state, first.rows, first.rows_done) == (
            Life.ALIVE,
            "running",
            100,
            40,
        )
        heartbeat.progress(done, PLAN)
        wait_for(lambda: only(storage).rows_done == 60)
        assert only(storage).beat > first.beat

    assert (only(storage).state, only(storage).rows_done) == ("ended", 100)


def test_rows_that_fail_before_any_engine_sees_them_are_told(storage: Storage) -> None:
    worker = Progress(rows=5, failed=1, errors={"InvalidRow": 7, "Timeout": 1}, first_step=1.0)
    with Heartbeat(storage, PLAN, Stop(), new_run()) as heartbeat:
        heartbeat.progress(Snapshot(2, 1, Tally(), {"a": worker}, {}), PLAN)
        wait_for(lambda: only(storage).failed == 8)


def test_it_says_what_the_run_waits_for_and_how_its_cards_are(storage: Storage) -> None:
    cards = (CardReading(0, watts=240.0, celsius=93, slowed=(Slowed.HEAT,)),)
    now = Snapshot(
        2, 1, Tally(), {}, {}, vitals={"a": Vitals(0, 1, cards)}, present=frozenset({"a"})
    )
    with Heartbeat(storage, PLAN, Stop(), new_run()) as heartbeat:
        heartbeat.waiting("until 23:00")
        wait_for(lambda: only(storage).waiting == "until 23:00")
        heartbeat.waiting("")
        heartbeat.progress(now, PLAN)
        wait_for(lambda: only(storage).waiting == "" and only(storage).watts == 240.0)

        assert (only(storage).celsius, only(storage).slowed) == (93, 1)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Stopped("so be it"), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (JobFailed("no"), "failed"),
    ],
)
def test_it_says_how_the_run_ended(error: BaseException, state: str, storage: Storage) -> None:
    with suppress(type(error)), Heartbeat(storage, PLAN, Stop(), new_run()) as heartbeat:
        heartbeat.committed(70)
        raise error

    record = only(storage)
    assert (record.life(), record.state, record.rows_done) == (Life.ENDED, state, 70)
    assert record.message == str(error)


def test_it_says_what_failed_also_of_a_file_whose_name_is_no_text(storage: Storage) -> None:
    with suppress(JobFailed), Heartbeat(storage, PLAN, Stop(), new_run()):
        raise JobFailed("caf\udce9.parquet cannot be read")

    assert only(storage).message == "caf\\udce9.parquet cannot be read"


def test_it_hears_that_the_run_shall_stop(storage: Storage) -> None:
    stop = Stop()
    with Heartbeat(storage, PLAN, stop, new_run()):
        storage.replace(CANCEL, CancelRequest(time.time(), 3.0).encode())
        wait_for(lambda: stop.asked)
        wait_for(lambda: only(storage).state == "stopping")

    assert (stop.grace(30.0), stop.by) == (3.0, "rackmill stop")
    assert storage.read(CANCEL) is None


def test_what_was_meant_for_an_earlier_run_is_forgotten(storage: Storage) -> None:
    storage.replace(CANCEL, CancelRequest(1.0).encode())
    stop = Stop()
    with Heartbeat(storage, PLAN, stop, new_run()):
        assert storage.read(CANCEL) is None

    assert not stop.asked


def test_records_of_runs_that_are_no_more_make_room(storage: Storage) -> None:
    for _ in range(3):
        with Heartbeat(storage, PLAN, Stop(), new_run()):
            pass

    assert len(read_runs(storage)) == 1


def test_storage_that_fails_does_not_end_a_run(tmp_path: Path) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            def fail(*arguments: Any) -> Any:
                raise (CommitFailed if name == "replace" else StorageFailed)("the disk is gone")

            return fail

    stop = Stop()
    with Heartbeat(Failing(), PLAN, stop, new_run()) as heartbeat:  # type: ignore[arg-type]
        time.sleep(0.1)
        heartbeat.committed(50)

    assert not stop.asked
